"""``reprise fork``, ``replay``, ``diff``, ``show --at``: what was, what if, and how the two differ."""

import json

import pytest
from tests.story.conftest import Shell

FLOW = """
from dataclasses import dataclass
from pathlib import Path
from reprise import step, wait_for_signal, workflow

@dataclass
class Price:
    cents: int

def mark(text):
    with Path("marks").open("a") as file:
        file.write(text + "\\n")

@step
async def price(item: str) -> Price:
    mark(f"price {item}")
    return Price(100)

@step(effect="charge")
async def charge(cents: int) -> str:
    mark(f"charge {cents}")
    return f"paid {cents}"

@workflow
async def order(item: str, note: str = "") -> str:
    cost = await price(item)
    return await charge(cost.cents) + note

@workflow
async def asks(item: str) -> str:
    cost = await price(item)
    return f"{cost.cents} {await wait_for_signal('go', str)}"
"""


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("ordered"))
    (shell.folder / "shop.py").write_text(FLOW)
    assert shell("run", "shop.py:order", "-i", "item=tea", "--id", "order-7").returncode == 0
    assert shell("run", "shop.py:asks", "-i", "item=tea", "--id", "open", "--timeout", "0.5").returncode == 5
    yield shell
    shell.stop()


def marks(shell):
    return (shell.folder / "marks").read_text().splitlines()


def test_a_run_is_shown_as_it_was(ordered):
    shown = ordered.inside("show", "order-7", "--at", "3")
    assert shown.stdout.splitlines()[0].split() == ["order", "order-7", "▸", "running"]
    assert "charge [:2.charge]" in shown.stdout
    fact = json.loads(ordered.inside("show", "order-7", "--at", "3", "-o", "json").stdout)
    assert (fact["status"], fact["result"], [one["value"] for one in fact["ended"]]) == (
        "running",
        None,
        [{"cents": 100}],
    )
    assert [one["key"] for one in fact["waiting"]] == [":2.charge"]
    gone = ordered.inside("show", "order-7", "--at", "99")
    assert (gone.returncode, "hint: See them: reprise events order-7" in gone.stderr) == (3, True)


def test_a_fork_says_what_it_begins_with_and_goes_on_here(ordered):
    before = len(marks(ordered))
    dry = ordered.inside("fork", "order-7", "--edit", 'price={"cents": 7}', "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "1 steps kept, 1 of them edited (price)" in dry.stderr
    assert "may happen once more: effect charge of step charge" in dry.stderr
    assert len(json.loads(ordered.inside("ps", "-o", "json").stdout)) == 2
    done = ordered("fork", "order-7", "--edit", 'price={"cents": 7}', "--id", "cheap")
    assert (done.returncode, json.loads(done.stdout)) == (0, "paid 7")
    assert marks(ordered)[before:] == ["charge 7"]
    assert "may happen once more" in done.stderr
    shown = ordered.inside("show", "cheap").stdout
    assert "fork of" in shown
    assert "edited, as a fork of order-7" in shown
    assert "from record 3, edited: :1.price" in ordered.inside("events", "cheap").stdout
    again = ordered("fork", "order-7", "--edit", 'price={"cents": 7}', "--id", "cheap")
    assert (json.loads(again.stdout), len(marks(ordered))) == ("paid 7", before + 1)


def test_another_input_is_given_by_name_and_from_where(ordered):
    done = ordered("fork", "order-7", "--at", "charge", "-i", "note=!")
    assert json.loads(done.stdout) == "paid 100!"
    assert "shared with" not in done.stderr
    wrong = ordered("fork", "order-7", "-i", "nte=!")
    assert (wrong.returncode, "Did you mean 'note'?" in wrong.stderr) == (2, True)


def test_a_detached_fork_is_left_to_a_worker_with_values_as_they_are(ordered):
    made = ordered.inside("fork", "order-7", "--edit", "price=5", "--detach", "-o", "json")
    fact = json.loads(made.stdout)
    assert (fact["run"], fact["kept"], fact["edited"], fact["again"]) == (
        "order-7",
        1,
        [":1.price"],
        ["charge"],
    )
    assert json.loads(ordered.inside("show", fact["id"], "-o", "json").stdout)["status"] == "pending"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--edit", "prise=1"], 3, "Did you mean 'price'?"),
        (["--edit", "price"], 2, "STEP=JSON"),
        (["--edit", 'charge="x"', "--at", "price"], 7, "after the fork leaves it"),
        (["--pinned"], 7, "no build that has a name"),
    ],
)
def test_what_cannot_be_forked_says_why(ordered, options, code, said):
    refused = ordered.inside("fork", "order-7", "--detach", *options)
    assert (refused.returncode, said in refused.stderr) == (code, True), refused.stderr


def test_a_replay_prints_steps_and_variables_and_does_nothing(ordered):
    before = marks(ordered)
    seen = ordered("replay", "order-7", "--break", "charge", "--break", "nothing")
    assert seen.returncode == 0
    assert "cost = Price(cents=100)" in seen.stdout
    assert "shop.py:27 in order   return await charge(cost.cents) + note" in seen.stdout
    assert "The body did not come to nothing." in seen.stdout
    assert '✓ reached record 6: completed "paid 100"' in seen.stdout
    until = json.loads(ordered("replay", "order-7", "--until", "3", "-o", "json").stdout)
    assert (until["verdict"], until["waits"]["steps"], until["scenes"][0]["variables"]["item"]) == (
        "reached",
        {"charge": 1},
        "'tea'",
    )
    assert "… waits for signal go" in ordered("replay", "open").stdout
    assert marks(ordered) == before


def test_other_code_diverges_with_both_sides_and_the_code_1(ordered):
    changed = FLOW.replace("await charge(cost.cents) + note", "await charge(cost.cents + 1) + note")
    (ordered.folder / "other.py").write_text(changed)
    seen = ordered("replay", "order-7", "--file", "other.py")
    assert seen.returncode == 1
    assert "✗ diverges" in seen.stdout
    assert 'log   record 5 step_completed :2.charge "paid 100"' in seen.stdout
    assert "code  other.py:27  return await charge(cost.cents + 1) + note" in seen.stdout


def test_two_runs_are_compared(ordered):
    fork = ordered("fork", "order-7", "--edit", 'price={"cents": 9}', "--id", "nine")
    assert fork.returncode == 0
    seen = ordered.inside("diff", "order-7", "nine")
    assert "They part after 0 records:" in seen.stdout
    rows = [line.split()[:3] for line in seen.stdout.splitlines()]
    assert ["price", "[:1.price]", "value"] in rows
    assert "0 steps are alike, 2 differ." in seen.stderr
    fact = json.loads(ordered.inside("diff", "order-7", "nine", "-o", "json").stdout)
    assert (fact["same"], fact["same_input"], [one["b"]["value"] for one in fact["differing"]]) == (
        False,
        True,
        [{"cents": 9}, "paid 9"],
    )
    assert "The two runs are the same." in ordered.inside("diff", "nine", "nine").stderr


# ---------------------------------------------------------------- checkpoints


def test_moments_are_named_listed_and_gone_back_to(ordered):
    assert "reprise checkpoint add order-7 NAME" in ordered.inside("checkpoint", "list", "order-7").stderr
    added = ordered("checkpoint", "add", "order-7", "priced", "--at", "3")
    assert (added.returncode, added.stdout) == (0, "3\n")
    assert "reprise checkpoint rollback order-7 priced" in added.stderr
    assert ordered.inside("checkpoint", "add", "order-7", "end").returncode == 0
    listed = ordered.inside("checkpoint", "list", "order-7").stdout.splitlines()
    assert [row.split()[:2] for row in listed[1:]] == [["priced", "3"], ["end", "6"]]
    assert listed[1].endswith("step_completed price")
    facts = json.loads(ordered.inside("checkpoint", "list", "order-7", "-o", "json").stdout)
    assert [(fact["name"], fact["at"]) for fact in facts] == [("priced", 3), ("end", 6)]
    before = marks(ordered)
    done = ordered("checkpoint", "rollback", "order-7", "priced", "--id", "back")
    assert (done.returncode, json.loads(done.stdout)) == (0, "paid 100"), done.stderr
    assert "Fork back of order-7, from record 3: 1 steps kept." in done.stderr
    assert marks(ordered)[len(before) :] == ["charge 100"]
    dearer = ordered("checkpoint", "rollback", "order-7", "priced", "-e", 'price={"cents": 900}')
    assert json.loads(dearer.stdout) == "paid 900", dearer.stderr


def test_a_checkpoint_that_there_is_not_names_the_nearest(ordered):
    ordered.inside("checkpoint", "add", "open", "waiting")
    for name, says in (("waitin", "Did you mean 'waiting'?"), ("other", "It has waiting.")):
        gone = ordered.inside("checkpoint", "rollback", "open", name)
        assert (gone.returncode, says in gone.stderr) == (3, True), gone.stderr
    assert ordered.inside("checkpoint", "add", "open", "late", "--at", "99").returncode == 3
    assert ordered.inside("checkpoint", "add", "nobody", "x").returncode == 3
