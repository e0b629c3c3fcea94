"""Benches never rot: each runs once."""

import subprocess
import sys
from pathlib import Path

import pytest
from bench.__main__ import ASKED_FOR, main, names


@pytest.mark.parametrize("name", [name for name in names() if name not in ASKED_FOR])
def test_bench_runs(name):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bench", name, "--once"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"== {name}" in done.stdout


def test_unknown_bench_is_refused_with_the_names_there_are(capsys):
    assert main(["startup", "nonsense"]) == 2
    assert "no bench named nonsense; there are " in capsys.readouterr().err
