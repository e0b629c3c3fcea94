"""``@pytest.mark.crash_points`` and ``--crash-points``, in a pytest of its own."""

import os
import re
import subprocess
import sys

import pytest

FLOW = """
from reprise import step, workflow, current_step
from reprise.testing import EffectsLedger

bank = EffectsLedger()

@step
async def pay(amount: int) -> str:
    return bank.do("pay", amount, key=KEY and current_step().idempotency_key, answer="paid")

@workflow
async def order(amount: int) -> list[str]:
    return [await pay(amount) for _ in range(6)]

KEY = True
"""
TEST = """
import pytest
import flow

class Test:
    @pytest.mark.crash_points(flow.order, 3, effects=flow.bank)
    @pytest.mark.parametrize("count", [6])
    def test_order(self, point, count):
        print(f"at {point.number}:{point.when}")
        assert point.result == ["paid"] * count
"""
ASYNC = """
import pytest
import flow

@pytest.mark.crash_points(flow.order, 3)
async def test_order(point):
    pass
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "test_flow.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nstrict_markers = true\n")
    return tmp_path


def run(folder, *options):
    command = [sys.executable, "-m", "pytest", "-p", "reprise.testing.plugin", "-rP", *options]
    path = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def points(said):
    return re.findall(r"^at (\d+:\w+)$", said, re.MULTILINE)


def test_a_few_points_all_or_one(project):
    code, said = run(project)
    assert code == 0, said
    assert len(points(said)) == 11
    code, said = run(project, "--crash-points")
    assert code == 0, said
    assert len(points(said)) >= 17
    code, said = run(project, "--crash-points=3:after")
    assert (code, points(said)) == (0, ["3:after"])


def test_a_failure_says_how_to_see_it_again(project):
    (project / "flow.py").write_text(FLOW.replace("KEY = True", "KEY = ''"))
    code, said = run(project, "--crash-points")
    assert code == 1
    assert "pay(3) happened 7 times; undisturbed 6" in said
    again = re.search(r"The same again: pytest '(test_flow.py::.*)' --crash-points=(\d+:\w+)", said)
    assert again is not None, said
    code, said = run(project, again[1], f"--crash-points={again[2]}")
    assert (code, "pay(3) happened 7 times" in said) == (1, True)


def test_an_async_test_is_refused(project):
    (project / "test_flow.py").write_text(ASYNC)
    code, said = run(project)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "test_order is async; a test of crash points is a plain function" in said


def test_nothing_of_reprise_is_loaded_by_the_plugin():
    program = (
        "import sys, reprise.testing.plugin; print([m for m in sys.modules if m.startswith('reprise.')])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "['reprise.testing', 'reprise.testing.crash_plugin', 'reprise.testing.plugin']\n"
