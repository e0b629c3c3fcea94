"""The checker says yes to what one order explains, and no to what none does."""

import itertools
import random
from math import inf

import pytest

from reprise.testing.linearizable import (
    UNKNOWN,
    History,
    NotLinearizable,
    Operation,
    Undecided,
    check_linearizable,
)
from reprise.testing.sequential import FencedLock, Register, Tally, WorkQueue
from reprise.testing.sequential_cells import Cells

NO_ANSWER = "no answer"


def history(*rows, key=""):
    """Return operations from rows: client, began, ended, name, arguments …, result."""
    return [
        Operation(client, name, tuple(args), key, began, *(() if result is NO_ANSWER else (ended, result)))
        for client, began, ended, name, *args, result in rows
    ]


GOOD = {
    "a read beside a write sees the old value": (
        Register(0),
        [("a", 1, 5, "write", 1, None), ("b", 2, 3, "read", 0)],
    ),
    "a read beside a write sees the new value": (
        Register(0),
        [("a", 1, 5, "write", 1, None), ("b", 2, 3, "read", 1)],
    ),
    "reads beside a write, one after the other, first old then new": (
        Register(0),
        [("a", 1, 9, "write", 1, None), ("b", 2, 3, "read", 0), ("b", 4, 5, "read", 1)],
    ),
    "a write of which nothing was heard shows later": (
        Register(0),
        [("a", 1, inf, "write", 1, NO_ANSWER), ("b", 2, 3, "read", 0), ("b", 4, 5, "read", 1)],
    ),
    "a write of which nothing was heard never shows": (
        Register(0),
        [("a", 1, inf, "write", 1, NO_ANSWER), ("b", 2, 3, "read", 0), ("b", 4, 5, "read", 0)],
    ),
    "of two exchanges one wins": (
        Register(0),
        [("a", 1, 4, "cas", 0, 1, True), ("b", 2, 3, "cas", 0, 2, False), ("b", 5, 6, "read", 1)],
    ),
    "additions at once": (
        Tally(),
        [
            ("a", 1, 4, "add", 2, 5),
            ("b", 2, 5, "add", 3, 3),
            ("c", 3, 6, "add", 1, 6),
            ("c", 7, 8, "read", 6),
        ],
    ),
    "a counter that tells nothing": (
        Tally(),
        [("a", 1, 4, "add", 2, None), ("b", 5, inf, "add", 3, NO_ANSWER), ("c", 6, 7, "read", 5)],
    ),
    "a lock goes from hand to hand": (
        FencedLock(),
        [
            ("a", 1, 2, "take", "a", 0, 7),
            ("b", 3, 4, "take", "b", 0, None),
            ("a", 5, 8, "drop", "a", 7, None),
            ("b", 6, 7, "take", "b", 0, 9),
            ("b", 9, 10, "renew", "b", 9, 0, True),
            ("a", 11, 12, "renew", "a", 7, 0, False),
            ("a", 13, 14, "holders", (9,)),
        ],
    ),
    "a lock that ended is taken by another, whose token shuts the first out": (
        FencedLock(),
        [
            ("a", 0.0, 0.1, "take", "a", 1.0, 1),
            ("b", 0.9, 1.05, "take", "b", 1.0, 2),
            ("b", 1.1, 1.2, "write", 2, True),
            ("a", 1.3, 1.4, "write", 1, False),
        ],
    ),
    "the answer to a take was lost": (
        FencedLock(),
        [
            ("a", 1, inf, "take", "a", 0, NO_ANSWER),
            ("b", 2, 3, "take", "b", 0, None),
            ("c", 4, 5, "holders", (5,)),
            ("a", 6, 7, "take", "a", 0, 5),
            ("a", 8, 9, "drop", "a", 5, None),
            ("b", 10, 11, "take", "b", 0, 6),
        ],
    ),
    "two may hold": (
        FencedLock(2),
        [
            ("a", 1, 2, "take", "a", 0, 1),
            ("b", 3, 4, "take", "b", 0, 2),
            ("c", 5, 6, "take", "c", 0, None),
            ("c", 7, 8, "holders", (1, 2)),
        ],
    ),
    "tasks go out in order": (
        WorkQueue(),
        [
            ("a", 1, 2, "offer", "x", 0, True),
            ("a", 3, 4, "offer", "y", -1, True),
            ("a", 5, 6, "offer", "x", 0, False),
            ("b", 7, 9, "claim", 1, 0, (("y", 1),)),
            ("c", 8, 10, "claim", 2, 0, (("x", 2),)),
            ("c", 11, 12, "settle", "x", 2, "ready", True),
            ("c", 13, 14, "settle", "x", 2, "done", False),
            ("b", 15, 16, "claim", 2, 0, (("x", 3),)),
            ("b", 17, 18, "settle", "x", 3, "done", True),
            ("b", 19, 20, "offer", "x", 0, True),
        ],
    ),
    "a claim that ended": (
        WorkQueue(),
        [
            ("a", 0.0, 0.1, "offer", "x", 0, True),
            ("a", 0.2, 0.3, "claim", 1, 1.0, (("x", 1),)),
            ("b", 0.4, 0.5, "claim", 1, 1.0, ()),
            ("b", 1.25, 1.4, "claim", 1, 1.0, (("x", 2),)),
            ("a", 1.5, 1.6, "extend", "x", 1, 1.0, False),
            ("b", 1.7, 1.8, "extend", "x", 2, 1.0, True),
        ],
    ),
    "cells change together": (
        Cells(),
        [
            ("a", 1, 4, "apply", ("x", 0, "1", 0), ("y", 0, "1", 0), (1, 2)),
            ("b", 2, 5, "apply", ("y", 0, "2", 0), ("x", 0, "2", 0), ("y", 2)),
            ("c", 3, 6, "get", "y", (("y", 2, "1"),)),
            ("c", 7, 8, "get", "y", "x", "z", (("y", 2, "1"), ("x", 1, "1"))),
            ("c", 9, 10, "scan", (("x", 1, "1"), ("y", 2, "1"))),
        ],
    ),
    "a cell is removed and made anew": (
        Cells(),
        [
            ("a", 1, 2, "apply", ("x", None, "1", 0), (7,)),
            ("a", 3, 4, "apply", ("x", 7, None, 0), (0,)),
            ("a", 5, 6, "scan", ()),
            ("b", 7, 8, "apply", ("x", 7, "2", 0), ("x", 0)),
            ("b", 9, 10, "apply", ("x", 0, "2", 0), (9,)),
        ],
    ),
    "a cell that ends": (
        Cells(),
        [
            ("a", 0.0, 0.1, "apply", ("x", 0, "1", 1.0), (1,)),
            ("b", 0.8, 0.9, "get", "x", (("x", 1, "1"),)),
            ("b", 1.05, 1.2, "get", "x", ()),
            ("b", 1.3, 1.4, "apply", ("x", 0, "2", 0), (3,)),
        ],
    ),
    "a cell of which nobody heard, and what others learn of it": (
        Cells(),
        [
            ("a", 1, inf, "apply", ("x", 0, "1", 0), ("y", 0, "1", 0), NO_ANSWER),
            ("b", 2, 3, "apply", ("x", 0, "2", 0), ("x", 4)),
            ("b", 4, 5, "apply", ("x", 4, "2", 0), (9,)),
            ("b", 6, 7, "scan", (("x", 9, "2"), ("y", 5, "1"))),
        ],
    ),
    "a change of which nobody heard, and that was never made": (
        Cells(),
        [
            ("a", 1, inf, "apply", ("x", 0, "1", 0), NO_ANSWER),
            ("b", 2, 3, "apply", ("x", 0, "2", 0), (1,)),
            ("b", 4, 5, "get", "x", (("x", 1, "2"),)),
        ],
    ),
}

BAD = {
    "a read goes back to the old value": (
        Register(0),
        [("a", 1, 9, "write", 1, None), ("b", 2, 3, "read", 1), ("b", 4, 5, "read", 0)],
    ),
    "two readers see two writes in two orders": (
        Register(0),
        [
            ("a", 1, 2, "write", 1, None),
            ("b", 1, 2, "write", 2, None),
            ("c", 3, 4, "read", 1),
            ("d", 5, 6, "read", 2),
        ],
    ),
    "a value that nobody wrote": (Register(0), [("a", 1, 2, "write", 1, None), ("b", 1, 2, "read", 3)]),
    "both exchanges win": (
        Register(0),
        [("a", 1, 4, "cas", 0, 1, True), ("b", 2, 3, "cas", 0, 2, True)],
    ),
    "a write that was heard of is lost": (
        Register(0),
        [("a", 1, 2, "write", 1, None), ("b", 3, 4, "read", 0)],
    ),
    "what nobody heard of shows and is gone again": (
        Register(0),
        [("a", 1, inf, "write", 1, NO_ANSWER), ("b", 2, 3, "read", 1), ("b", 4, 5, "read", 0)],
    ),
    "an addition is lost": (
        Tally(),
        [("a", 1, 4, "add", 1, 1), ("b", 2, 5, "add", 1, 1)],
    ),
    "two hold a lock": (
        FencedLock(),
        [("a", 1, 2, "take", "a", 0, 1), ("b", 3, 4, "take", "b", 0, 2)],
    ),
    "three hold a lock for two": (
        FencedLock(2),
        [(c, n, n + 0.5, "take", c, 0, n) for n, c in enumerate("abc", 1)],
    ),
    "a token comes twice": (
        FencedLock(),
        [("a", 1, 2, "take", "a", 0, 1), ("a", 3, 4, "drop", "a", 1, None), ("b", 5, 6, "take", "b", 0, 1)],
    ),
    "a token goes down": (
        FencedLock(),
        [("a", 1, 2, "take", "a", 0, 5), ("a", 3, 4, "drop", "a", 5, None), ("b", 5, 6, "take", "b", 0, 4)],
    ),
    "a lock is taken before it has ended": (
        FencedLock(),
        [("a", 0.0, 0.1, "take", "a", 1.0, 1), ("b", 0.8, 0.99, "take", "b", 1.0, 2)],
    ),
    "a lock is renewed after it has ended": (
        FencedLock(),
        [("a", 0.0, 0.1, "take", "a", 1.0, 1), ("a", 1.2, 1.3, "renew", "a", 1, 1.0, True)],
    ),
    "a free lock is refused": (FencedLock(), [("a", 1, 2, "take", "a", 0, None)]),
    "a write under an old token": (
        FencedLock(),
        [("a", 1, 2, "write", 2, True), ("b", 3, 4, "write", 1, True)],
    ),
    "a task is claimed by two": (
        WorkQueue(),
        [
            ("a", 1, 2, "offer", "x", 0, True),
            ("b", 3, 6, "claim", 1, 0, (("x", 1),)),
            ("c", 4, 5, "claim", 1, 0, (("x", 2),)),
        ],
    ),
    "a task is lost": (
        WorkQueue(),
        [("a", 1, 2, "offer", "x", 0, True), ("b", 3, 4, "claim", 1, 0, ())],
    ),
    "tasks go out in the wrong order": (
        WorkQueue(),
        [
            ("a", 1, 2, "offer", "x", 0, True),
            ("a", 3, 4, "offer", "y", 0, True),
            ("b", 5, 6, "claim", 1, 0, (("y", 1),)),
        ],
    ),
    "an old claim settles": (
        WorkQueue(),
        [
            ("a", 1, 2, "offer", "x", 0, True),
            ("b", 3, 4, "claim", 1, 0, (("x", 1),)),
            ("b", 5, 6, "settle", "x", 1, "ready", True),
            ("c", 7, 8, "claim", 1, 0, (("x", 2),)),
            ("b", 9, 10, "settle", "x", 1, "done", True),
        ],
    ),
    "half of a change shows": (
        Cells(),
        [
            ("a", 1, 9, "apply", ("x", 0, "1", 0), ("y", 0, "1", 0), (1, 2)),
            ("b", 2, 3, "get", "x", (("x", 1, "1"),)),
            ("b", 4, 5, "get", "y", ()),
        ],
    ),
    "half of a change shows in one look": (
        Cells(),
        [
            ("a", 1, 9, "apply", ("x", 0, "1", 0), ("y", 0, "1", 0), (1, 2)),
            ("b", 2, 3, "scan", (("x", 1, "1"),)),
        ],
    ),
    "an update is lost": (
        Cells(),
        [("a", 1, 4, "apply", ("x", 0, "a", 0), (1,)), ("b", 2, 3, "apply", ("x", 0, "b", 0), (2,))],
    ),
    "what was changed before is read": (
        Cells(),
        [
            ("a", 1, 2, "apply", ("x", 0, "1", 0), (1,)),
            ("a", 3, 4, "apply", ("x", 1, "2", 0), (2,)),
            ("b", 5, 6, "get", "x", (("x", 1, "1"),)),
        ],
    ),
    "a version comes twice": (
        Cells(),
        [
            ("a", 1, 2, "apply", ("x", 0, "1", 0), (1,)),
            ("a", 3, 4, "apply", ("x", 1, None, 0), (0,)),
            ("a", 5, 6, "apply", ("x", 0, "2", 0), (1,)),
        ],
    ),
    "cells share a version": (
        Cells(),
        [("a", 1, 2, "apply", ("x", 0, "1", 0), ("y", 0, "1", 0), (1, 1))],
    ),
    "a change that fits is refused": (
        Cells(),
        [("a", 1, 2, "apply", ("x", 0, "1", 0), (1,)), ("a", 3, 4, "apply", ("x", 1, "2", 0), ("x", 1))],
    ),
    "a refusal finds what never was": (
        Cells(),
        [("a", 1, 2, "apply", ("x", 0, "1", 0), (1,)), ("a", 3, 4, "apply", ("x", 0, "2", 0), ("x", 7))],
    ),
    "a cell ends too early": (
        Cells(),
        [("a", 0.0, 0.1, "apply", ("x", 0, "1", 1.0), (1,)), ("b", 0.8, 0.99, "get", "x", ())],
    ),
    "a cell outlives its end": (
        Cells(),
        [
            ("a", 0.0, 0.1, "apply", ("x", 0, "1", 1.0), (1,)),
            ("b", 1.2, 1.3, "apply", ("x", 1, "2", 0), (2,)),
        ],
    ),
    "what nobody heard of was made, and never made": (
        Cells(),
        [
            ("a", 1, inf, "apply", ("x", 0, "1", 0), NO_ANSWER),
            ("b", 2, 3, "get", "x", (("x", 3, "1"),)),
            ("b", 4, 5, "apply", ("x", 0, "2", 0), (4,)),
        ],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_one_order_explains(name):
    model, rows = GOOD[name]
    assert check_linearizable(history(*rows), model) > len(rows)


@pytest.mark.parametrize("name", BAD)
def test_what_no_order_explains(name):
    model, rows = BAD[name]
    with pytest.raises(NotLinearizable):
        check_linearizable(history(*rows), model)


def test_a_bag_of_work_has_no_order_but_loses_nothing():
    bag = WorkQueue(ordered=False)
    check_linearizable(history(*BAD["tasks go out in the wrong order"][1]), bag)
    check_linearizable(history(*BAD["a task is lost"][1]), bag)
    lost = [*BAD["a task is lost"][1], ("b", 5, 6, "drain", 9, 0, ())]
    for rows in (BAD["a task is claimed by two"][1], BAD["an old claim settles"][1], lost):
        with pytest.raises(NotLinearizable):
            check_linearizable(history(*rows), bag)


def brute_force(operations, value):
    """Try every order of every choice of the operations that may have happened."""
    known = [each for each in operations if each.known]
    unknown = [each for each in operations if not each.known]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *chosen]):
                if all(a.began <= b.ended for a, b in itertools.combinations(order, 2)) and explains(
                    order, value
                ):
                    return True
    return False


def explains(order, value):
    for each in order:
        match each.name:
            case "write":
                value = each.args[0]
            case "read":
                if each.known and each.result != value:
                    return False
            case _:
                old, new = each.args
                if each.known and each.result != (value == old):
                    return False
                value = new if value == old else value
    return True


def random_operations(dice):
    for client in "abc"[: dice.randint(1, 3)]:
        now = 0
        for _ in range(dice.randint(1, 2)):
            began, ended = sorted(dice.sample(range(now, now + 8), 2))
            now = ended + 1
            name = dice.choice(("read", "write", "cas"))
            args = tuple(dice.randint(0, 2) for _ in range({"read": 0, "write": 1, "cas": 2}[name]))
            result = {"read": dice.randint(0, 2), "write": None, "cas": dice.random() < 0.5}[name]
            if dice.random() < 0.15:
                yield Operation(client, name, args, "", began)
                break
            yield Operation(client, name, args, "", began, ended, result)


def test_it_says_the_same_as_trying_every_order():
    """3,000 small random histories; both answers are frequent."""
    dice = random.Random(7)
    said = {True: 0, False: 0}
    for _ in range(3000):
        operations = list(random_operations(dice))
        try:
            check_linearizable(operations, Register(0))
            found = True
        except NotLinearizable:
            found = False
        assert found == brute_force(operations, 0), [str(each) for each in operations]
        said[found] += 1
    assert min(said.values()) > 300


def test_keys_are_judged_by_themselves():
    good = history(("a", 1, 2, "write", 1, None), ("a", 3, 4, "read", 1), key="x")
    bad = history(("a", 1, 2, "write", 1, None), ("b", 3, 4, "read", 0), key="y")
    check_linearizable(good, Register(0))
    with pytest.raises(NotLinearizable) as caught:
        check_linearizable(good + bad, Register(0))
    assert caught.value.key == "y"


def test_a_failure_shows_the_shortest_window():
    rows = [("a", n, n + 0.5, "write", n, None) for n in range(100)]
    rows += [("a", 200, 203, "write", 200, None), ("b", 201, 204, "read", 200), ("c", 202, 205, "read", 98)]
    rows += [("b", 300, 301, "read", 200)]
    with pytest.raises(NotLinearizable) as caught:
        check_linearizable(history(*rows), Register(0))
    error = caught.value
    assert [str(each) for each in error.window] == ["write(200) -> None", "read() -> 200", "read() -> 98"]
    assert str(error.culprit) == "read() -> 98"
    assert error.states == [99]
    assert str(error).splitlines()[-3:] == [
        "    a  |--|     write(200) -> None",
        "    b   |--|    read() -> 200",
        "    c    |--|   read() -> 98   <== not possible",
    ]


def test_a_failure_names_what_may_still_happen():
    """A write without an answer, long ago, belongs to the window as long as it may not have happened yet."""
    rows = [("a", 1, inf, "write", 5, NO_ANSWER), ("b", 2, 3, "write", 1, None), ("b", 10, 11, "read", 2)]
    with pytest.raises(NotLinearizable, match=r"write\(5\) -> \?"):
        check_linearizable(history(*rows), Register(0))


def test_a_long_history_stays_cheap():
    """Configurations grow with the length, not with its square or worse: 4 clients, 4,000 operations."""
    dice, value, now, rows = random.Random(1), 0, 0, []
    for _ in range(1000):
        clients = list("abcd")
        dice.shuffle(clients)
        for place, client in enumerate(clients):
            if dice.random() < 0.5:
                value = dice.randint(0, 9)
                rows.append((client, now + dice.random(), now + 10 + place, "write", value, None))
            else:
                rows.append((client, now + dice.random(), now + 10 + place, "read", value))
        now += 20
    assert check_linearizable(history(*rows), Register(0)) < 40 * len(rows)


def test_a_search_without_end_is_given_up():
    rows = [(str(n), n, inf, "add", 2**n, NO_ANSWER) for n in range(12)]
    rows.append(("z", 100, 101, "read", -1))
    with pytest.raises(Undecided, match="configurations were tried"):
        check_linearizable(history(*rows), Tally(), most=1000)


def test_a_stranger_is_named():
    with pytest.raises(TypeError, match="Register knows no pop with 0 arguments"):
        check_linearizable(history(("a", 1, 2, "pop", 1)), Register())


class TestRecording:
    def test_a_call_with_an_answer(self):
        record = History()
        with record.call("a", "write", 1, key="x") as answer:
            assert record.operations[0].result is UNKNOWN
            answer(None)
        [operation] = record.operations
        assert (operation.began, operation.ended, operation.key, operation.result) == (1, 2, "x", None)

    def test_a_call_that_fails_has_an_unknown_outcome(self):
        record = History()
        with pytest.raises(OSError, match="gone"), record.call("a", "write", 1):
            raise OSError("gone")
        assert not record.operations[0].known

    def test_a_call_that_was_refused_did_not_happen(self):
        record = History()
        with pytest.raises(ValueError, match="no"), record.call("a", "write", 1, refused=(ValueError,)):
            raise ValueError("no")
        assert record.operations == []

    async def test_an_awaitable(self):
        async def read():
            return [1, 2]

        record = History()
        assert await record.record("a", "read", of=read(), tell=tuple) == [1, 2]
        assert record.operations[0].result == (1, 2)

    def test_histories_are_saved_and_loaded_together(self, tmp_path):
        one, other = History(), History()
        with one.call("a", "apply", ("x", 0, "v", 0)) as answer:
            answer((1,))
        with pytest.raises(OSError, match="gone"), other.call("b", "get", "x"):
            raise OSError("gone")
        one.save(tmp_path / "1")
        other.save(tmp_path / "2")
        both = History.load(tmp_path / "1", tmp_path / "2").operations
        assert [str(each) for each in both] == ["apply(('x', 0, 'v', 0)) -> (1,)", "get('x') -> ?"]
        check_linearizable(both, Cells())
