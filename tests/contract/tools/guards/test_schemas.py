"""Schemas that take for ever to check: the same table at each door where a stranger's schema comes in, and the library alone."""

import re
import time
from collections.abc import Callable
from typing import Any

import jsonschema
import msgspec
import pytest
import referencing
import regex
from hypothesis import given, strategies as st

from reprise import ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.guards.patterns import is_too_large
from reprise.tools.guards.schemas import bounded, comparing, size_of, validator_of, without_dialects
from reprise.tools.library.data import schema_rules
from reprise.tools.mcp import schemas
from reprise.tools.mcp.schemas import Foreign
from reprise.tools.openapi import checking
from reprise.tools.openapi.checking import Checker

META = "https://json-schema.org/draft/2020-12/schema"
REDOS = "^(a|a)*$"
HOLDS_ON = "a" * 40 + "!"
NUMBERS = list(range(20_000))
OBJECTS = [{"a": n} for n in range(6_000)]
NAMES = {f"k{n}": n for n in range(2_000)}
BASE = jsonschema.Draft202012Validator


def doubling(level: Callable[[dict[str, str]], Any], levels: int = 40, **more: Any) -> dict[str, Any]:
    """Return a schema each level of which leads twice to the next."""
    defs = {f"d{n}": level({"$ref": f"#/$defs/d{n + 1}"}) for n in range(levels)}
    return {**more, "$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": ["object", "integer"]}}}


def chosen(ref: Any) -> Any:
    return {"if": ref, "then": ref, "else": ref}


ATTACKS: list[tuple[str, str, Any, Any]] = [
    ("each with each", "items that are objects", {"uniqueItems": True}, OBJECTS),
    ("each with each", "items of several kinds", {"uniqueItems": True}, [n if n % 2 else str(n) for n in NUMBERS]),
    ("each with each", "again and again", {"allOf": [{"uniqueItems": True}] * 2_000}, NUMBERS),
    ("each with each", "alternatives", {"items": {"enum": OBJECTS}}, [OBJECTS[-1]] * 6_000),
    ("each with each", "a constant", {"items": {"const": NUMBERS}}, [NUMBERS] * 2_000),
    ("each with each", "in negation", {"allOf": [{"not": {"not": {"uniqueItems": True}}}] * 2_000}, NUMBERS),
    ("each with each", "in what is contained", {"contains": {"enum": OBJECTS}, "minContains": 6_000}, [OBJECTS[-1]] * 6_000),
    ("conditions that double", "if, then, else", doubling(chosen), 1),
    ("conditions that double", "all of", doubling(lambda ref: {"allOf": [ref, ref]}), 1),
    ("conditions that double", "any of", doubling(lambda ref: {"anyOf": [{"allOf": [ref, {"type": "null"}]}, ref]}), 1),
    ("conditions that double", "one of", doubling(lambda ref: {"oneOf": [ref, {"not": ref}]}), 1),
    ("conditions that double", "not", doubling(lambda ref: {"not": {"allOf": [ref, ref]}}), 1),
    ("conditions that double", "of what is left over", doubling(lambda ref: {"allOf": [ref, ref]}, unevaluatedProperties=False), {"a": 1}),
    ("conditions that double", "chosen, of what is left over", doubling(chosen, unevaluatedProperties=False), {"a": 1}),
    ("conditions that double", "of items that are left over", doubling(chosen, unevaluatedItems=False), [1]),
    ("conditions that double", "by a name", doubling(lambda ref: {"dependentSchemas": {"a": {"allOf": [ref, ref]}}}), {"a": 1}),
    ("nothing, many times", "for each item", {"allOf": [{"items": {}}] * 5_000}, NUMBERS),
    ("nothing, many times", "for each name", {"allOf": [{"propertyNames": {}}] * 5_000}, NAMES),
    ("nothing, many times", "for each other name", {"allOf": [{"additionalProperties": {}}] * 5_000}, NAMES),
    ("nothing, many times", "for each that is named", {"allOf": [{"$ref": "#/$defs/p"}] * 5_000, "$defs": {"p": {"properties": {name: {} for name in NAMES}}}}, NAMES),
    ("nothing, many times", "contained", {"allOf": [{"contains": {}, "maxContains": 30_000}] * 5_000}, NUMBERS),
    ("nothing, many times", "names that must be", {"allOf": [{"$ref": "#/$defs/p"}] * 50_000, "$defs": {"p": {"required": list(NAMES)}}}, NAMES),
    ("names that are looked for", "anchors", {"$defs": {f"a{n}": {"$anchor": f"x{n}"} for n in range(2_000)}, "allOf": [{"$ref": f"#x{n}"} for n in range(2_000)]}, 1),
    ("names that are looked for", "ids", {"$defs": {f"a{n}": {"$id": f"http://x/{n}"} for n in range(2_000)}, "allOf": [{"$ref": f"http://x/{n}"} for n in range(2_000)]}, 1),
    ("names that are looked for", "anchors of ids", {"$defs": {f"a{n}": {"$id": f"http://x/{n}", "$anchor": "a"} for n in range(2_000)}, "allOf": [{"$ref": f"http://x/{n}#a"} for n in range(2_000)]}, 1),
    ("other rules", "a dialect within", {"properties": {"a": {"$schema": META, "pattern": REDOS}}}, {"a": HOLDS_ON}),
    ("other rules", "a dialect behind a reference", {"$schema": META, "properties": {"a": {"$ref": "#/$defs/p"}}, "$defs": {"p": {"$schema": META, "pattern": REDOS}}}, {"a": HOLDS_ON}),
    ("other rules", "a dialect in a constant", {"const": {"$schema": META, "pattern": REDOS}, "not": {"$ref": "#/const"}}, HOLDS_ON),
    ("other rules", "all of itself under a dialect", {"$schema": META, "properties": {"a": {"$ref": "#"}}, "patternProperties": {"^(b|b)*$": {}}}, {"a": {"b" * 40 + "!": 1}}),
    ("patterns", "beside other names", {"patternProperties": {REDOS: {}}, "additionalProperties": False}, {HOLDS_ON: 1}),
    ("patterns", "beside what is left over", {"patternProperties": {REDOS: {}}, "unevaluatedProperties": False}, {HOLDS_ON: 1}),
    ("patterns", "below what is left over", {"allOf": [{"patternProperties": {REDOS: {}}}], "unevaluatedProperties": False}, {HOLDS_ON: 1}),
    ("patterns", "behind a reference", {"$ref": "#/$defs/p", "unevaluatedProperties": False, "$defs": {"p": {"patternProperties": {REDOS: {}}}}}, {HOLDS_ON: 1}),
    ("patterns to compile", "counts in counts", {"pattern": "((a?){1000}){1000}"}, "a"),
    ("patterns to compile", "doubled sixty times", {"pattern": "(?:" * 60 + "a" + "){2}" * 60}, "a"),
    ("patterns to compile", "behind stars", {"pattern": "(?:" * 30 + "a" + ")+{2}" * 30}, "a"),
    ("patterns to compile", "of brackets that are letters", {"pattern": r"(?:[(]\(" * 30 + "a" + "){3}" * 30}, "a"),
    ("patterns to compile", "with spaces that do not count", {"pattern": "(?x)" + "(?:" * 30 + "a" + ") {3}" * 30}, "a"),
    ("patterns to compile", "which call themselves", {"pattern": "(?R)?a"}, "a" * 100_000),
    ("patterns to compile", "whose groups call themselves", {"pattern": "((?1)?a)"}, "a" * 100_000),
    ("patterns to compile", "of names", {"patternProperties": {"((a?){1000}){1000}": {}}}, {"a": 1}),
]  # fmt: skip

REGISTRY = ToolRegistry(create_builtin_tools_library())


def by_the_data_tool(schema: Any, value: Any) -> None:
    run(lambda: REGISTRY.execute_tool("data_validate", {"data": value, "schema": schema}), seed=1)


def by_openapi(schema: Any, value: Any) -> None:
    Checker(schema).check(value)


def by_mcp(schema: Any, value: Any) -> None:
    Foreign({"type": "object", "properties": {"x": {}}}, schema).check(value)


@pytest.fixture
def less_patience(monkeypatch):
    """Let a tenth of the cost be allowed, which takes a tenth of the time to see."""
    monkeypatch.setattr(schema_rules, "COST", schema_rules.COST // 10)
    monkeypatch.setattr(schema_rules, "SECONDS", schema_rules.SECONDS / 10)
    monkeypatch.setattr(checking, "_COST", checking._COST // 10)
    monkeypatch.setattr(schemas, "MAX_STEPS", schemas.MAX_STEPS // 10)


@pytest.mark.usefixtures("less_patience")
@pytest.mark.parametrize("door", [by_the_data_tool, by_openapi, by_mcp])
@pytest.mark.parametrize(("schema", "value"), [pytest.param(*a[2:], id=f"{a[0]}: {a[1]}") for a in ATTACKS])
def test_it_is_checked_soon_or_refused(door, schema, value):
    began = time.process_time()
    try:
        door(schema, value)
    except ToolError as error:
        assert error.code in ("too_large", "invalid_input", "upstream")
        assert len(str(error)) < 1_000
    assert time.process_time() - began < 20, "nobody stopped it"


def test_the_table_is_as_large_as_it_is_said_to_be():
    assert len({attack[0] for attack in ATTACKS}) == 7
    assert len(ATTACKS) == 41


# ---------------------------------------------------------------- controls: the library alone


def counted(rule: str, schema: Any, value: Any) -> int:
    """Return how often the library alone tries a rule."""
    tried: list[int] = []
    kind = jsonschema.validators.extend(BASE, {rule: lambda *_: tried.append(1)})
    list(kind(schema).iter_errors(value))
    return len(tried)


def test_control_alone_each_is_compared_with_each(monkeypatch):
    compared: list[int] = []
    real = jsonschema._utils.equal

    def equal(one: Any, two: Any) -> bool:
        compared.append(1)
        return real(one, two)

    for module in (jsonschema._utils, jsonschema._keywords):
        monkeypatch.setattr(module, "equal", equal)
    for count in (100, 200):
        compared.clear()
        assert BASE({"uniqueItems": True}).is_valid(OBJECTS[:count])
        assert len([1 for _ in compared]) >= count * (count - 1) // 2
    compared.clear()
    assert BASE({"items": {"enum": OBJECTS[:50]}}).is_valid([OBJECTS[49]] * 50)
    assert len(compared) >= 2_500


@pytest.mark.parametrize(
    "level",
    [chosen, lambda ref: {"allOf": [ref, ref]}, lambda ref: {"oneOf": [ref, {"not": ref}]}],
    ids=["if", "all", "one"],
)
def test_control_alone_conditions_double(level):
    assert [counted("type", doubling(level, levels), 1) for levels in (4, 8)] == [2**4, 2**8]


def test_control_alone_nothing_is_done_for_each_part():
    """By what is descended into: nothing is checked there, and yet there it goes."""
    looked: list[int] = []

    class Counted(dict[str, Any]):
        def __iter__(self):
            looked.append(1)
            return super().__iter__()

        def items(self):
            looked.append(1)
            return super().items()

    assert BASE({"allOf": [{"items": Counted()}] * 10}).is_valid(NUMBERS[:100])
    assert len(looked) >= 1_000


def test_control_alone_names_are_looked_for_again_and_again(monkeypatch):
    crawled: list[int] = []
    real = referencing.Registry.crawl

    def crawl(self: Any) -> Any:
        crawled.append(1)
        return real(self)

    monkeypatch.setattr(referencing.Registry, "crawl", crawl)
    schema = {
        "$defs": {f"a{n}": {"$anchor": f"x{n}"} for n in range(50)},
        "allOf": [{"$ref": f"#x{n}"} for n in range(50)],
    }
    assert BASE(schema, registry=referencing.Registry()).is_valid(1)
    alone = len(crawled)
    crawled.clear()
    assert validator_of(BASE, schema, referencing.Registry()).is_valid(1)
    assert (alone >= 50, len(crawled)) == (True, 1)


def test_control_alone_a_dialect_leaves_the_rules_and_patterns_hold_on(monkeypatch):
    tried: list[str] = []
    kind = jsonschema.validators.extend(BASE, {"pattern": lambda *_: tried.append("ours")})
    within = {"properties": {"a": {"$schema": META, "pattern": "x"}}}
    assert not kind(within).is_valid({"a": "y"})
    assert tried == []
    assert kind(without_dialects(within)).is_valid({"a": "y"})
    assert tried == ["ours"]
    with pytest.raises(TimeoutError):
        regex.search(REDOS, HOLDS_ON, timeout=0.2)
    real = re.search
    monkeypatch.setattr(re, "search", lambda *given: tried.append(given[0]) or real(*given))
    BASE({"patternProperties": {"z": {}}, "additionalProperties": False}).is_valid({"a": 1})
    assert "z" in tried
    tried.clear()
    BASE({"allOf": [{"patternProperties": {"z": {}}}], "unevaluatedProperties": False}).is_valid({"a": 1})
    assert tried.count("z") > 1, "once for the rule, once for what is left over"


def test_control_a_pattern_is_written_out_before_it_is_looked_for():
    """By what the engine makes of each: ten times the size, and there is no way to stop it."""

    def took(count: int) -> float:
        regex.purge()
        began = time.process_time()
        regex.compile(f"((a?){{{count}}}){{{count}}}")
        return time.process_time() - began

    assert took(300) > 4 * took(100)
    for pattern in (
        "^[a-z]{1,65535}$",
        r"^(?!.*\.\.)(?:[a-z]{1,63}\.){1,126}[a-z]{2,63}$",
        r"^[^[\]{}()]{0,1000}$",
    ):
        assert not is_too_large(pattern)


# ---------------------------------------------------------------- what is right stays right


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, "", "a", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(values, max_size=5), st.lists(values, min_size=1, max_size=4), values)
def test_what_is_equal_is_what_the_library_says(items, alternatives, constant):
    spent: list[int] = []
    rules = {**BASE.VALIDATORS, **comparing(jsonschema.ValidationError, spent.append)}
    kind = jsonschema.validators.extend(BASE, bounded(rules, spent.append))
    for schema, value in (
        ({"uniqueItems": True}, items),
        ({"enum": alternatives}, constant),
        ({"const": constant}, alternatives[0]),
        ({"items": {"enum": alternatives}}, items),
    ):
        assert kind(schema).is_valid(value) == BASE(schema).is_valid(value), (schema, value)
    assert min(spent) >= 0


@given(values)
def test_how_large_a_value_is(value):
    assert size_of(value) == 1 + sum(map(size_of, value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()))  # fmt: skip
    assert size_of(value) <= len(msgspec.json.encode(value)) + 1


def test_other_names_are_told_by_patterns_within_their_time():
    schema = {
        "properties": {"a": {}},
        "patternProperties": {"^x": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert Checker(schema).check({"a": 1, "x1": 2}) == (None, "")
    assert "no argument 'b'" in Checker(schema).check({"a": 1, "b": 2})[0].what
    assert Checker(schema).check({"x": "text"})[0].field == "$.x"
    assert Checker({**schema, "additionalProperties": {"type": "string"}}).check({"b": 2})[0].field == "$.b"
