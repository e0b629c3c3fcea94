"""The example of plugins: found, asked, changed, and asked about again."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugins" / "ask.py"


def test_it_is_asked_until_it_changes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "weather 1.0.0 is active; may: nothing beside returning something" in done.stdout
    assert "warm in June: ['Southbay']" in done.stdout
    assert "after a change, installed: False" in done.stdout
    assert "climate.csv changed" in done.stdout
    assert done.stdout.endswith("once somebody trusts it again: True\n")
