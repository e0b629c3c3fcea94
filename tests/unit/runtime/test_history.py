"""What a take-over reads from a history: its latest generation, how often it was owned, what was asked and answered."""

import msgspec
import pytest

from reprise import Cost
from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import CancelRequest, Continued, Intended, Kind, Owned, Record, Resolved, Started
from reprise.runtime.history import pause_in, read_history, wishes

STARTED = Started("flow", msgspec.Raw(b"[[],{}]"))


def records(*events: tuple[int, str, object]) -> list[Record]:
    """Return records of the run one, a second apart."""
    return [
        Record(n, "run/one", n, kind, n * 1_000_000, key, b"" if body is None else msgspec.json.encode(body))
        for n, (kind, key, body) in enumerate(events, 1)
    ]


BEGUN = (Kind.RUN_STARTED, "", STARTED)


def owned(build: str = "", attempt: int = 1):
    return (Kind.RUN_OWNED, "", Owned("w", 1, attempt, build))


def step(key: str):
    return (Kind.STEP_COMPLETED, key, 1)


def read(*events):
    return read_history("one", records(*events))


def test_its_version_and_time_are_those_of_the_last_record():
    history = read(BEGUN, owned(), step("a"))
    assert (history.version, history.at, history.began) == (3, 3_000_000, 2_000_000)
    assert [record.key for record in history.records] == ["a"]
    assert read(BEGUN).fresh
    assert not history.fresh


def test_a_generation_begins_with_the_last_record_that_says_so():
    continued = Continued(STARTED, 1, 7, inbox=4, seen=["m"], spent=Cost(tokens=9), build="v1")
    begins = (Kind.RUN_CONTINUED, "", continued)
    history = read(BEGUN, owned(), step("a"), begins)
    assert (history.since, list(history.records), list(history.seen)) == (3, [], ["m"])
    assert history.books.taken[""] == Cost(tokens=9)
    assert (history.fresh, history.build, history.began) == (False, "v1", 4_000_000)
    later = read(BEGUN, begins, step("a"), begins, step("b"))
    assert [record.key for record in later.records] == ["b"]


@pytest.mark.parametrize("first", [(), (step("a"),)])
def test_a_history_without_a_beginning_is_damaged(first):
    with pytest.raises(StoreCorrupt, match="does not begin with its start"):
        read(*first)


def test_progress_makes_earlier_deaths_forgotten_and_a_take_over_does_not():
    assert read(BEGUN, owned(attempt=1), owned(attempt=2)).owned == 2
    assert read(BEGUN, owned(attempt=1), owned(attempt=2), step("a")).owned == 0


def test_only_a_request_to_cancel_cancels():
    signal = (Kind.SIGNAL_RECEIVED, "m", {"name": "go"})
    assert not read(BEGUN, owned(), signal).cancelling
    assert read(BEGUN, owned(), signal, (Kind.CANCEL_REQUESTED, "c", CancelRequest("enough"))).cancelling
    assert read(BEGUN, owned(), (Kind.CANCEL_REQUESTED, "c", CancelRequest("enough")), signal).cancelling


@pytest.mark.parametrize(
    ("builds", "since"),
    [(("v1", "v1"), -1), (("v1", "v2"), 1), (("", ""), 1), (("v1", ""), 1), (("", "v1"), 1)],
)
def test_patches_are_given_from_where_other_code_went_on(builds, since):
    """Code without a name may be other code each time."""
    first, second = builds
    assert read(BEGUN, owned(first), step("a"), owned(second)).patches.since == since


def test_an_intent_of_which_somebody_said_what_became_is_settled():
    intended = (Kind.STEP_INTENDED, "pay", Intended("pay", "k"))
    answered = (Kind.EFFECT_RESOLVED, "pay", Resolved("not_done", mail="m"))
    assert not read(BEGUN, owned(), intended).intents["pay"].settled
    history = read(BEGUN, owned(), intended, answered)
    assert (history.intents["pay"].settled, list(history.seen)) == (True, ["m"])
    assert read(BEGUN, owned(), answered).intents == {}
    assert read(BEGUN, owned(), intended, step("pay")).intents == {}


def mail(*letters: tuple[int, str]) -> list[Record]:
    return records(*((kind, key, None) for kind, key in letters))


def test_a_wish_that_was_answered_is_none():
    """Else a run that kills its workers would be taken again and again once it was resumed."""
    letters = mail((Kind.RESUME_SENT, "m1"), (Kind.CANCEL_SENT, "c1"))
    assert wishes(read(BEGUN, owned()), letters) == ["m1", "for c1"]
    resumed = [(Kind.RUN_RESUMED, key, None) for key in ("m1", "for c1")]
    assert wishes(read(BEGUN, owned(), *resumed), letters) == []


def test_of_a_paused_run_only_later_wishes_count():
    letters = mail((Kind.RESUME_SENT, "m1"), (Kind.PAUSE_SENT, "p"), (Kind.RESUME_SENT, "m2"))
    paused = read(BEGUN, owned(), (Kind.RUN_PAUSED, "p", None))
    assert (paused.paused, list(paused.seen), wishes(paused, letters)) == ("p", ["p"], ["m2"])
    assert read(BEGUN, (Kind.RUN_PAUSED, "p", None), (Kind.RUN_RESUMED, "m2", None)).paused == ""


def test_a_pause_that_was_taken_back_is_none():
    pause, resume = (Kind.PAUSE_SENT, "p"), (Kind.RESUME_SENT, "m")
    assert pause_in(mail(pause), ()) == "p"
    assert pause_in(mail(pause), ("p",)) is None
    assert pause_in(mail(pause, resume), ()) is None
    assert pause_in(mail(resume, pause), ()) == "p"
