"""The pet store is used through tools that were discovered, over a real connection."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_what_the_page_shows_is_what_happens():
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples/petstore/main.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / "examples/petstore/README.md").read_text()
    shown = re.search(r"\$ python examples/petstore/main.py\n(.*?)```", page, re.DOTALL)
    assert done.stdout == shown[1]
