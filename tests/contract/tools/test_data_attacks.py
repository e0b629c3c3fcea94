"""What documents, expressions, schemas and tables do to who trusts them: none of it comes through, and each does harm where
nothing stands before it (the controls)."""

import csv
import io
import json
import tomllib
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import jmespath
import jsonschema
import pytest
import regex
import yaml

from reprise import ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.library.data import querying, schema_rules

REGISTRY = ToolRegistry(create_builtin_tools_library())


def call(name: str, **arguments: Any) -> Any:
    return run(lambda: REGISTRY.execute_tool(name, arguments), seed=1)


def read(kind: str, content: Any) -> dict[str, Any]:
    return {"tool": "data_convert", "content": content, "from_format": kind, "to_format": "value"}


def write(kind: str, content: Any, **options: Any) -> dict[str, Any]:
    return {"tool": "data_convert", "content": content, "from_format": "value", "to_format": kind, **options}


def query(expression: str, data: Any = None) -> dict[str, Any]:
    return {"tool": "data_query", "data": data, "expression": expression}


def validate(schema: Any, data: Any = None) -> dict[str, Any]:
    return {"tool": "data_validate", "data": data, "schema": schema}


def table(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": f"data_{name}", **arguments}


def doubled(levels: int, first: str, again: str) -> str:
    """Return lines of which each names the one before it twice."""
    return "\n".join([first, *(again.format(this=n + 1, last=n) for n in range(levels))])


def deep(levels: int, opening: str, closing: str) -> str:
    return opening * levels + closing * levels


LAUGHS = doubled(40, "a0: &a0 [lol, lol]", "a{this}: &a{this} [*a{last}, *a{last}]")
MERGES = doubled(40, "a0: &a0 {k: lol}", "a{this}: &a{this} {{x: *a{last}, y: *a{last}}}")
XML_LAUGHS = "<!DOCTYPE r [<!ENTITY a 'lollollol'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><r>&b;&b;&b;&b;</r>"
XXE = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]><r>&x;</r>'
DOUBLING = " | ".join(["[@, @]"] * 60)
SAME = [{"k": 1, "v": "x"}] * 400
REDOS = "^(a|aa)+$"
HOLDS_ON = "a" * 60 + "!"
RESOLVING = {
    "$defs": {
        **{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)},
        "d60": {"type": "integer"},
    },
    "$ref": "#/$defs/d0",
}
META = "https://json-schema.org/draft/2020-12/schema"

ATTACKS: list[tuple[str, str, dict[str, Any], str]] = [
    # class, what, call, words of the refusal
    ("references of YAML", "lists", read("yaml", LAUGHS), "3,000,000 values"),
    ("references of YAML", "objects", read("yaml", MERGES), "3,000,000 values"),
    ("references of YAML", "as keys' values", read("yaml", f"{{{LAUGHS.replace(chr(10), ', ')}}}"), "with all it refers to"),
    ("references of YAML", "a long text", read("yaml", f"t: &t {'x' * 99_999}\nl: [{'*t, ' * 999}*t]"), "characters"),
    ("references of YAML", "holds itself", read("yaml", "&a [*a]"), "holds itself"),
    ("references of YAML", "holds itself in an object", read("yaml", "&a {b: {c: *a}}"), "holds itself"),
    ("references of YAML", "merges itself", read("yaml", "&a {<<: *a}"), "holds itself"),
    ("references of YAML", "to nothing", read("yaml", "[*a]"), "there is no &a"),
    ("references of YAML", "merges no object", read("yaml", "{<<: [1]}"), "merges objects"),
    ("objects of YAML", "a call", read("yaml", "!!python/object/apply:os.getcwd []"), "tag"),
    ("objects of YAML", "a module", read("yaml", "!!python/module:os ''"), "tag"),
    ("objects of YAML", "a name", read("yaml", "a: !!python/name:os.system ''"), "tag"),
    ("objects of YAML", "an object", read("yaml", "!!python/object:builtins.object {}"), "tag"),
    ("objects of YAML", "by a directive", read("yaml", "%TAG ! tag:yaml.org,2002:python/\n---\n!module:os ''"), "tag"),
    ("objects of YAML", "written out", read("yaml", "!<tag:yaml.org,2002:python/name:os.system> ''"), "tag"),
    ("objects of YAML", "a tag of its own", read("yaml", "!vault secret"), "tag"),
    ("objects of YAML", "binary", read("yaml", "!!binary aGk="), "tag"),
    ("objects of YAML", "a set", read("yaml", "!!set {a, b}"), "tag"),
    ("objects of YAML", "no number", read("yaml", "!!int abc"), "is no int"),
    ("depth", "lists of YAML", read("yaml", deep(50_000, "[", "]")), "deep"),
    ("depth", "objects of YAML", read("yaml", "{a: " * 50_000), "deep"),
    ("depth", "dashes of YAML", read("yaml", "- " * 50_000 + "x"), "deep"),
    ("depth", "lists of JSON", read("json", deep(100_000, "[", "]")), "deep"),
    ("depth", "objects of JSON", read("json", '{"a":' * 100_000 + "1" + "}" * 100_000), "deep"),
    ("depth", "a little too deep in JSON", read("json", deep(101, "[", "]")), "deep"),
    ("depth", "a line of JSON", read("jsonl", "1\n" + deep(100_000, "[", "]")), "deep"),
    ("depth", "lists of TOML", read("toml", "a = " + deep(50_000, "[", "]")), "deep"),
    ("depth", "elements of XML", read("xml", deep(100_000, "<a>", "</a>")), "deep"),
    ("depth", "brackets of a query", query(deep(900, "(", ")")), "deep"),
    ("depth", "marks of a query", query("!" * 1_900 + "a"), "deep"),
    ("depth", "conditions", table("filter", rows=[{"a": 1}], where=[json.loads('{"not":' * 20 + '{"field":"a","value":1}' + "}" * 20)]), "too deep"),
    ("depth", "a schema", validate(json.loads('{"not":' * 200 + "{}" + "}" * 200)), "deep"),
    ("entities of XML", "laughs", read("xml", XML_LAUGHS), "document type"),
    ("entities of XML", "a file", read("xml", XXE), "document type"),
    ("entities of XML", "a parameter", read("xml", '<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]><r/>'), "document type"),
    ("entities of XML", "a document type elsewhere", read("xml", '<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd"><r/>'), "document type"),
    ("entities of XML", "an attribute by default", read("xml", "<!DOCTYPE r [<!ATTLIST r admin CDATA 'yes'>]><r/>"), "document type"),
    ("entities of XML", "one that is not declared", read("xml", "<r>&who;</r>"), "undefined entity"),
    ("entities of XML", "XInclude stays an element", read("xml", '<r xmlns:x="http://www.w3.org/2001/XInclude"><x:include href="/etc/hostname"/></r>'), ""),
    ("keys that stand twice", "JSON", read("json", '{"role": "user", "role": "admin"}'), "'role' stands there twice"),
    ("keys that stand twice", "JSON, one escaped", read("json", '{"role": 1, "r\\u006fle": 2}'), "'role' stands there twice"),
    ("keys that stand twice", "deep in JSON", read("json", '[{"a": [{"b": 1, "b": 1}]}]'), "'b' stands there twice"),
    ("keys that stand twice", "JSON Lines", read("jsonl", '{"a": 1}\n{"b": 1, "b": 2}'), "line 2"),
    ("keys that stand twice", "YAML", read("yaml", "role: user\nrole: admin"), "'role' stands there twice"),
    ("keys that stand twice", "YAML, in two spellings", read("yaml", '1: a\n"1": b'), "'1' stands there twice"),
    ("keys that stand twice", "YAML, by reference", read("yaml", "&r role: 1\n*r : 2"), "'role' stands there twice"),
    ("keys that stand twice", "TOML", read("toml", "role = 1\nrole = 2"), "no TOML"),
    ("keys that stand twice", "CSV", read("csv", "role,role\nuser,admin\n"), "is called 'role' as another"),
    ("keys that stand twice", "a second document", read("yaml", "a: 1\n---\na: 2"), "second document"),
    ("keys that stand twice", "two columns of a pivot", table("pivot", rows=[{"i": 1, "c": True, "v": 1}, {"i": 1, "c": "true", "v": 2}], index=["i"], columns="c", values="v"), "called 'true'"),
    ("numbers that are none", "NaN in JSON", read("json", '{"a": NaN}'), "$.a is nan"),
    ("numbers that are none", "infinity in JSON", read("json", "[-Infinity]"), "$[0] is -inf"),
    ("numbers that are none", "too large in JSON", read("json", '{"a": [1, 1e400]}'), "$.a[1] is inf"),
    ("numbers that are none", "YAML", read("yaml", "a: .inf"), "$.a is inf"),
    ("numbers that are none", "TOML", read("toml", "a = nan"), "$.a is nan"),
    ("numbers that are none", "10,000 digits in JSON", read("json", "9" * 10_000), "digits"),
    ("numbers that are none", "10,000 digits in YAML", read("yaml", "9" * 10_000), "digits"),
    ("numbers that are none", "10,000 digits in TOML", read("toml", "a = " + "9" * 10_000), "digits"),
    ("numbers that are none", "10,000 digits in CSV", read("csv", "a\n" + "9" * 10_000 + "\n"), ""),
    ("numbers that are none", "from a query", query("to_number('inf')"), "is inf"),
    ("numbers that are none", "a sum", table("aggregate", rows=[{"a": 1.7e308}] * 2, metrics=[{"fn": "sum", "field": "a"}]), "larger than a float"),
    ("half characters", "JSON", read("json", '["\\ud800"]'), "half of a character"),
    ("half characters", "a key of JSON", read("json", '{"\\udfff": 1}'), "half of a character"),
    ("half characters", "a line of JSON", read("jsonl", '"\\ud83d"'), "half of a character"),
    ("cells of CSV", "a row that is too short", read("csv", "a,b\n1,2\n3\n"), "line 3 has 1 cells"),
    ("cells of CSV", "a row that is too long", read("csv", "a,b\n1,2,3\n"), "line 2 has 3 cells"),
    ("cells of CSV", "a quote without an end", read("csv", 'a,b\n"1,2\n3,4\n'), "no CSV"),
    ("cells of CSV", "text behind a quote", read("csv", 'a\n"1"2\n'), "no CSV"),
    ("cells of CSV", "a cell that is too large", read("csv", "a\n" + "x" * 200_000 + "\n"), "no CSV"),
    ("cells of CSV", "too many columns", read("csv", ",".join(f"c{n}" for n in range(6_000)) + "\n"), "columns"),
    ("cells of CSV", "too many rows", read("csv", "a\n" + "1\n" * 100_001), "rows"),
    ("cells of CSV", "a name that is none", read("csv", "a,,b\n1,2,3\n"), "has no name"),
    ("cells of CSV", "a column for each row", write("csv", [{f"c{n}": 1} for n in range(4_000)]), "cells are the most"),
    ("TOML that takes long", "a key of many parts", read("toml", ".".join("a" * 20_000) + " = 1"), "dots"),
    ("TOML that takes long", "a table of many parts", read("toml", "[" + ".".join(["ab"] * 20_000) + "]"), "dots"),
    ("TOML that takes long", "parts in quotes", read("toml", ".".join(['"a=b"'] * 5_000) + " = 1"), "dots"),
    ("TOML that takes long", "much of it", read("toml", "#" * 1_100_000), "characters"),
    ("queries that grow", "what is doubled", query(DOUBLING, [1]), "asks for too much"),
    ("queries that grow", "objects that are doubled", query(" | ".join(["{a: @, b: @}"] * 60), {"x": 1}), "asks for too much"),
    ("queries that grow", "lists that are joined", query(" | ".join(["[@, @][]"] * 60), [1]), "asks for too much"),
    ("queries that grow", "texts that are joined", query("[@] | " + " | ".join(["[join('', [@[0], @[0]])]"] * 40), "xxxxxxxx"), "asks for too much"),
    ("queries that grow", "a long separator", query("join(a, b)", {"a": "x" * 100_000, "b": ["y"] * 100_000}), "asks for too much"),
    ("queries that grow", "as text", query("to_string(" * 1 + DOUBLING + ")", [1]), "asks for too much"),
    ("queries that grow", "by a map", query(" | ".join(["map(&[@, @], @)[]"] * 60), [1]), "asks for too much"),
    ("queries that grow", "sorted again and again", query("[" + ", ".join(["sort(@)"] * 200) + "]", list(range(100_000))), "asks for too much"),
    ("queries that grow", "compared again and again", query("[" + ", ".join(["a == b"] * 200) + "]", {"a": [[n] for n in range(50_000)], "b": [[n] for n in range(50_000)]}), "asks for too much"),
    ("patterns that hold on", "a pattern", validate({"pattern": REDOS}, HOLDS_ON), "regular expressions"),
    ("patterns that hold on", "of names", validate({"patternProperties": {REDOS: {}}}, {HOLDS_ON: 1}), "regular expressions"),
    ("patterns that hold on", "of names that are no others", validate({"additionalProperties": False, "patternProperties": {REDOS: {}}}, {HOLDS_ON: 1}), "regular expressions"),
    ("patterns that hold on", "in draft-07", validate({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": REDOS}, HOLDS_ON), "regular expressions"),
    ("patterns that hold on", "behind a reference to all", validate({"$schema": META, "properties": {"a": {"$ref": "#/$defs/r"}}, "$defs": {"r": {"pattern": REDOS}}}, {"a": HOLDS_ON}), "regular expressions"),
    ("patterns that hold on", "behind a dialect within", validate({"properties": {"a": {"$schema": META, "pattern": REDOS}}}, {"a": HOLDS_ON}), "$schema stands within"),
    ("patterns that hold on", "behind a dialect in a constant", validate({"const": {"$schema": META, "pattern": REDOS}, "not": {"$ref": "#/const"}}, HOLDS_ON), "$schema stands within"),
    ("patterns that hold on", "beside unevaluated names", validate({"patternProperties": {REDOS: {}}, "unevaluatedProperties": False}, {HOLDS_ON: 1}), "not supported"),
    ("patterns that hold on", "names of unevaluated", validate({"allOf": [{"patternProperties": {REDOS: {}}}], "unevaluatedProperties": False}, {HOLDS_ON: 1}), "not supported"),
    ("patterns that hold on", "many that are slow", validate({"items": {"pattern": "^( |  )+$"}}, [" " * 24 + "y"] * 5_000), "regular expressions"),
    ("patterns that hold on", "a long one", validate({"pattern": "a" * 3_000}, "a"), "2,000 characters"),
    ("references of schemas", "a web address", validate({"$ref": "http://127.0.0.1:9/schema.json"}), "which is not in it"),
    ("references of schemas", "a file", validate({"$ref": "file:///etc/hostname"}), "which is not in it"),
    ("references of schemas", "relative to an id", validate({"$id": "http://127.0.0.1:9/", "$ref": "schema.json"}), "which is not in it"),
    ("references of schemas", "dynamic", validate({"$dynamicRef": "http://127.0.0.1:9/x#a"}), "which is not in it"),
    ("references of schemas", "in draft-07", validate({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "http://127.0.0.1:9/x"}), "which is not in it"),
    ("references of schemas", "for what nobody evaluates", validate({"$ref": "http://127.0.0.1:9/x", "unevaluatedProperties": False}, {}), "which is not in it"),
    ("references of schemas", "a dialect elsewhere", validate({"$schema": "http://127.0.0.1:9/schema"}), "dialect"),
    ("references of schemas", "to itself", validate({"$ref": "#"}), "without end"),
    ("references of schemas", "to each other", validate({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}), "without end"),
    ("references of schemas", "to itself, for what nobody evaluates", validate({"$ref": "#", "unevaluatedProperties": False}, {}), "without end"),
    ("schemas that grow", "by all of", validate(RESOLVING, 1), "asks for too much"),
    ("schemas that grow", "by any of", validate(json.loads(json.dumps(RESOLVING).replace("allOf", "anyOf").replace('"type": "integer"', '"type": "string"')), 1), "asks for too much"),
    ("schemas that grow", "by one of", validate(json.loads(json.dumps(RESOLVING).replace("allOf", "oneOf")), 1), "asks for too much"),
    ("schemas that grow", "by what they say", validate({"allOf": [{"type": "string"}] * 5_000}, ["x" * 1_000] * 2_000) | {"limit": 1_000}, "asks for too much"),
    ("schemas that grow", "by items that are no texts", validate({"uniqueItems": True}, [{"a": n} for n in range(50_000)]), ""),
    ("schemas that grow", "by names that are no texts", validate({"required": [{"a": n} for n in range(20_000)]}), "no JSON Schema"),
    ("schemas that grow", "by names that others need", validate({"dependentRequired": {"a": [{"a": n} for n in range(20_000)]}}), "no JSON Schema"),
    ("tables that grow", "a join of all with all", table("join", left=SAME, right=SAME, on=["k"]), "160,000 rows"),
    ("tables that grow", "a join of wide rows", table("join", left=[{"k": 1, **{f"c{n}": 1 for n in range(3_000)}}], right=[{"k": 1}] * 3_000, on=["k"]), "cells are the most"),
    ("tables that grow", "a join of a long text", table("join", left=[{"k": 1, "t": "x" * 1_000_000}], right=[{"k": 1}] * 1_000, on=["k"]), "That makes 1,0"),
    ("tables that grow", "a full join", table("join", left=SAME, right=SAME, on=["k"], how="full"), "160,000 rows"),
    ("tables that grow", "a pivot of many columns", table("pivot", rows=[{"i": 1, "c": n, "v": 1} for n in range(1_001)], index=["i"], columns="c", values="v"), "1,001 columns"),
    ("tables that grow", "a pivot of many cells", table("pivot", rows=[{"i": n, "c": n % 1_000, "v": 1} for n in range(5_000)], index=["i"], columns="c", values="v"), "cells are the most"),
    ("tables that grow", "a pivot of long names", table("pivot", rows=[{"i": 1, "c": "x" * 100_000, "v": 1}], index=["i"], columns="c", values="v"), "100,000 characters"),
    ("tables that grow", "more rows than there may be", table("dedupe", rows=[{}] * 100_001), "<= 100000"),
    ("tables that grow", "a profile of many columns", table("profile", rows=[{f"c{n}": 1} for n in range(4_000)]), "cells are the most"),
    ("tables that grow", "copies of a column", table("aggregate", rows=SAME, metrics=[{"fn": "list", "field": "v", "as": f"a{n}"} for n in range(100)]), "asked twice"),
    ("tables that grow", "many conditions", table("filter", rows=[{"a": 1}], where=[{"any": [{"field": "a", "value": 1}] * 300}]), "too many conditions"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _less_patience(monkeypatch):
    """Let what is bounded by its cost be bounded by a tenth of it, which takes a tenth of the time to see."""
    monkeypatch.setattr(querying, "COST", querying.COST // 10)
    monkeypatch.setattr(schema_rules, "COST", schema_rules.COST // 10)
    monkeypatch.setattr(schema_rules, "SECONDS", schema_rules.SECONDS / 10)


@pytest.mark.parametrize(
    ("attack", "says"), [pytest.param(a[2], a[3], id=f"{a[0]}: {a[1]}") for a in ATTACKS]
)
def test_an_attack_ends_in_a_refusal(attack, says):
    arguments = dict(attack)
    name = arguments.pop("tool")
    if not says:  # harmless here, whatever it does elsewhere
        call(name, **arguments)
        return
    with pytest.raises(ToolError) as caught:
        call(name, **arguments)
    assert caught.value.code in ("invalid_input", "too_large", "conflict"), caught.value
    assert says in str(caught.value)
    assert len(str(caught.value)) < 800


def test_the_table_is_as_large_as_it_is_said_to_be():
    assert len({attack[0] for attack in ATTACKS}) >= 14
    assert len(ATTACKS) >= 120


# ---------------------------------------------------------------- formulas, which are no error

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "\uff1d1",
    '=HYPERLINK("http://x")',
    "\u00a0=1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_a_text_to_a_spreadsheet(text):
    for rows, at in (([{"a": text}], 1), ([{text: 1}], 0), ([{"a": {"b": 1}, "c": text}], 1)):
        made = call(
            name="data_convert", content=rows, from_format="value", to_format="csv", escape_formulas=True
        )
        cells = list(csv.reader(io.StringIO(made["content"], newline="")))[at]
        assert f"'{text}" in cells
        assert text not in cells


def test_without_asking_a_formula_stays_what_it_is():
    made = call("data_convert", content=[{"a": "=1+1"}, {"a": -1}], from_format="value", to_format="csv")
    assert made["content"] == "a\r\n=1+1\r\n-1\r\n"
    made = call(
        "data_convert", content=[{"a": -1}], from_format="value", to_format="csv", escape_formulas=True
    )
    assert made["content"] == "a\r\n-1\r\n", "a number is no formula"


# ---------------------------------------------------------------- controls: what happens where nothing stands before it


def weight(value: Any, known: dict[int, int]) -> int:
    """Return how many values a value stands for, however few there are of it in memory."""
    if id(value) not in known:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        known[id(value)] = 1 + sum(weight(part, known) for part in parts)
    return known[id(value)]


def test_control_yaml_grows_and_calls():
    assert len(LAUGHS) < 2_000
    assert weight(yaml.safe_load(LAUGHS), {}) > 10**12
    assert yaml.unsafe_load("!!python/object/apply:os.path.join [a, b]") == "a/b"
    held = yaml.safe_load("&a [*a]")
    assert held[0] is held
    with pytest.raises(RecursionError):
        yaml.load(deep(5_000, "[", "]"), Loader=yaml.SafeLoader)


def test_control_xml_brings_entities():
    assert ElementTree.fromstring(XML_LAUGHS).text == "lol" * 96
    asked: list[str] = []
    parser = expat.ParserCreate()
    parser.ExternalEntityRefHandler = lambda context, base, system, public: asked.append(system) or 1
    parser.Parse(XXE, True)
    assert asked == ["file:///etc/hostname"]


def test_control_the_later_key_wins_and_nan_is_a_number():
    assert json.loads('{"role": "user", "role": "admin"}') == {"role": "admin"}
    assert yaml.safe_load("role: user\nrole: admin") == {"role": "admin"}
    assert json.loads("[NaN]")[0] != json.loads("[NaN]")[0]
    assert json.loads("[1e400]") == [float("inf")]
    with pytest.raises(UnicodeEncodeError):
        json.loads('"\\ud800"').encode()
    with pytest.raises(RecursionError):
        json.loads(deep(100_000, "[", "]"))


def test_control_csv_loses_cells_and_toml_takes_long_keys():
    assert list(csv.DictReader(io.StringIO("a,b\n1,2,3\n4\n"))) == [
        {"a": "1", "b": "2", None: ["3"]},
        {"a": "4", "b": None},
    ]
    assert list(csv.DictReader(io.StringIO("role,role\nuser,admin\n"))) == [{"role": "admin"}]
    assert tomllib.loads(".".join("a" * 1_500) + " = 1")


def test_control_queries_double():
    found = jmespath.search(" | ".join(["[@, @]"] * 40), 1)
    assert weight(found, {}) > 10**12
    assert len(jmespath.search("[@] | " + " | ".join(["[join('', [@[0], @[0]])]"] * 10), "x")[0]) == 2**10
    assert len(jmespath.search(" | ".join(["[@, @][]"] * 10), [1])) == 2**10


def test_control_a_pattern_holds_on_and_schemas_ask_elsewhere_and_grow(monkeypatch):
    with pytest.raises(TimeoutError):
        regex.search(REDOS, HOLDS_ON, timeout=0.2)
    asked: list[Any] = []

    def open_url(request: Any, *_: Any, **__: Any) -> Any:
        asked.append(request.full_url)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", open_url)
    with pytest.raises((jsonschema.exceptions._WrappedReferencingError, DeprecationWarning, OSError)):
        jsonschema.validate(1, {"$ref": "http://127.0.0.1:9/schema.json"})
    assert asked == ["http://127.0.0.1:9/schema.json"]
    tried: list[Any] = []
    base = jsonschema.Draft202012Validator
    counting = jsonschema.validators.extend(base, {"type": lambda *given: tried.append(1)})
    counting(json.loads(json.dumps(RESOLVING).replace("#/$defs/d0", "#/$defs/d50"))).is_valid(1)
    assert len(tried) == 2**10
    with pytest.raises(RecursionError):
        jsonschema.Draft202012Validator({"$ref": "#"}).is_valid(1)


def test_control_a_dialect_within_leaves_the_rules_that_are_set():
    """The library goes over to its own rules at ``$schema``: why none may stand within a schema."""
    base = jsonschema.Draft202012Validator
    tried: list[Any] = []
    guarded = jsonschema.validators.extend(base, {"pattern": lambda *given: tried.append(1)})
    assert not guarded({"not": {"$schema": META, "pattern": "x"}}).is_valid("x")
    assert tried == []


def test_control_tables_grow():
    assert len([1 for one in SAME for other in SAME if one["k"] == other["k"]]) == 160_000
