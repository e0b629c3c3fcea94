"""The tree of a run is a fold of its records, and its pictures are functions of the tree."""

import msgspec
import pytest

from reprise.cli.paint import View, frame
from reprise.cli.plain import Lines, describe
from reprise.cli.tree import State, Tree
from reprise.kernel.events import (
    CancelRequest,
    ChildStarted,
    Continued,
    ErrorValue,
    Finished,
    Intended,
    Kind,
    Owned,
    Progress,
    Record,
    Retrying,
    Signal,
    Started,
)
from reprise.runtime.waits import Waits

S = 1_000_000


class Log:
    """Records of one run, made one after another."""

    def __init__(self):
        self.records = []

    def add(self, kind, at, key="", data=b"", took=0):
        encoded = data if isinstance(data, bytes) else msgspec.json.encode(data)
        version = len(self.records) + 1
        self.records.append(
            Record(version, "run/r", version, kind, int(at * S), key, encoded, 0, int(took * S))
        )
        return self

    def opened(self):
        return self.add(Kind.RUN_STARTED, 0, data=Started("survey", msgspec.Raw(b"[[],{}]"))).add(
            Kind.RUN_OWNED, 0, data=Owned("w1", 1, 1)
        )

    def tree(self):
        tree = Tree("r")
        for record in self.records:
            tree.apply(record)
        return tree


def undoing(*, failed=False):
    """Return two steps that were done, and undone or not, and one that nobody knows of."""
    log = Log().opened()
    for n, name in enumerate(("flight", "room"), 1):
        log.add(Kind.STEP_INTENDED, n, name, Intended(name, "k", undo="x"))
        log.add(Kind.STEP_COMPLETED, n + 0.5, name, b"1", 0.5)
    log.add(Kind.STEP_INTENDED, 3, "pay", Intended("pay", "k", effect="charge"))
    if failed:
        log.add(Kind.UNDO_FAILED, 5, "room", ErrorValue("ValueError", "nobody answers"))
    else:
        log.add(Kind.UNDO_DONE, 5, "room")
    return log.add(Kind.UNDO_DONE, 6, "flight").add(Kind.UNDO_DONE, 7, "~0:1.before")


def fan_out(done, failed=0):
    log = Log().opened()
    for n in range(1, done + 1):
        log.add(Kind.STEP_COMPLETED, n, f"/fetch.{n}:1" if n > 1 else "/fetch:1", b"1", 0.5)
    for n in range(done + 1, done + failed + 1):
        log.add(Kind.STEP_FAILED, n, f"/fetch.{n}:1", ErrorValue("ValueError", f"no {n}"), 0.5)
    return log


def test_a_run_from_its_start_to_its_end():
    log = Log().opened()
    assert log.tree().status == "running"
    log.add(Kind.STEP_STARTED, 1, ":1.load", "load").add(Kind.STEP_COMPLETED, 3, ":1.load", b"7", 2)
    log.add(Kind.SIGNAL_RECEIVED, 4, "x", Signal("approve", msgspec.Raw(b"true"))).add(
        Kind.TIMER_FIRED, 5, "@1", b"5"
    )
    log.add(Kind.RUN_FINISHED, 6, data=Finished("completed", msgspec.Raw(b"7")))
    tree = log.tree()
    assert (tree.status, tree.started_at, tree.ended_at, tree.version) == ("completed", 0, 6 * S, 7)
    assert (tree.signals, tree.timers, tree.takeovers) == ([(4 * S, "approve")], 1, 1)
    (step,) = tree.steps
    assert (step.name, step.state, step.took, step.attempt) == ("load", State.DONE, 2 * S, 1)


def test_states_of_a_run_follow_its_records():
    log = Log().opened().add(Kind.RUN_PAUSED, 1)
    assert log.tree().status == "paused"
    log.add(Kind.RUN_OWNED, 2, data=Owned("w2", 2, 1))
    assert (log.tree().status, log.tree().owner, log.tree().takeovers) == ("running", "w2", 2)
    log.add(Kind.CANCEL_REQUESTED, 3, data=CancelRequest("enough"))
    assert (log.tree().status, log.tree().reason) == ("cancelling", "enough")
    log.add(Kind.RUN_FINISHED, 4, data=Finished("cancelled"))
    assert log.tree().status == "cancelled"


def test_a_record_applied_twice_changes_nothing():
    log = fan_out(3, failed=1)
    once, twice = log.tree(), log.tree()
    for record in log.records:
        twice.apply(record)
    assert msgspec.json.encode(once) == msgspec.json.encode(twice)


def test_steps_of_one_name_are_one_row_wherever_they_were_called():
    log = Log().opened()
    for key in ("/fetch:1", "/fetch.2:1", "/one.3:1.fetch", ":1.fetch", ":2.store"):
        log.add(Kind.STEP_COMPLETED, 1, key, b"1")
    tree = log.tree()
    assert {name: row.ended for name, row in tree.rows.items()} == {"fetch": 4, "store": 1}


def test_explicit_key_takes_its_name_from_the_start_of_the_step():
    log = (
        Log()
        .opened()
        .add(Kind.STEP_STARTED, 1, "front-page", "fetch")
        .add(Kind.STEP_COMPLETED, 2, "front-page", b"1", 1)
    )
    assert [(row.name, row.ended) for row in log.tree().rows.values()] == [("fetch", 1)]


def test_retry_is_counted_and_its_countdown_known():
    log = Log().opened()
    log.add(Kind.STEP_RETRYING, 1, ":1.load", Retrying(1, ErrorValue("OSError", "gone"), 9 * S), 0.5)
    tree = log.tree()
    (step,) = tree.steps
    assert (step.state, step.attempt, step.next_at, step.error) == (State.RETRYING, 2, 9 * S, "OSError: gone")
    assert (step.started_at, tree.rows["load"].retrying) == (S // 2, 1)
    log.add(Kind.STEP_STARTED, 9, ":1.load", "load")
    assert log.tree().rows["load"].retrying == 0
    log.add(Kind.STEP_COMPLETED, 10, ":1.load", b"1", 1)
    (step,) = log.tree().steps
    assert (step.state, step.attempt, step.took) == (State.DONE, 2, 10 * S - S // 2)


def test_what_a_worker_tells_gives_the_total_until_the_run_ends():
    log = fan_out(3)
    tree = log.tree()
    assert (tree.rows["fetch"].total, tree.rows["fetch"].quiet) == (3, True)
    tree.ask({"fetch": 7, "store": 1}, 4 * S)
    assert (tree.rows["fetch"].total, tree.rows["fetch"].quiet, tree.rows["store"].total) == (10, False, 1)
    tree.ask({"fetch": 2}, 5 * S)
    assert tree.rows["fetch"].total == 10, "what ended but is not in the log yet still counts"
    tree.ask(None, 6 * S)
    assert tree.rows["fetch"].total == 3


def test_total_that_keeps_growing_is_not_drawn_as_a_share():
    log, tree = fan_out(40), Tree("r")
    for record in log.records:
        tree.apply(record)
        tree.ask({"fetch": 3}, record.at)
    assert tree.rows["fetch"].open
    assert "40 ended, 3 under way" in text(tree, now=50 * S)[1]
    tree.ask(None, 50 * S)
    assert "40/40" in text(tree, now=50 * S)[1]


def text(tree, now=10 * S, width=80, height=24, **view):
    return [line.plain for line in frame(View(tree, **view), now, width, height)]


def test_picture_of_a_fan_out_is_one_line_with_a_bar():
    tree = fan_out(3, failed=1).tree()
    tree.ask({"fetch": 4}, 4 * S)
    head, row, foot = text(tree)
    assert head == "survey  ▸ running"
    assert row == "  ⠋ fetch  ━━━━━━━━━━──────────  4/8  ✗1  9.5 s  ValueError: no 4"
    assert foot == "  r · 10.0 s · 6 events"


def test_picture_of_a_retry_shows_the_attempt_and_the_countdown():
    log = (
        Log()
        .opened()
        .add(Kind.STEP_RETRYING, 1, ":1.load", Retrying(2, ErrorValue("OSError", "gone"), 14 * S), 0.5)
    )
    assert text(log.tree())[1] == "  ↻ load  9.5 s  attempt 3  next in 4.0 s  OSError: gone"


def test_picture_shows_progress_children_and_what_is_waited_for():
    log = Log().opened().add(Kind.STEP_STARTED, 1, ":1.load", "load")
    log.add(Kind.CHILD_STARTED, 2, ":2.part", ChildStarted("r:2.part", "part"))
    tree = log.tree()
    tree.progress[":1.load"] = Progress(":1.load", 3, 4, "row 3")
    child = fan_out(2).tree()
    lines = text(tree, children={"r:2.part": child})
    assert lines[1] == "  ⠋ load  9.0 s  ━━━━━━━━──  3/4  row 3"
    assert lines[2:4] == ["  ⠋ part  8.0 s", "    ✓ fetch  ━━━━━━━━━━━━━━━━━━━━  2/2  1.5 s"]
    waiting = text(Log().opened().tree(), waits=Waits({}, (70 * S,), ("approve",)))
    assert waiting[0] == "survey  ⏸ waiting"
    assert waiting[1].startswith("  ⏸ waits for the signal 'approve'   reprise signal r approve VALUE")
    asked = text(Log().opened().tree(), waits=Waits(questions=("sales: Ship\x1b[2J it?",)))
    assert asked[0] == "survey  ⏸ waiting"
    assert asked[1].startswith("  ⏸ asks sales: Ship it?   reprise answer r")
    assert waiting[2].endswith("1m 0s from now") or waiting[2].endswith("1m from now")


def test_picture_is_never_wider_or_taller_than_the_terminal():
    log = Log().opened()
    for n in range(60):
        log.add(Kind.STEP_COMPLETED, n + 1, f":{n}.step_number_{n}", b"1", 1)
    log.add(Kind.STEP_FAILED, 70, ":99.bad", ErrorValue("ValueError", "long " * 50))
    lines = text(log.tree(), width=40, height=12)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 40
    assert any("more, done" in line for line in lines)
    assert any("✗ bad" in line for line in lines), "what failed is not left out"


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\x1b]0;t\x07", "\x9b1m", "\u202e", "a\nb", "[bold]x[/bold]"])
def test_no_picture_carries_what_could_drive_a_terminal(nasty):
    log = Log().opened()
    log.add(Kind.STEP_FAILED, 1, f":1.{nasty}step", ErrorValue(f"{nasty}Error", f"said {nasty}"))
    tree = log.tree()
    tree.progress[""] = Progress("", 1, 2, nasty)
    lines = text(tree, width=200) + Lines().changes(tree, 10 * S)
    for line in lines:
        assert line.isprintable(), line


def said(lines, log, now):
    return [line.partition("  r  ")[2] for line in lines.changes(log.tree(), int(now * S))]


def test_plain_lines_say_each_change_once():
    lines, log = Lines(), Log().opened()
    assert said(lines, log, 0) == ["survey running"]
    assert said(lines, log, 1) == []
    log.add(Kind.STEP_STARTED, 1, ":1.load", "load")
    assert said(lines, log, 1) == []
    log.add(Kind.STEP_RETRYING, 2, ":1.load", Retrying(1, ErrorValue("OSError", "gone"), 3 * S), 1)
    (line,) = said(lines, log, 2)
    assert line.startswith("load  attempt 1 failed, next at ")
    assert line.endswith("OSError: gone")
    log.add(Kind.STEP_COMPLETED, 4, ":1.load", b"1", 1)
    assert said(lines, log, 4) == ["load  done  3.0 s  attempt 2"]
    log.add(Kind.RUN_FINISHED, 5, data=Finished("completed"))
    assert said(lines, log, 5) == []


def test_plain_lines_about_a_fan_out_are_few_however_large_it_is():
    lines, log = Lines(), Log().opened()
    for n in range(1, 2001):
        log.add(Kind.STEP_COMPLETED, n / 100, f"/fetch.{n}:1", b"1", 0.01)
    tree, spoken = Tree("r"), []
    for record in log.records:
        tree.apply(record)
        tree.ask({"fetch": 2000 - max(0, record.version - 2)}, record.at)
        spoken += [line for line in lines.changes(tree, record.at) if "fetch" in line]
    assert 2 <= len(spoken) <= 8
    assert "2000/2000" in spoken[-1]


def test_plain_lines_about_a_loop_are_few_however_long_it_is():
    lines, log, tree, spoken = Lines(), Log().opened(), Tree("r"), []
    for n in range(1, 2001):
        log.add(Kind.STEP_COMPLETED, n / 10, f":{n}.fetch", b"1", 0.01)
    log.add(Kind.RUN_FINISHED, 201, data=Finished("completed"))
    for record in log.records:
        tree.apply(record)
        spoken += [line for line in lines.changes(tree, record.at) if "fetch" in line]
    assert 2 <= len(spoken) <= 12
    assert "2000/2000" in spoken[-1]


def test_plain_lines_say_a_failure_at_once():
    lines, tree = Lines(), fan_out(3).tree()
    tree.ask({"fetch": 100}, 3 * S)
    lines.changes(tree, 3 * S)
    for record in fan_out(3, failed=1).records:
        tree.apply(record)
    assert any("1 failed  ValueError: no 4" in line for line in lines.changes(tree, 3 * S))


def test_a_later_generation_is_shown_alone():
    log = fan_out(3).add(Kind.SIGNAL_RECEIVED, 4, "m1", Signal("go", msgspec.Raw(b"1")))
    started = Started("survey", msgspec.Raw(b"[[7],{}]"))
    log.add(Kind.RUN_CONTINUED, 5, "", Continued(started, 1, 99)).add(Kind.STEP_COMPLETED, 6, ":1.load", b"1")
    tree = log.tree()
    assert (tree.generation, tree.since, tree.events, tree.version) == (1, 6, 2, 8)
    assert (tree.started, tree.started_at, tree.status) == (started, 5 * S, "running")
    assert ([step.name for step in tree.steps], tree.signals) == (["load"], [])
    old = Record(
        1, "progress/r", 1, Kind.PROGRESS, 4 * S, ":1.load", msgspec.json.encode(Progress(":1.load", 1))
    )
    tree.apply_progress([old])
    assert tree.progress == {}
    log.records = log.records[6:]
    trimmed = Tree("r")
    for record in log.records:
        trimmed.apply(record)
    assert (trimmed.generation, trimmed.events, trimmed.started) == (1, 2, started)


# ---------------------------------------------------------------- what was undone


def test_a_step_that_was_undone_says_so_and_one_of_an_earlier_generation_is_not_shown():
    tree = undoing().tree()
    assert tree.status == "compensating"
    assert [(step.name, step.state, step.undo, step.undo_at) for step in tree.steps] == [
        ("flight", State.DONE, "undone", 6 * S),
        ("room", State.DONE, "undone", 5 * S),
        ("pay", State.RUNNING, "", 0),
    ]
    assert tree.undoes
    assert not fan_out(3).tree().undoes
    drawn = [text.plain for text in frame(View(tree), 8 * S, 100)]
    assert [line for line in drawn if "↶ undone" in line] == drawn[1:3]
    assert [line.partition("  r  ")[2] for line in Lines().changes(tree, 8 * S)] == [
        "survey compensating", "flight  undone", "room  undone",
    ]  # fmt: skip


def test_what_could_not_be_undone_says_why_until_somebody_does_it_later():
    log = undoing(failed=True)
    tree, lines = log.tree(), Lines()
    assert (tree.rows["room"].not_undone, tree.rows["room"].undone) == (1, 0)
    assert "room  NOT undone  ValueError: nobody answers" in " ".join(lines.changes(tree, 8 * S))
    assert any(
        "NOT undone  ValueError: nobody answers" in text.plain for text in frame(View(tree), 8 * S, 100)
    )
    tree.apply(log.add(Kind.UNDO_DONE, 9, "room").records[-1])
    assert (tree.rows["room"].not_undone, tree.rows["room"].undone) == (0, 1)
    assert [line.partition("  r  ")[2] for line in lines.changes(tree, 9 * S)] == ["room  undone"]


def test_many_of_one_name_are_counted():
    log = Log().opened()
    for n in range(1, 5):
        log.add(Kind.STEP_COMPLETED, n, f"/book.{n}:1", b"1", 0.5)
    for n in range(1, 4):
        log.add(Kind.UNDO_DONE, 5 + n, f"/book.{n}:1")
    tree = log.tree()
    assert describe(tree.rows["book"]).startswith("book  4/4  3 undone")
    assert any("↶ undone 3" in text.plain for text in frame(View(tree), 9 * S, 100))
