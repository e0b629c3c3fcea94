"""Rules for writes that compete."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.errors import UnknownOption
from reprise.kernel.writes import (
    WRITE_RULES,
    Held,
    Resolution,
    Write,
    WriteRule,
    merge,
    merged_values,
    write_rule,
)

values = st.recursive(
    st.integers(0, 3) | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
RULES = list(WRITE_RULES.items())


@pytest.mark.parametrize(("name", "rule"), RULES)
@given(value=values, new=values, version=st.integers(1, 5))
def test_who_knows_what_is_there_writes_it(name: str, rule: WriteRule, value, new, version) -> None:
    assert rule(Held(value, version), Write(new, expected=version)) == Resolution(new, applied=True)
    for expected in (None, 0, version):
        assert rule(None, Write(new, expected)) == Resolution(new, applied=True)


@pytest.mark.parametrize(
    ("name", "expected", "resolution"),
    [
        ("last_write_wins", None, Resolution("new", applied=True)),
        ("last_write_wins", 2, Resolution("new", applied=True, conflict=True)),
        ("first_write_wins", None, Resolution("old", applied=False, conflict=True)),
        ("first_write_wins", 2, Resolution("old", applied=False, conflict=True)),
        ("merge", None, Resolution("new", applied=True, conflict=True)),
        ("merge", 2, Resolution("new", applied=True, conflict=True)),
        ("reject", None, Resolution("old", applied=False, conflict=True, refused=True)),
        ("reject", 2, Resolution("old", applied=False, conflict=True, refused=True)),
    ],
)
def test_who_does_not_know_is_under_the_rule(name: str, expected: int | None, resolution: Resolution) -> None:
    assert write_rule(name)(Held("old", 3), Write("new", expected)) == resolution


@given(values, values)
def test_a_merge_keeps_every_key_and_the_newer_value_of_each(old, new) -> None:
    merged = merged_values(old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        assert merged.keys() == old.keys() | new.keys()
        for key, value in merged.items():
            if key not in new:
                assert value == old[key]
            else:
                assert value == merged_values(old.get(key), new[key])
    else:
        assert merged == new


@given(values, values)
def test_the_same_merged_once_more_changes_nothing(old, new) -> None:
    once = merge(Held(old, 1), Write(new))
    again = merge(Held(once.value, 2), Write(new))
    assert again == Resolution(once.value, applied=False, conflict=True)


def test_a_merge_leaves_what_it_was_given_alone() -> None:
    old, new = {"a": {"x": 1}}, {"a": {"y": 2}}
    assert merged_values(old, new) == {"a": {"x": 1, "y": 2}}
    assert (old, new) == ({"a": {"x": 1}}, {"a": {"y": 2}})


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="last_write_wins"):
        write_rule("last_write")
