"""The example of MCP: a client that knows nothing of Reprise loses its server, and gets the result of the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")
EXAMPLE = Path(__file__).parents[3] / "examples" / "mcp" / "assistant.py"


def test_the_run_goes_on_without_its_server_and_nothing_is_paid_twice():
    root = str(Path(sys.modules["reprise"].__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the same task, of another process: {'result': '3 roses on the way'}" in done.stdout
    assert "asked: Really 50 tulips?" in done.stdout
    assert done.stdout.splitlines()[-1].count("paid 3 roses") == 1
