"""Exceptions survive as data: what is caught before a restart is caught after it."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from reprise.kernel import errors
from reprise.kernel.errors import RepriseError, StepFailed, ToolError
from reprise.kernel.events import ErrorValue
from reprise.kernel.failures import decode_error, encode_error, register_error

BUILTIN = sorted(
    {c for c in vars(builtins).values() if isinstance(c, type) and issubclass(c, BaseException)},
    key=lambda c: c.__name__,
)
OURS = sorted(
    {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, RepriseError)},
    key=lambda c: c.__name__,
)


@register_error
class Declined(Exception):
    """An exception whose constructor wants something else than it leaves in args."""

    def __init__(self, code: int, *, retry_after: float) -> None:
        super().__init__(f"declined with {code}")
        self.code = code
        self.retry_after = retry_after


@register_error
class Slotted(Exception):
    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def __str__(self) -> str:
        return f"at {self.where}"


class Unregistered(Exception):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def over_the_wire(value: ErrorValue) -> ErrorValue:
    return msgspec.json.decode(msgspec.json.encode(value), type=ErrorValue)


def check_idempotent(error: BaseException) -> BaseException:
    first = over_the_wire(encode_error(error))
    decoded = decode_error(first)
    assert encode_error(raised(decoded)) == first
    assert encode_error(decode_error(over_the_wire(encode_error(decoded)))) == first
    return decoded


def make(cls: type[BaseException]) -> BaseException:
    if issubclass(cls, UnicodeDecodeError):
        return cls("utf-8", b"\xff", 0, 1, "invalid start byte")
    if issubclass(cls, UnicodeEncodeError):
        return cls("ascii", "é", 0, 1, "not in range")
    if issubclass(cls, UnicodeTranslateError):
        return cls("é", 0, 1, "why")
    if issubclass(cls, BaseExceptionGroup):
        return cls("several", [ValueError(1), KeyError("a")])
    return cls("what happened")


@pytest.mark.parametrize("cls", BUILTIN, ids=lambda c: c.__name__)
def test_every_builtin_exception_arrives_as_itself(cls: type[BaseException]) -> None:
    decoded = check_idempotent(make(cls))
    assert type(decoded) is type(make(cls))
    assert str(decoded)


@pytest.mark.parametrize("cls", OURS, ids=lambda c: c.__name__)
def test_every_error_of_reprise_keeps_message_and_hint(cls: type[RepriseError]) -> None:
    code = ("upstream",) if issubclass(cls, ToolError) else ()
    decoded = check_idempotent(cls(*code, "It broke.", hint="Mend it."))
    assert type(decoded) is cls
    assert isinstance(decoded, RepriseError)
    assert (decoded.what, decoded.hint, str(decoded)) == ("It broke.", "Mend it.", "It broke. Mend it.")


def test_attributes_come_back_though_no_constructor_runs() -> None:
    decoded = check_idempotent(Declined(51, retry_after=2.5))
    assert isinstance(decoded, Declined)
    assert (decoded.code, decoded.retry_after, str(decoded)) == (51, 2.5, "declined with 51")
    slotted = check_idempotent(Slotted("home"))
    assert isinstance(slotted, Slotted)
    assert str(slotted) == "at home"


def test_what_the_interpreter_keeps_in_slots_comes_back() -> None:
    error = FileNotFoundError(2, "No such file", "/no/such")
    decoded = check_idempotent(error)
    assert isinstance(decoded, FileNotFoundError)
    assert (decoded.errno, decoded.filename, str(decoded)) == (2, "/no/such", str(error))
    stop = check_idempotent(StopIteration(3))
    assert isinstance(stop, StopIteration)
    assert stop.value == 3


def test_an_unknown_class_arrives_as_step_failed_and_leaves_as_itself() -> None:
    decoded = check_idempotent(Unregistered("x", 3))
    assert isinstance(decoded, StepFailed)
    assert decoded.type.endswith("test_failures.Unregistered")
    assert decoded.message == "('x', 3)"
    assert "register_error" in str(decoded)


def test_subclasses_of_reprise_errors_need_no_registration() -> None:
    class Local(RepriseError):
        """A class defined after the codec was loaded."""

    assert type(check_idempotent(Local("x"))) is Local
    assert encode_error(Local("x")).type.startswith(__name__)


def test_groups_keep_their_members_in_order() -> None:
    group = ExceptionGroup(
        "many", [ValueError(1), ExceptionGroup("inner", [Unregistered("u")]), Declined(3, retry_after=1)]
    )
    decoded = check_idempotent(group)
    assert isinstance(decoded, ExceptionGroup)
    assert decoded.message == "many"
    assert [type(e) for e in decoded.exceptions] == [ValueError, ExceptionGroup, Declined]


def test_notes_are_kept_also_those_added_after_arrival() -> None:
    error = ValueError("x")
    error.add_note("first")
    decoded = check_idempotent(error)
    decoded.add_note("second")
    assert encode_error(decoded).notes == ["first", "second"]


def test_the_tail_names_the_last_three_frames() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("x")

    try:
        deep(5)
    except ValueError as error:
        lines = encode_error(error).traceback.splitlines()
        assert len(lines) == 3
        assert all("test_failures.py" in line and "deep" in line for line in lines)


@pytest.mark.parametrize(
    "error",
    [
        Mute(),
        ValueError(object()),
        ValueError("\ud800"),
        ValueError(float("nan"), 2**300, b"x", [1]),
        OSError(),
        ImportError(),
    ],
)
def test_encoding_never_fails(error: BaseException) -> None:
    check_idempotent(error)


def test_arguments_are_kept_where_json_has_them_and_spelled_where_not() -> None:
    args = encode_error(ValueError(3, True, None, 1.5, "s", [1], float("inf"))).args
    assert args == [3, True, None, 1.5, "s", "[1]", "inf"]
    assert [type(a) for a in args[:3]] == [int, bool, type(None)]


def test_attributes_that_are_not_plain_are_left_out() -> None:
    error = ValueError("x")
    error.when, error.broken, error.count = object(), "\ud800", 3  # type: ignore[attr-defined]
    assert encode_error(error).state == {"count": 3}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(
    st.sampled_from([ValueError, OSError, KeyError, Declined, Slotted, Unregistered, SyntaxError]),
    st.lists(scalars),
)
def test_encoding_is_idempotent_whatever_the_arguments(cls: Any, args: list[Any]) -> None:
    error = Exception.__new__(cls) if cls is not OSError else OSError()
    error.args = tuple(args)
    check_idempotent(error)


def test_names_of_our_errors_do_not_depend_on_the_module() -> None:
    assert encode_error(errors.StaleToken("x")).type == "reprise.StaleToken"
    assert encode_error(ValueError("x")).type == "ValueError"


def test_a_registered_class_is_found_in_a_new_process() -> None:
    value = encode_error(Declined(7, retry_after=0.5))
    code = (
        "import sys, msgspec; sys.path[:0] = {path!r}; import test_failures as t\n"
        "e = t.decode_error(msgspec.json.decode({data!r}, type=t.ErrorValue)); print(type(e).__name__, e.code)"
    )
    renamed = msgspec.structs.replace(value, type="test_failures.Declined")
    script = code.format(
        path=[*sys.path, __file__.rpartition("/")[0]], data=json.dumps(msgspec.to_builtins(renamed))
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Declined", "7"]
