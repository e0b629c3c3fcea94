"""``@pytest.mark.simulate`` and ``--simulate-seed``, beside pytest-asyncio and without it, in functions and classes."""

import os
import re
import subprocess
import sys

import pytest

TEST = """
import asyncio
import pytest
from reprise.testing import Delay

@pytest.mark.simulate(seeds=3, faults=[Delay()])
async def test_function(world, tmp_path):
    await asyncio.sleep(60)
    print(f"seed {world.seed} at {world.loop.time():g} in {tmp_path.name[:4]}")

class Test:
    @pytest.mark.simulate(seeds=3)
    @pytest.mark.parametrize("word", ["a"])
    async def test_method(self, word, world):
        print(f"seed {world.seed}")
        assert world.seed < 2 or word == "b"
"""


@pytest.mark.parametrize(
    "beside", [[], ["-p", "pytest_asyncio.plugin", "--asyncio-mode=auto"]], ids=["alone", "asyncio"]
)
def test_marked_tests_run_under_seeds(tmp_path, beside):
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "reprise.testing.plugin", *beside]
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    more = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **more)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert re.findall(r"^seed (\d) at 60 in test$", done.stdout, re.MULTILINE) == ["0", "1", "2"]
    again = re.search(
        r"The same again: pytest '(test_it.py::Test::test_method\[a\])' (--simulate-seed=2)", done.stdout
    )
    assert again is not None, done.stdout
    said = subprocess.run([*command, again[1], again[2]], check=False, **more).stdout
    assert re.findall(r"^seed (\d)$", said, re.MULTILINE) == ["2"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("@pytest.mark.simulate()\ndef test_it(world): ...", "a simulated test is a coroutine function"),
        ("@pytest.mark.simulate()\nasync def test_it(): ...", "write async def test_it(world)"),
        ("@pytest.mark.simulate(7)\nasync def test_it(world): ...", "write @pytest.mark.simulate(seeds=7)"),
        (
            "@pytest.mark.simulate(seed=7)\nasync def test_it(world): ...",
            "has no 'seed'. Did you mean 'seeds'?",
        ),
        ("@pytest.mark.simulate(seeds=0)\nasync def test_it(world): ...", "seeds is 0; it is how many"),
    ],
    ids=["plain", "no world", "positional", "unknown", "none"],
)
def test_what_cannot_be_simulated_is_said(tmp_path, written, says):
    (tmp_path / "test_it.py").write_text(f"import pytest\n{written}\n")
    command = [sys.executable, "-m", "pytest", "-p", "reprise.testing.plugin"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "test_it.py::test_it: " in done.stderr, done.stderr
    assert says in done.stderr
