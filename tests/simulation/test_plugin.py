"""The plugin: marked tests run once for each seed, and say how to see a failure again."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path("src").resolve()
TESTS = """
import asyncio
import pytest
from reprise.testing import Delay

seeds = []

@pytest.mark.simulate(seeds=7, faults=[Delay()], within=100_000)
async def test_all(world):
    await asyncio.sleep(86_400)
    seeds.append(world.seed)

def test_which():
    assert seeds == {which}

class TestMethods:
    @pytest.mark.simulate(seeds=2)
    @pytest.mark.parametrize("n", [1, 2])
    async def test_method(self, world, n, tmp_path):
        assert world.seed < 2 and tmp_path.exists()

@pytest.mark.simulate(seeds=5)
async def test_fails(world):
    assert world.seed != 3
"""


def pytest_says(folder: Path, *options: str, which: str) -> str:
    (folder / "test_it.py").write_text(TESTS.replace("{which}", which))
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "reprise.testing.plugin",
            "-p",
            "no:cacheprovider",
            *options,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_each_seed_once_and_the_one_command_that_shows_a_failure_again(tmp_path):
    said = pytest_says(tmp_path, which="list(range(7))")
    assert "1 failed, 4 passed" in said
    assert "The same again: pytest 'test_it.py::test_fails' --simulate-seed=3" in said


def test_one_seed_only(tmp_path):
    said = pytest_says(tmp_path, "--simulate-seed=3", "-k", "all or which or fails", which="[3]")
    assert "1 failed, 2 passed" in said


def test_so_many_seeds_from_one_on(tmp_path):
    said = pytest_says(
        tmp_path, "--simulate-seeds=2", "--simulate-from=10", "-k", "all or which or fails", which="[10, 11]"
    )
    assert "3 passed" in said


def test_the_plugin_loads_nothing_of_the_engine():
    code = "import sys, reprise.testing.plugin; print([m for m in sys.modules if m.startswith('reprise.runtime')])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
