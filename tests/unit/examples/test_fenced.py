"""The example of locks: who stood still past its time writes nothing."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "locks" / "fenced.py"


def test_the_sleepers_write_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "the sleeper's write was refused"
    assert "was lost" in lines[1]
    assert lines[2] == "the report is by who had the lock"
