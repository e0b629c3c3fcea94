"""Durations, timeouts, retries, faults and priorities."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from reprise.kernel import errors
from reprise.kernel.errors import ConfigurationError, OutcomeUnknownStep, UnknownOption
from reprise.kernel.policy import (
    Fault,
    Retry,
    Timeout,
    days,
    fault,
    hours,
    minutes,
    retry_after,
    seconds,
    weeks,
)
from reprise.kernel.priority import Priority

TRANSIENT, PERMANENT, UNKNOWN = Fault.TRANSIENT, Fault.PERMANENT, Fault.UNKNOWN


class Answered(Exception):
    """An HTTP error as clients raise it."""

    def __init__(self, status: int, **headers: str) -> None:
        self.response = SimpleNamespace(
            status_code=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


def test_durations_are_seconds() -> None:
    assert seconds(timedelta(minutes=1, milliseconds=500)) == 60.5
    assert [minutes(2), hours(1), days(1), weeks(1)] == [120, 3600, 86400, 604800]


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "5", None, timedelta(seconds=-1)])
def test_what_is_no_duration_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl is"):
        seconds(value, "ttl")


def test_a_timeout_bounds_attempt_and_total() -> None:
    assert Timeout.parse(timedelta(seconds=5)) == Timeout(attempt=5)
    assert Timeout.parse(None).left(1e9) is None
    assert Timeout.parse(5).left(1e9) == 5
    assert Timeout.parse(Timeout(total=10)).left(4) == 6
    assert Timeout(attempt=3, total=10).left(4) == 3
    assert Timeout(attempt=3, total=10).left(11) == 0


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 3),
        ({"attempts": 1}, 1),
        ({"max_attempts": 5}, 5),
        ({"max_retries": 5}, 6),
        ({"retries": 0}, 1),
        ({"retry_count": 3}, 4),
        ({"attempts": 4, "max_retries": 3}, 4),
    ],
)
def test_attempts_count_the_first_try(options: dict[str, int], attempts: int) -> None:
    assert Retry(**options).attempts == attempts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attempts": 3, "retries": 3}, "attempts=3 and retries=3 disagree"),
        ({"attempts": 0}, "attempts is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"attempts": 2.5}, "attempts is 2.5"),
        ({"attempts": True}, "attempts is True"),
        ({"backoff": -1}, "backoff is -1"),
        ({"factor": 0.5}, "factor is 0.5"),
        ({"jitter": "half"}, "jitter is 'half'"),
    ],
)
def test_wrong_numbers_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Retry(**options)


def test_a_typo_names_the_nearest_option() -> None:
    with pytest.raises(UnknownOption, match="Did you mean 'max_retries'"):
        Retry(max_retrys=3)  # type: ignore[call-arg]


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1e6), st.floats(1, 1e3), st.floats(0, 1e6))
def test_a_delay_lies_between_nothing_and_the_longest(
    n: int, u: float, backoff: float, factor: float, most: float
) -> None:
    full = Retry(backoff=backoff, factor=factor, max_delay=most)
    whole = Retry(backoff=backoff, factor=factor, max_delay=most, jitter="none")
    assert 0 <= full.delay(n, u) <= whole.delay(n, u) <= most
    assert whole.delay(n + 1, u) >= whole.delay(n, u)


def test_waits_double() -> None:
    assert [Retry(jitter="none").delay(n, 0.3) for n in range(1, 5)] == [0.5, 1, 2, 4]
    assert Retry().delay(2, 0.25) == 0.25


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (Answered(429, Retry_After="7"), 7),
        (Answered(429, retry_after="0.5"), 0.5),
        (Answered(429, retry_after_ms="1500"), 1.5),
        (
            Answered(503, Retry_After="Wed, 01 Apr 2026 10:00:30 GMT", Date="Wed, 01 Apr 2026 10:00:00 GMT"),
            30,
        ),
        (Answered(503, Retry_After="Wed, 01 Apr 2026 10:00:30 GMT"), None),
        (Answered(503, Retry_After="soon"), None),
        (Answered(503, Retry_After="nan"), None),
        (Answered(503), None),
        (ValueError(), None),
        (None, None),
    ],
)
def test_the_wish_of_the_other_side_is_read(error: BaseException | None, wanted: float | None) -> None:
    assert retry_after(error) == wanted


def test_an_attribute_of_the_error_is_a_wish_too() -> None:
    error = ConnectionError()
    error.retry_after = timedelta(seconds=90)  # type: ignore[attr-defined]
    assert retry_after(error) == 90
    assert 90 <= Retry(max_delay=10).delay(1, 1.0, error) <= 91
    assert Retry().delay(1, 0.0, error) == 90


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError(), TRANSIENT),
        (TimeoutError(), TRANSIENT),
        (OSError(5, "io"), TRANSIENT),
        (RuntimeError("?"), TRANSIENT),
        (errors.StepTimeout("x"), TRANSIENT),
        (errors.StoreLocked("x"), TRANSIENT),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), TRANSIENT),
        (Answered(500), TRANSIENT),
        (Answered(429), TRANSIENT),
        (ExceptionGroup("g", [OSError(), TimeoutError()]), TRANSIENT),
        (Answered(404), PERMANENT),
        (KeyError("a"), PERMANENT),
        (TypeError(), PERMANENT),
        (ValueError(), PERMANENT),
        (ZeroDivisionError(), PERMANENT),
        (NotImplementedError(), PERMANENT),
        (FileNotFoundError(), PERMANENT),
        (PermissionError(), PERMANENT),
        (ModuleNotFoundError(), PERMANENT),
        (errors.CodecError("x"), PERMANENT),
        (errors.NonDeterminismError("x"), PERMANENT),
        (errors.UnknownOption("x"), PERMANENT),
        (KeyboardInterrupt(), PERMANENT),
        (asyncio.CancelledError(), PERMANENT),
        (
            ExceptionGroup("g", [OSError(), ExceptionGroup("h", [OutcomeUnknownStep("x"), KeyError(1)])]),
            PERMANENT,
        ),
        (OutcomeUnknownStep("x"), UNKNOWN),
        (errors.OutcomeUnknown("x"), UNKNOWN),
        (ExceptionGroup("g", [OSError(), OutcomeUnknownStep("x")]), UNKNOWN),
    ],
    ids=repr,
)
def test_faults(error: BaseException, kind: Fault) -> None:
    assert fault(error) is kind
    assert Retry().classify(error) is kind


def test_the_user_says_otherwise() -> None:
    only = Retry(retry_on=(KeyError, TimeoutError))
    assert [only.classify(e) for e in (KeyError(), OSError(), OutcomeUnknownStep("x"))] == [
        TRANSIENT,
        PERMANENT,
        UNKNOWN,
    ]
    but = Retry(retry_on=OSError, give_up_on=lambda e: isinstance(e, ConnectionError))
    assert [but.classify(e) for e in (OSError(), ConnectionError())] == [TRANSIENT, PERMANENT]
    own = Retry(classify=lambda e: UNKNOWN if isinstance(e, OSError) else None)
    assert [own.classify(e) for e in (OSError(), KeyError(), RuntimeError())] == [
        UNKNOWN,
        PERMANENT,
        TRANSIENT,
    ]


def test_equal_retries_are_equal() -> None:
    assert Retry(4) == Retry(retries=3)
    assert hash(Retry(4)) == hash(Retry(retries=3))
    assert Retry(4) != Retry(4, backoff=2)
    assert repr(Retry(4)) == "Retry(attempts=4, backoff=0.5, max_delay=60.0)"


def test_priorities_are_named() -> None:
    assert (
        Priority.parse("Critical")
        is Priority.parse(Priority.CRITICAL)
        is Priority.parse(4)
        is Priority.CRITICAL
    )
    assert sorted(Priority, reverse=True) == [
        Priority.parse(n) for n in ("critical", "high", "normal", "low", "background")
    ]
    with pytest.raises(UnknownOption, match="Did you mean 'normal'"):
        Priority.parse("norml")
    with pytest.raises(UnknownOption):
        Priority.parse(9)
