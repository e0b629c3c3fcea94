"""Arguments are written by the types of their parameters, read loosely from text, and fingerprinted without fail."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Awaitable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.arguments import Arguments, fingerprint
from reprise.kernel.errors import CodecError, ConfigurationError, UnknownOption


@dataclasses.dataclass
class Page:
    url: str
    seen: date


class Client:
    """What JSON does not know."""

    async def fetch(self, url: str, *, depth: int = 1) -> Page: ...


def everything(
    first: date,
    /,
    second: Page,
    *rest: Path,
    named: timedelta,
    maybe: set[int] | None = None,
    **options: tuple[int, ...],
) -> Page: ...


def simple(
    path: Path, depth: int = 1, deep: bool = False, names: list[int] | None = None, note=""
) -> None: ...  # type: ignore[no-untyped-def]


DAY = date(2026, 2, 1)


def test_each_kind_of_parameter_is_written_by_its_type() -> None:
    arguments = Arguments(everything)
    args = (DAY, Page("u", DAY), Path("a"), Path("b"))
    kwargs = {"named": timedelta(1), "maybe": {1, 2}, "other": (1, 2)}
    assert arguments.decode(arguments.encode(args, kwargs)) == (args, kwargs)
    assert arguments.returns is Page


def test_self_of_a_bound_method_is_no_parameter() -> None:
    arguments = Arguments(Client().fetch)
    assert arguments.encode(("u",), {"depth": 2}) == b'[["u"],{"depth":2}]'
    assert arguments.returns is Page


def test_what_a_decorator_wraps_says_the_types() -> None:
    @functools.wraps(simple)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    arguments = Arguments(wrapper)
    assert arguments.decode(arguments.encode((Path("a"), 2), {})) == ((Path("a"), 2), {})
    assert arguments.returns is type(None)


def test_a_callable_without_python_code_takes_plain_values() -> None:
    arguments = Arguments(len)
    assert arguments.decode(arguments.encode(([1],), {})) == (([1],), {})
    assert arguments.returns is Any


def test_annotations_may_name_what_is_defined_later() -> None:
    arguments = Arguments(uses_later)
    assert arguments.decode(arguments.encode((Later(DAY),), {})) == ((Later(DAY),), {})


def uses_later(value: Later) -> Awaitable[Later]: ...


@dataclasses.dataclass
class Later:
    day: date


def test_an_awaitable_return_is_what_it_gives() -> None:
    assert Arguments(uses_later).returns is Later


def never() -> NoReturn:
    raise NotImplementedError


def test_a_function_that_never_returns_declares_nothing() -> None:
    assert Arguments(never).returns is Any


def test_a_local_class_counts_as_not_declared_and_the_error_says_why() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    def takes(day: date, local: Local) -> None: ...

    arguments = Arguments(takes)
    assert arguments.unresolved == {"local"}
    assert arguments.decode(arguments.encode((DAY, 1), {})) == ((DAY, 1), {})
    with pytest.raises(CodecError, match=r"Parameter 'local' .*module level"):
        arguments.encode((DAY, Local(1)), {})


def takes_client(url: str, client: Client) -> None: ...


def test_a_value_that_cannot_be_written_names_its_parameter() -> None:
    with pytest.raises(CodecError, match=r"Parameter 'client' of takes_client: .*has no JSON form"):
        Arguments(takes_client).encode(("u", Client()), {})
    with pytest.raises(CodecError, match=r"Parameter 'depth' of simple: .*str where int"):
        Arguments(simple).encode((Path("x"), "1"), {})


def test_recorded_arguments_of_another_signature_name_the_parameter() -> None:
    with pytest.raises(CodecError, match="Parameter 'depth' of simple"):
        Arguments(simple).decode(b'[["p","x"],{}]')
    with pytest.raises(CodecError, match="not a recorded call"):
        Arguments(simple).decode(b"{}")


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "misses 'path'"),
        ((1, 2, 3, 4, 5, 6), {}, "takes 5 positional"),
        ((Path("x"),), {"path": Path("y")}, "multiple values"),
        ((Path("x"),), {"dept": 1}, "unexpected keyword argument 'dept'"),
    ],
)
def test_a_call_that_python_would_refuse_is_refused(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Arguments(simple).encode(args, kwargs)


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ({"path": "a/b", "depth": "3", "deep": "true"}, {"path": Path("a/b"), "depth": 3, "deep": True}),
        ({"path": "a", "names": "1, 2"}, {"path": Path("a"), "names": [1, 2]}),
        ({"path": "a", "names": ["1", 2]}, {"path": Path("a"), "names": [1, 2]}),
        ({"path": "a", "names": "[1]"}, {"path": Path("a"), "names": [1]}),
        ({"path": "a", "note": "[1]"}, {"path": Path("a"), "note": "[1]"}),
    ],
)
def test_text_is_read_as_the_parameter_declares(
    given_values: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert Arguments(simple).bind_mapping(given_values) == ((), expected)


def test_what_must_be_given_by_position_is() -> None:
    values = {
        "first": "2026-02-01",
        "second": '{"url":"u","seen":"2026-02-01"}',
        "named": "PT1S",
        "rest": "a,b",
        "x": "1",
    }
    args, kwargs = Arguments(everything).bind_mapping(values)
    assert args == (DAY, Page("u", DAY), Path("a"), Path("b"))
    assert kwargs == {"named": timedelta(seconds=1), "x": (1,)}


def test_wrong_input_names_the_parameter_and_the_nearest_one() -> None:
    with pytest.raises(UnknownOption, match=r"no 'dept'. Did you mean 'depth'"):
        Arguments(simple).bind_mapping({"path": "x", "dept": 1})
    with pytest.raises(ConfigurationError, match=r"needs path\."):
        Arguments(simple).bind_mapping({})
    with pytest.raises(ConfigurationError, match=r"Parameter 'depth' of simple\(\): 'x' is not int"):
        Arguments(simple).bind_mapping({"path": "x", "depth": "x"})


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.just(Client()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner)
        | st.frozensets(st.integers() | st.text() | st.none())
    ),
)


@given(st.text(), st.lists(values), st.dictionaries(st.text(), values))
def test_a_fingerprint_never_fails_and_is_63_bits(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    print_ = fingerprint(name, tuple(args), kwargs)
    assert 0 < print_ < 2**63
    assert print_ == Arguments(simple).fingerprint(name, tuple(args), dict(reversed(kwargs.items())))


def test_a_fingerprint_tells_names_and_arguments_apart() -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("f", (), {}),
        ("g", (), {}),
        ("f", (1,), {}),
        ("f", (1, 2), {}),
        ("f", (2, 1), {}),
        ("f", (), {"a": 1}),
        ("f", (DAY,), {}),
        ("f", (Page("u", DAY),), {}),
        ("f", (Page("v", DAY),), {}),
        ("f", (Client(),), {}),
        ("f", ({1, "a"},), {}),
        ("f", ({1, "b"},), {}),
        ("f", ({(1, 2): 3},), {}),
        ("f", ({(1, 2): 4},), {}),
        ("f", (Path("a"),), {}),
    ]
    assert len({fingerprint(*call) for call in calls}) == len(calls)
    assert fingerprint("f", (Client(),), {}) == fingerprint("f", (Client(),), {})


def test_a_value_that_contains_itself_has_a_fingerprint() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert fingerprint("f", (loop,), {}) == fingerprint("f", (loop,), {})


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    code = (
        "from pathlib import Path; from decimal import Decimal\n"
        "from reprise.kernel.arguments import fingerprint as f\n"
        "class K: pass\n"
        "k = K()\n"
        "print(f('x', ({'a','b','c','d'}, {1,'a',None}, {K, k}, {'k': {(1,): {k, 3}}}, Path('p'), print), {'z': 1, 'a': Decimal('1.0')}))"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(prints) == 1
