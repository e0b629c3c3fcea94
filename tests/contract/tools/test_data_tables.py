"""Tools for tables: next to what a few naive loops say, whatever the values; and what is refused instead of guessed."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from reprise import ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run

REGISTRY = ToolRegistry(create_builtin_tools_library())


def call(name: str, **arguments: Any) -> Any:
    return run(lambda: REGISTRY.execute_tool(name, arguments), seed=1)


def refusal(name: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call(name, **arguments)
    return caught.value


# ---------------------------------------------------------------- values, and what they are to a naive reader

NAMES = ["a", "b", "größe", "列", "a b", ""]
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, -2.5, 1e300, 2**53, 2**63, 2**64 + 1, -(2**70), float(2**63)]),
)
TEXTS = st.sampled_from(["", "a", "B", "ä", "1", "true", "null", "\U0001f600", "\uffff"])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
)


def tables(values: Any = VALUES, most: int = 8) -> Any:
    return st.lists(st.dictionaries(st.sampled_from(NAMES), values, max_size=4), max_size=most)


def kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(type(value).__name__)
    return "number" if isinstance(value, int | float) else type(value).__name__


def same(one: Any, two: Any) -> bool:
    if kind(one) != kind(two):
        return False
    if isinstance(one, list):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return one == two


def known(rows: list[Any]) -> list[str]:
    names: list[str] = []
    for row in rows:
        names += [name for name in row if name not in names]
    return names


def test_the_naive_reader_knows_kinds():
    assert same(1, 1.0)
    assert not same(1, True)
    assert not same(0, False)
    assert not same([1, None], [1])
    assert same({"a": [1]}, {"a": [1.0]})


# ---------------------------------------------------------------- filter

ORDER = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def naive_filter(rows: list[Any], field: str, op: str, value: Any) -> Any:
    """Return the rows, or None where it is refused."""
    if rows and field not in known(rows):
        return None
    if op in ORDER and kind(value) not in ("number", "str"):
        return None
    found = []
    for row in rows:
        each = row.get(field)
        if op == "==":
            holds = same(each, value)
        elif op == "!=":
            holds = not same(each, value)
        elif each is None:
            holds = False
        elif kind(each) != kind(value):
            return None
        else:
            holds = ORDER[op](each, value)
        if holds:
            found.append(row)
    return found


@given(tables(), st.sampled_from(NAMES), st.sampled_from(["==", "!=", *ORDER]), VALUES)
def test_a_filter_keeps_what_naive_loops_keep(rows, field, op, value):
    where = [{"field": field, "op": op, "value": value}]
    expected = naive_filter(rows, field, op, value)
    if field == "":
        assert "either a field" in str(refusal("data_filter", rows=rows, where=where))
    elif expected is None:
        assert refusal("data_filter", rows=rows, where=where).code == "invalid_input"
    else:
        assert call("data_filter", rows=rows, where=where) == expected


@given(tables(st.integers(0, 2)), st.integers(0, 2), st.integers(0, 2))
def test_conditions_are_joined_as_logic_has_it(rows, low, high):
    rows = [{"a": 0, "b": 0}, *rows]
    one, two = {"field": "a", "op": ">=", "value": low}, {"field": "b", "op": "==", "value": high}
    a = [row.get("a") is not None and row["a"] >= low for row in rows]
    b = [row.get("b") == high for row in rows]

    def kept(*where: Any) -> Any:
        return call("data_filter", rows=rows, where=list(where))

    both = list(zip(rows, a, b, strict=True))
    assert kept(one, two) == kept({"all": [one, two]}) == [row for row, x, y in both if x and y]
    assert kept({"any": [one, two]}) == [row for row, x, y in both if x or y]
    assert kept({"not": {"any": [one, two]}}) == [row for row, x, y in both if not (x or y)]
    assert kept({"all": []}) == rows
    assert kept({"any": []}) == []


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({"field": "n", "op": "in", "value": [1.0, None]}, [0, 3]),
        ({"field": "n", "op": "not_in", "value": [1, 2]}, [2, 3]),
        ({"field": "n", "op": "is_null"}, [3]),
        ({"field": "n", "op": "not_null"}, [0, 1, 2]),
        ({"field": "t", "op": "contains", "value": "b"}, [0, 1]),
        ({"field": "t", "op": "starts_with", "value": "a"}, [0]),
        ({"field": "t", "op": "ends_with", "value": "b"}, [0, 1]),
        ({"field": "l", "op": "contains", "value": 1}, [0]),
        ({"field": "n", "op": "<", "other": "m"}, [0]),
        ({"field": "n", "op": "==", "other": "m"}, [1, 3]),
        ({"field": "n", "op": "!=", "other": "m"}, [0, 2]),
        ({"field": "n", "value": 2}, [1]),
    ],
)
def test_each_comparison_does_what_it_is_called(condition, kept):
    rows = [
        {"n": 1, "m": 2, "t": "ab", "l": [1, True]},
        {"n": 2, "m": 2, "t": "b", "l": [True]},
        {"n": 3, "m": 1, "t": "", "l": []},
        {"n": None, "l": ["1"]},
    ]
    assert call("data_filter", rows=rows, where=[condition]) == [rows[at] for at in kept]


@pytest.mark.parametrize(
    ("where", "field", "says"),
    [
        ([{"field": "agee", "value": 1}], "$.where[0].field", "Did you mean 'age'?"),
        (
            [{"field": "age", "op": ">", "value": "30"}],
            "$.rows[0].age",
            "a number among values that are texts",
        ),
        ([{"field": "age", "op": ">", "value": None}], "$.where[0].value", "needs a number or a text"),
        ([{"field": "age", "op": ">", "value": True}], "$.where[0].value", "needs a number or a text"),
        ([{"field": "age", "op": "in", "value": 3}], "$.where[0].value", "needs a list"),
        ([{"field": "age", "op": "contains", "value": 3}], "$.rows[0].age", "cannot be asked contains"),
        ([{"field": "name", "op": "contains", "value": 3}], "$.where[0].value", "needs a text"),
        ([{"field": "age", "op": ">"}], "$.where[0].value", "needs a value"),
        ([{"field": "age", "op": "=", "value": 1}], "$.where[0].op", "Invalid enum value"),
        ([{"field": "age", "value": 1, "valeu": 2}], "$.where[0]", "unknown field `valeu`"),
        ([{"field": "age", "value": 1, "any": []}], "$.where[0]", "either a field, or any"),
        ([{"field": "age", "value": 1, "other": "name"}], "$.where[0]", "either value or other"),
        ([{"field": "age", "op": "<", "other": "name"}], "$.rows[0].name", "among values that are numbers"),
        ([{"field": "age", "op": "in", "other": "name"}], "$.where[0].op", "needs a value, not a column"),
        ([{}], "$.where[0]", "either a field"),
        ([{"not": {"field": "agee", "value": 1}}], "$.where[0].not.field", "agee"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_with_its_place(where, field, says):
    error = refusal("data_filter", rows=[{"name": "Ada", "age": 36}], where=where)
    assert (error.code, error.field) == ("invalid_input", field)
    assert says in str(error)


def test_nothing_is_compared_in_no_rows():
    assert call("data_filter", rows=[], where=[{"field": "x", "op": ">", "value": 1}]) == []


# ---------------------------------------------------------------- sort


def naive_sort(rows: list[Any], by: list[Any]) -> Any:
    """Return the rows, or None where it is refused; by insertion, from the last key to the first."""
    found = list(rows)
    for key in reversed(by):
        values = [row[key["field"]] for row in rows if row.get(key["field"]) is not None]
        if rows and key["field"] not in known(rows):
            return None
        if len({kind(value) for value in values}) > 1 or any(
            isinstance(value, list | dict) for value in values
        ):
            return None
        out: list[Any] = []
        for row in found:
            at = len(out)
            while at and _before(row.get(key["field"]), out[at - 1].get(key["field"]), key):
                at -= 1
            out.insert(at, row)
        found = out
    return found


def _before(one: Any, two: Any, key: Any) -> bool:
    if one is None or two is None:
        first = key["nulls"] == "first"
        return (one is None and two is not None) if first else (two is None and one is not None)
    return one > two if key["desc"] else one < two


IN_ORDER = st.lists(
    st.fixed_dictionaries({}, optional={"a": st.none() | NUMBERS, "b": TEXTS, "größe": st.booleans()}),
    max_size=8,
)
KEYS = st.lists(
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(NAMES[:3]),
            "desc": st.booleans(),
            "nulls": st.sampled_from(["first", "last"]),
        }
    ),
    min_size=1,
    max_size=3,
)


@given(IN_ORDER | tables(), KEYS)
def test_a_sort_is_stable_and_what_insertion_makes(rows, by):
    rows = [{**row, "#": at} for at, row in enumerate(rows)]
    expected = naive_sort(rows, by)
    if expected is None:
        assert refusal("data_sort", rows=rows, by=by).code == "invalid_input"
    else:
        assert call("data_sort", rows=rows, by=by) == expected


def test_what_has_no_order_is_refused_with_its_row():
    error = refusal("data_sort", rows=[{"a": 9}, {}, {"a": "10"}], by=[{"field": "a"}])
    assert error.field == "$.rows[2].a"
    assert "a text among values that are numbers" in str(error)
    error = refusal("data_sort", rows=[{"a": 1}, {"a": True}], by=[{"field": "a"}])
    assert "a boolean among values that are numbers" in str(error)
    assert "a list has no order" in str(refusal("data_sort", rows=[{"a": []}], by=[{"field": "a"}]))
    assert refusal("data_sort", rows=[{"a": 1}], by=[{"field": "b"}]).field == "$.by[0].field"


# ---------------------------------------------------------------- dedupe


def naive_dedupe(rows: list[Any], keys: list[str], keep: str) -> list[Any]:
    def equal(one: Any, two: Any) -> bool:
        return all(same(one.get(name), two.get(name)) for name in keys)

    found = []
    for at, row in enumerate(rows):
        others = [n for n, other in enumerate(rows) if equal(row, other)]
        if at == {"first": others[0], "last": others[-1], "none": at if len(others) == 1 else -1}[keep]:
            found.append(row)
    return found


@given(tables(), st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(["first", "last", "none"]))
def test_what_stands_there_twice_is_left_out(rows, keys, keep):
    assert call("data_dedupe", rows=rows, keep=keep) == naive_dedupe(rows, known(rows), keep)
    keys = sorted(keys)
    if rows and set(keys) - set(known(rows)):
        assert refusal("data_dedupe", rows=rows, keys=keys, keep=keep).code == "invalid_input"
    else:
        assert call("data_dedupe", rows=rows, keys=keys, keep=keep) == naive_dedupe(rows, keys, keep)


# ---------------------------------------------------------------- aggregate and pivot


def exactly(values: list[Any]) -> Any:
    total = sum(map(Fraction, values))
    return int(total) if all(isinstance(value, int) for value in values) else float(total)


def naive_measure(values: list[Any], fn: str) -> Any:
    present = [value for value in values if value is not None]
    if fn == "count":
        return len(present)
    if fn == "list":
        return present
    if fn == "distinct":
        return len(
            [n for n, value in enumerate(present) if not any(same(value, other) for other in present[:n])]
        )
    if not present:
        return None
    if fn == "sum":
        return exactly(present)
    if fn == "mean":
        return exactly(present) / len(present)
    if fn in ("first", "last"):
        return present[0] if fn == "first" else present[-1]
    put = sorted(present)
    if fn == "median":
        half = len(put) // 2
        return put[half] if len(put) % 2 else (put[half - 1] + put[half]) / 2
    return put[0] if fn == "min" else put[-1]


def naive_groups(rows: list[Any], names: list[str]) -> list[list[Any]]:
    groups: list[list[Any]] = []
    for row in rows:
        for group in groups:
            if all(same(group[0].get(name), row.get(name)) for name in names):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


SMALL = st.integers(-(2**40), 2**40) | st.sampled_from([0.5, 0.1, -7.25, 1e10, 3.0])
FNS = ["count", "distinct", "sum", "mean", "median", "min", "max", "first", "last", "list"]


@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"a": SCALARS, "b": VALUES, "n": st.none() | SMALL}), max_size=8
    ),
    st.sampled_from([["a"], ["b"], ["a", "b"], []]),
)
def test_groups_come_to_what_naive_loops_make_of_them(rows, names):
    rows = [*rows, {"a": 1, "b": 2, "n": 3}]
    expected = [
        {name: group[0].get(name) for name in names}
        | {f"n_{fn}": naive_measure([row.get("n") for row in group], fn) for fn in FNS}
        | {"count": len(group)}
        for group in (naive_groups(rows, names) if names else [rows])
    ]
    metrics = [{"fn": fn, "field": "n"} for fn in FNS] + [{"fn": "count"}]
    assert call("data_aggregate", rows=rows, group_by=names, metrics=metrics) == expected


@given(st.lists(st.sampled_from([{}, {"c": None}, {"c": 1}, {"c": "x"}, {"c": True}]), max_size=6), st.data())
def test_a_pivot_has_in_each_cell_what_naive_loops_find(rows, data):
    rows = [{**row, "i": data.draw(st.integers(0, 2)), "v": data.draw(st.none() | SMALL)} for row in rows]
    rows.append({"i": 0, "c": 1, "v": 1})
    headings: list[Any] = []
    for row in rows:
        headings += [] if any(same(row.get("c"), each) for each in headings) else [row.get("c")]
    called = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in headings]
    expected = [
        {"i": group[0]["i"]}
        | {
            name: (naive_measure(found, "sum") if found else None)
            for name, heading in zip(called, headings, strict=True)
            for found in [[row["v"] for row in group if same(row.get("c"), heading)]]
        }
        for group in naive_groups(rows, ["i"])
    ]
    assert call("data_pivot", rows=rows, index=["i"], columns="c", values="v", fn="sum") == expected


def test_sums_are_exact_whatever_their_size():
    rows = [{"n": 2**63}, {"n": 2**63}, {"n": 1}]
    assert call("data_aggregate", rows=rows, metrics=[{"fn": "sum", "field": "n"}]) == [{"n_sum": 2**64 + 1}]
    rows = [{"n": 0.1}] * 10
    assert call("data_aggregate", rows=rows, metrics=[{"fn": "sum", "field": "n"}]) == [{"n_sum": 1.0}]


@pytest.mark.parametrize(
    ("arguments", "code", "field", "says"),
    [
        ({"metrics": [{"fn": "sum", "field": "t"}]}, "invalid_input", "$.rows[1].t", "a text, not a number"),
        (
            {"metrics": [{"fn": "sum", "field": "b"}]},
            "invalid_input",
            "$.rows[0].b",
            "a boolean, not a number",
        ),
        ({"metrics": [{"fn": "max", "field": "t"}]}, "invalid_input", "$.rows[1].t", "a text among values"),
        ({"metrics": [{"fn": "sum"}]}, "invalid_input", "$.metrics[0].field", "sum needs a field"),
        (
            {"metrics": [{"fn": "sun", "field": "n"}]},
            "invalid_input",
            "$.metrics[0].fn",
            "Invalid enum value",
        ),
        ({"metrics": []}, "invalid_input", "$.metrics", "length >= 1"),
        (
            {"metrics": [{"fn": "sum", "field": "nn"}]},
            "invalid_input",
            "$.metrics[0].field",
            "No row has 'nn'",
        ),
        ({"metrics": [{"fn": "sum", "field": "f"}]}, "invalid_input", "", "larger than a float can be"),
        ({"metrics": [{"fn": "count"}, {"fn": "count"}]}, "conflict", "$.metrics", "called 'count'"),
        (
            {"metrics": [{"fn": "sum", "field": "n"}, {"fn": "sum", "field": "n", "as": "x"}]},
            "conflict",
            "$.metrics",
            "asked twice",
        ),
        ({"metrics": [{"fn": "count", "as": "n"}], "group_by": ["n"]}, "conflict", "$.metrics", "called 'n'"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_place(arguments, code, field, says):
    rows = [{"n": 1, "t": 1, "b": True, "f": 1.7e308}, {"n": 2, "t": "2", "b": False, "f": 1.7e308}]
    error = refusal("data_aggregate", rows=rows, **arguments)
    assert (error.code, error.field) == (code, field)
    assert says in str(error)


def test_groups_of_nothing():
    metrics = [{"fn": fn, "field": "n"} for fn in ("sum", "count", "list", "stdev")]
    nothing = {"n_sum": None, "n_count": 0, "n_list": [], "n_stdev": None}
    assert call("data_aggregate", rows=[], metrics=metrics) == [nothing]
    assert call("data_aggregate", rows=[], metrics=metrics, group_by=["a"]) == []
    assert call("data_aggregate", rows=[{"n": None}], metrics=metrics) == [nothing]


@pytest.mark.parametrize(
    ("rows", "options", "code", "says"),
    [
        ([{"i": 1, "c": 1, "v": 1}, {"i": 1, "c": 1, "v": 2}], {}, "conflict", "2 values for one cell"),
        ([{"i": 1, "c": 1, "v": 1}, {"i": 1, "c": "1", "v": 2}], {}, "conflict", "called '1'"),
        ([{"i": 1, "c": "i", "v": 1}], {}, "conflict", "called 'i'"),
        ([{"i": 1, "c": [1], "v": 1}], {}, "invalid_input", "a list cannot be a column"),
        ([{"i": 1, "c": "x" * 300, "v": 1}], {}, "too_large", "300 characters"),
        ([{"i": 1, "c": 1, "v": "x"}], {"fn": "sum"}, "invalid_input", "a text, not a number"),
        ([{"i": 1, "c": 1, "v": 1}], {"index": []}, "invalid_input", "no column"),
    ],
)
def test_a_pivot_that_would_lose_something_is_refused(rows, options, code, says):
    error = refusal("data_pivot", rows=rows, **({"index": ["i"], "columns": "c", "values": "v"} | options))
    assert error.code == code
    assert says in str(error)


# ---------------------------------------------------------------- join


def naive_join(left: list[Any], right: list[Any], how: str) -> Any:
    """Join on ``k``, with nested loops."""
    ours, theirs = known(left), known(right)
    ours = ours if "k" in ours else [*ours, "k"]
    called = {name: f"{name}_right" if name in ours else name for name in theirs if name != "k"}

    def made(one: Any, other: Any) -> Any:
        row = {name: one.get(name) for name in ours}
        row["k"] = one.get("k") if one else other.get("k")
        return row | {to: other.get(name) for name, to in called.items()}

    def meets(one: Any, other: Any) -> bool:
        return one.get("k") is not None and same(one.get("k"), other.get("k"))

    if how in ("semi", "anti"):
        return [one for one in left if any(meets(one, other) for other in right) == (how == "semi")]
    found = []
    for one in left:
        partners = [other for other in right if meets(one, other)]
        found += [made(one, other) for other in partners]
        if not partners and how in ("left", "full"):
            found.append(made(one, {}))
    if how in ("right", "full"):
        found += [made({}, other) for other in right if not any(meets(one, other) for one in left)]
    return found


JOINED = st.lists(st.fixed_dictionaries({"k": SCALARS}, optional={"a": SCALARS, "b": SCALARS}), max_size=6)


@given(JOINED, JOINED, st.sampled_from(["inner", "left", "right", "full", "semi", "anti"]))
def test_a_join_is_what_nested_loops_make(left, right, how):
    kinds = [{kind(row["k"]) for row in rows} - {"NoneType"} for rows in (left, right)]
    if all(kinds) and not kinds[0] & kinds[1]:
        assert "nothing is equal" in str(refusal("data_join", left=left, right=right, on=["k"], how=how))
    else:
        assert call("data_join", left=left, right=right, on=["k"], how=how) == naive_join(left, right, how)


def test_columns_of_a_join():
    left, right = [{"id": 1, "x": 1}], [{"nr": 1.0, "x": 2, "id": 9}]
    assert call("data_join", left=left, right=right, on={"id": "nr"}) == [
        {"id": 1, "x": 1, "x_right": 2, "id_right": 9}
    ]
    error = refusal("data_join", left=[{"id": 1, "x": 1, "x_right": 2}], right=[{"id": 1, "x": 2}], on=["id"])
    assert (error.code, error.field) == ("conflict", "$.suffix")
    assert "Did you mean 'id'?" in str(refusal("data_join", left=left, right=left, on=["idd"]))
    assert "no column to join on" in str(refusal("data_join", left=left, right=left, on=[]))
    assert call("data_join", left=[], right=[{"id": 3}], on=["id"], how="full") == [{"id": 3}]
    assert call("data_join", left=[], right=[], on=["id"]) == []


# ---------------------------------------------------------------- profile


@given(tables())
def test_a_profile_counts_what_is_there(rows):
    found = call("data_profile", rows=rows, top=100)
    assert [column["name"] for column in found] == known(rows)
    for column in found:
        values = [row.get(column["name"]) for row in rows]
        assert column["nulls"] == sum(value is None for value in values)
        assert column["distinct"] == naive_measure(values, "distinct") == len(column["top"])
        assert sum(top["count"] for top in column["top"]) == len(values) - column["nulls"]
        assert sum(column["kinds"].values()) == len(rows)
        for top in column["top"]:
            assert top["count"] == sum(same(value, top["value"]) for value in values)
        kinds = {kind(value) for value in values} - {"NoneType"}
        if kinds == {"number"}:
            assert (column["min"], column["max"]) == (
                naive_measure(values, "min"),
                naive_measure(values, "max"),
            )
        elif len(kinds) > 1:
            assert (column["type"], column["min"], column["mean"]) == ("mixed", None, None)


# ---------------------------------------------------------------- what is no number, and the function itself


def test_what_is_no_number_is_refused_where_it_gets_so_far():
    tools = {tool.name: tool for tool in create_builtin_tools_library()}
    for value in (float("nan"), float("inf")):
        with pytest.raises(ToolError, match=r"\$.rows\[1\].a: (nan|inf) is no number that JSON has"):
            tools["data_sort"](rows=[{"a": 1}, {"a": value}], by=[_key("a")])


def _key(name: str) -> Any:
    from reprise.tools.library.data.filtering import SortKey

    return SortKey(field=name)
