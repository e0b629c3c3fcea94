"""Benches never rot: each runs once."""

import json
import math
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bench.__main__ import ASKED_FOR, main, names
from bench.measure.report import Floors


@pytest.mark.timeout(180)
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


def test_results_are_written_with_what_they_were_measured_on(tmp_path, capsys):
    file = tmp_path / "new" / "plan.json"
    assert main(["plan", "--once", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["versions"]["SQLite"] == sqlite3.sqlite_version
    assert found["machine"]["processors"] == os.cpu_count()
    assert found["limits"]["before"]["bare_sync_us"] > 0
    [figure] = [one for one in found["figures"] if one["bench"] == "plan"]
    assert (figure["unit"], figure["sense"], figure["kept"], figure["goal"]) == ("s", "<=", True, None)
    assert found["seconds"].keys() == {"plan"}


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="it can be drawn here")
def test_a_plot_without_matplotlib_says_where_it_is(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("REPRISE_PEERS_PYTHON", raising=False)
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["plot", str(tmp_path / "none.json")]) == 1
    assert "make bench-peers installs it" in capfd.readouterr().err


def test_a_goal_that_is_not_reached_fails_no_bench(capsys):
    floors = Floors()
    floors.most("one", 5, 10, unit="s", goal=1)
    floors.least("two", 5, None, goal=1)
    floors.print()
    assert floors.kept
    said = capsys.readouterr().out.splitlines()
    assert [line.split() for line in said[2:]] == [
        ["one", "5.00", "s", "<=", "10", "kept", "<=", "1", "not", "yet"],
        ["two", "5.0", ">=", "1", "reached"],
    ]


def test_a_floor_that_could_not_be_measured_is_not_kept():
    floors = Floors()
    floors.most("one", math.nan, 10)
    assert not floors.kept


def test_unknown_bench_is_refused_with_the_names_there_are(capsys):
    assert main(["startup", "nonsense"]) == 2
    assert "no bench named nonsense; there are " in capsys.readouterr().err
