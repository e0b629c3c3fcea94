"""What faces left behind, by the real command: chains and parallel executors that failed are tried again, sagas are shown."""

import json
import subprocess
import sys

import pytest

FLOW = """
from pathlib import Path
from reprise import AgentChain, AggregationStrategy, ParallelExecutor

def ask(agent, task):
    with Path("marks").open("a") as file:
        file.write(f"{agent}: {task}".splitlines()[0] + "\\n")
    if agent.startswith("bank") and not Path("bank").exists():
        raise ValueError("the bank is closed")
    return f"{agent} of {task}"

chain = AgentChain("transfer", "ada").then("clerk").then(
    "bank", validate=lambda answer: Path("stamp").exists() or "no stamp"
).then("archive")
vote = ParallelExecutor(1, AggregationStrategy.THRESHOLD, 3, name="vote")
for agent in ("ann", "bank-1", "bob", "bank-2"):
    vote.create_task(agent, "tea", id=agent)
transfer, votes = chain.flow(ask), vote.flow(ask)
"""


START = """
import asyncio, sys
from faces import ask, chain, vote
from reprise import Reprise

async def main(id):
    async with Reprise() as app:
        face = {"transfer": chain, "vote": vote}[id]
        result = await face.execute(ask, app=app, id=id, tags={"reprise.file": "faces.py"})
        print(result.status)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def faces(shell):
    (shell.folder / "faces.py").write_text(FLOW)
    (shell.folder / "start.py").write_text(START)
    (shell.folder / ".reprise").mkdir()
    return shell


def executed(faces, id):
    command = [sys.executable, "start.py", id]
    done = subprocess.run(
        command, cwd=faces.folder, env=faces.environment, check=True, capture_output=True, text=True
    )
    marks = faces.marks()
    (faces.folder / "marks").unlink()
    return done.stdout.strip(), marks


def test_a_chain_goes_on_at_the_link_that_failed_and_begins_one_anew_that_was_refused(faces):
    assert executed(faces, "transfer") == ("failed", ["clerk: ada", "bank: clerk of ada"])
    (faces.folder / "bank").touch()
    refused = faces("retry", "transfer")
    assert refused.returncode == 1, refused.stderr
    assert "was refused 3 times, at last: no stamp" in refused.stderr
    assert len(faces.marks()) == 3
    assert faces.marks()[0] == "bank: clerk of ada"
    (faces.folder / "marks").unlink()
    (faces.folder / "stamp").touch()
    done = faces("retry", "transfer~2")
    assert (done.returncode, done.stdout) == (0, '"archive of bank of clerk of ada"\n'), done.stderr
    assert faces.marks() == ["bank: clerk of ada", "archive: bank of clerk of ada"]


def test_a_parallel_executor_asks_only_those_again_that_failed(faces):
    status, marks = executed(faces, "vote")
    assert (status, marks) == ("failed", ["ann: tea", "bank-1: tea", "bob: tea", "bank-2: tea"])
    looked = faces.inside("retry", "vote", "--dry-run")
    assert "2 steps kept, again: bank-1, bank-2" in " ".join((looked.stdout + looked.stderr).split())
    (faces.folder / "bank").touch()
    done = faces("retry", "vote")
    assert done.returncode == 0, done.stderr
    assert faces.marks() == ["bank-1: tea"]


SAGA = """
import asyncio, sys
from reprise import Reprise, SagaOrchestrator, StepRefused

def serve(action, payload):
    wish = payload["input"]["wish"]
    if action == "pay" and wish != "good":
        raise StepRefused("card declined")
    if action == "cancel_room" and wish == "help":
        raise ValueError("the hotel does not answer")
    return action

async def main():
    saga = SagaOrchestrator(services={"all": serve})
    steps = [{"step": n, "service": "all", "compensation": f"cancel_{n}"} for n in ("flight", "room")]
    await saga.define_saga("trip", [*steps, {"step": "pay", "service": "all", "backoff": 0}])
    async with Reprise() as app:
        for wish in ("good", "declined", "help"):
            await saga.execute("trip", {"wish": wish}, app=app, id=wish)

asyncio.run(main())
"""


def test_a_saga_is_shown_with_what_was_done_and_undone(faces):
    (faces.folder / "trip.py").write_text(SAGA)
    subprocess.run([sys.executable, "trip.py"], cwd=faces.folder, env=faces.environment, check=True)

    def steps(id):
        shown = faces.inside("show", id)
        rows = shown.stdout[shown.stdout.index("STEP") :].splitlines()[1:]
        return [" ".join(row.split()) for row in rows], shown

    rows, shown = steps("declined")
    for row, says in zip(rows, ("flight done, undone", "room done, undone", "pay failed"), strict=True):
        assert row.startswith(f"{says} ")
    assert "undone at +" in rows[0]
    assert "reprise retry declined --fresh" in shown.stderr
    rows, shown = steps("help")
    assert ("NOT undone" in rows[1], "the hotel does not answer" in rows[1]) == (True, True)
    assert "reprise effects help" in shown.stderr
    rows, _ = steps("good")
    assert [row.split()[:2] for row in rows] == [["flight", "done"], ["room", "done"], ["pay", "done"]]
    facts = json.loads(faces.inside("show", "help", "-o", "json").stdout)["steps"]
    assert [(fact["name"], fact["undo"]) for fact in facts] == [
        ("flight", "undone"), ("room", "not undone"), ("pay", None),
    ]  # fmt: skip
