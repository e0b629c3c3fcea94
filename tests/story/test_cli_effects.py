"""Effects on the command line: seen, resolved by a person, undone; and the example that shows them."""

import json
from pathlib import Path

FLOW = """
from pathlib import Path
from reprise import Undo, step, workflow

@step(effect="charge")
async def charge(n: int) -> int:
    with Path("charged").open("a") as file:
        file.write(f"{n}\\n")
    if not Path("network").exists():
        raise ConnectionError("the line went dead")
    return n

@workflow
async def shop(n: int = 7) -> int:
    return await charge(n)
"""
TRIP = Path(__file__).parents[2] / "examples" / "trip" / "flow.py"


def in_doubt(shell):
    (shell.folder / "shop.py").write_text(FLOW)
    done = shell("run", "shop.py", "--id", "one")
    assert done.returncode == 1
    assert "effect 'charge'" in done.stderr
    assert "the line went dead" in done.stderr
    (effect,) = json.loads(shell.inside("effects", "one", "-o", "json").stdout)
    assert (effect["state"], effect["effect"]) == ("open", "charge")
    return effect["key"]


def charged(shell):
    return (shell.folder / "charged").read_text().split()


def test_a_person_says_that_it_happened(shell):
    key = in_doubt(shell)
    told = shell.inside("effects", "one", "resolve", key, "--done", "70")
    assert told.returncode == 0, told.stderr
    assert "reprise resume one" in told.stderr
    assert shell("resume", "one").stdout == "70\n"
    assert charged(shell) == ["7"]
    table = shell.inside("effects", "one").stdout
    assert "charge" in table
    assert "done" in table


def test_a_person_says_that_it_did_not(shell):
    key = in_doubt(shell)
    (shell.folder / "network").touch()
    assert shell.inside("effects", "one", "resolve", key, "--not-done").returncode == 0
    assert shell("resume", "one").stdout == "7\n"
    assert charged(shell) == ["7", "7"]


def test_what_is_no_answer_is_refused(shell):
    key = in_doubt(shell)
    for wrong in ([], ["--done", "1", "--not-done"]):
        done = shell.inside("effects", "one", "resolve", key, *wrong)
        assert done.returncode == 2
        assert "--done VALUE or --not-done" in done.stderr
    done = shell.inside("effects", "one", "resolve", "other", "--not-done")
    assert done.returncode != 0
    assert key in done.stderr


def test_the_trip_of_the_examples(shell):
    done = shell("run", str(TRIP), "-i", "name=rome", "-i", "purse=900", "--id", "rome")
    assert done.stdout == '"receipt-rome"\n', done.stderr
    done = shell("run", str(TRIP), "-i", "name=oslo", "-i", "purse=100", "--id", "oslo")
    assert done.returncode == 1
    assert "the card refuses 500" in done.stderr
    undone = json.loads(shell.inside("effects", "oslo", "-o", "json").stdout)
    assert [effect["undo"] for effect in undone] == ["undone"] * 3
    shown = shell.inside("events", "oslo").stdout
    assert "undo_done" in shown
    assert "flight, key flight-oslo" in shown
    assert shell.inside("effects", "rome").returncode == 0
    none = shell("run", "flow.py:squares", "--id", "two")
    assert none.returncode == 0
    assert "no steps with effect=" in shell.inside("effects", "two").stderr


def test_cancel_can_be_forced(shell):
    in_doubt(shell)
    done = shell.inside("cancel", "one", "--force", "--reason", "enough")
    assert done.returncode == 0, done.stderr
    assert "cancelled" in shell("resume", "one").stderr
