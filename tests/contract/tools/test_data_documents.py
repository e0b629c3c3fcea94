"""Tools for documents and nested data: there and back, queries, schemas; and what is refused instead of guessed."""

import json
import sys
from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st

from reprise import ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.guards.parquet import read_parquet, write_parquet

REGISTRY = ToolRegistry(create_builtin_tools_library())


def call(name: str, **arguments: Any) -> Any:
    return run(lambda: REGISTRY.execute_tool(name, arguments), seed=1)


def warnings_of(name: str, **arguments: Any) -> tuple[str, ...]:
    return run(lambda: REGISTRY.call_tool(name, arguments), seed=1).warnings


def refusal(name: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call(name, **arguments)
    return caught.value


def convert(content: Any, from_format: str, to_format: str = "value", **options: Any) -> Any:
    return call("data_convert", content=content, from_format=from_format, to_format=to_format, **options)[
        "content"
    ]


# ---------------------------------------------------------------- there and back

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["yes", "no", "~", "null", "1", "1.5", "0o7", "0x1F", ".inf", "2026-11-22", "12:30", "<<", "- a", "a: b", "#", "&x", "*x", "!t", "'", '"', "", " a ", "a\nb\n", "\x85", "\ufeffx"]
)  # fmt: skip
NUMBER = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
NESTED = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NO_NULLS = st.recursive(
    st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def exact(value: Any) -> str:
    """Return a value with the types of all that is in it, whatever the order of keys."""
    return json.dumps(value, sort_keys=True)


@given(NESTED)
def test_json_and_yaml_come_back_as_they_were(value):
    assert exact(convert(convert(value, "value", "json"), "json")) == exact(value)
    written = convert(value, "value", "yaml")
    assert exact(convert(written, "yaml")) == exact(value), written


@given(st.dictionaries(TEXT, NO_NULLS, max_size=3))
def test_toml_comes_back_as_it_was(value):
    written = convert(value, "value", "toml")
    assert exact(convert(written, "toml")) == exact(value), written


@given(st.lists(NESTED, max_size=4))
def test_json_lines_come_back_as_they_were(values):
    assert exact(convert(convert(values, "value", "jsonl"), "jsonl")) == exact(values)


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=4), st.sampled_from([",", ";", "\t", "|"]))
def test_texts_in_csv_come_back_as_they_were(cells, delimiter):
    rows = [{"a": one or None, "ö b": two or None} for one, two in cells]
    written = convert(rows, "value", "csv", delimiter=delimiter)
    assert convert(written, "csv", delimiter=delimiter, types="text") == rows


@given(st.lists(st.none() | NUMBER, max_size=4), st.lists(st.none() | st.booleans(), max_size=4))
def test_numbers_in_csv_come_back_as_numbers(numbers, marks):
    for column in ([n for n in numbers if type(n) is not float], numbers, marks):
        rows = [{"n": value, "#": 0} for value in column]
        found = [row["n"] for row in convert(convert(rows, "value", "csv"), "csv")]
        assert exact(found) == exact(column)


def test_cells_are_guessed_by_column_and_007_is_a_text():
    text = "id,zip,n,f,b,mixed,big,e\n1,007,-3,1.5,true,1,9007199254740993,1e3\n2,1,0,2,false,x,,\n"
    assert convert(text, "csv") == [
        {
            "id": 1,
            "zip": "007",
            "n": -3,
            "f": 1.5,
            "b": True,
            "mixed": "1",
            "big": 9007199254740993,
            "e": 1000.0,
        },
        {"id": 2, "zip": "1", "n": 0, "f": 2.0, "b": False, "mixed": "x", "big": None, "e": None},
    ]
    assert convert("a\n1e999\n", "csv") == [{"a": "1e999"}]
    assert exact(convert("a\n-0\n", "csv")) == '[{"a": -0.0}]'
    assert convert("a\nnan\n", "csv") == [{"a": "nan"}]
    assert convert("\ufeffa;b\r\n1;\r\n", "csv", delimiter=";") == [{"a": 1, "b": None}]
    assert convert("a,b\n", "csv") == []
    assert convert("", "csv") == []


def test_rows_as_csv_have_all_columns():
    rows = [{"a": 1}, {"b": [1, None], "a": 1.5}, {"c": True, "b": 'say "hi", twice'}]
    assert convert(rows, "value", "csv") == (
        'a,b,c\r\n1,,\r\n1.5,"[1,null]",\r\n,"say ""hi"", twice",true\r\n'
    )
    assert call("data_convert", content=rows, from_format="value", to_format="csv")["rows"] == 3


YAML = """
base: &base {a: 1, b: [x, 'y']}
merged: {<<: *base, b: 2}
several: {<<: [{p: 1}, {p: 2, q: 3}]}
yes: no
on: 2026-11-22
time: 12:30
octal: 0o17
old: 017
hex: 0x1F
float: 1e3
quoted: "1"
tagged: !!str 1
number: !!float 1
nothing:
tilde: ~
8080: port
text: |
  one
  two
"""


def test_yaml_is_read_by_its_core_schema():
    assert convert(YAML, "yaml") == {
        "base": {"a": 1, "b": ["x", "y"]},
        "merged": {"b": 2, "a": 1},
        "several": {"p": 1, "q": 3},
        "yes": "no",
        "on": "2026-11-22",
        "time": "12:30",
        "octal": 15,
        "old": 17,
        "hex": 31,
        "float": 1000.0,
        "quoted": "1",
        "tagged": "1",
        "number": 1.0,
        "nothing": None,
        "tilde": None,
        "8080": "port",
        "text": "one\ntwo\n",
    }
    assert convert("", "yaml") is None
    assert convert("&a [1, *b]".replace("*b", "2"), "yaml") == [1, 2]
    assert convert("{&k key: 1, *k : 2}".replace("*k", "other"), "yaml") == {"key": 1, "other": 2}


def test_toml_and_xml_are_read():
    assert convert("d = 2026-11-22\nt = 12:30:00\nm = 2026-11-22T12:30:00Z\n[a.b]\nc = [1, 2.5]", "toml") == {
        "d": "2026-11-22",
        "t": "12:30:00",
        "m": "2026-11-22T12:30:00+00:00",
        "a": {"b": {"c": [1, 2.5]}},
    }
    text = '<?xml version="1.0"?><r a="1"><i>x</i><i k="v">y</i><e/><m>a<b>c</b>d</m><![CDATA[<&]]></r>'
    assert convert(text, "xml") == {
        "r": {
            "@a": "1",
            "i": ["x", {"@k": "v", "#text": "y"}],
            "e": None,
            "m": {"b": "c", "#text": "ad"},
            "#text": "<&",
        }
    }


def test_a_text_is_no_longer_in_the_encoding_that_it_declares():
    assert convert('<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>', "xml") == {"a": "é"}


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("yaml", "data_convert", {"content": "a: 1", "from_format": "yaml", "to_format": "json"}),
        ("yaml", "data_convert", {"content": [1], "from_format": "value", "to_format": "yaml"}),
        ("tomli_w", "data_convert", {"content": {"a": 1}, "from_format": "value", "to_format": "toml"}),
    ],
)
def test_without_its_library_the_command_is_said(module, name, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    error = refusal(name, **arguments)
    assert error.code == "unavailable"
    assert "pip install 'reprise-agents[data]'" in str(error)


def test_parquet_comes_back_as_it_was():
    pytest.importorskip("polars", reason="the extra parquet is not installed")
    rows = [{"a": 1, "b": "x", "l": [1, 2], "f": 1.5}, {"a": 2**62, "b": None, "l": [], "f": None}]
    assert read_parquet(write_parquet(rows, ["a", "b", "l", "f"])) == rows
    assert read_parquet(write_parquet([{"a": 1}, {"a": 0.5}], ["a"])) == [{"a": 1.0}, {"a": 0.5}]
    for bad in (
        [{"a": 1}, {"a": "x"}],
        [{"a": 1}, {"a": True}],
        [{"a": 2**200}],
        [{"a": 2**60 + 1}, {"a": 0.5}],
    ):
        with pytest.raises(ToolError, match="cannot be written as Parquet"):
            write_parquet(bad, ["a"])


@pytest.mark.parametrize(
    ("content", "from_format", "to_format", "says"),
    [
        ([1], "value", "csv", "This is no table"),
        ({"a": 1}, "value", "jsonl", "made of a list"),
        ([1], "value", "toml", "is an object"),
        ({"a": [1, {"b": None}]}, "value", "toml", "$.a[1].b is null"),
        ({"a": 1}, "json", "value", "read from a text"),
        ("{", "json", "value", "line 1, column 2: this is no JSON"),
        ('{"a":1}\n{"a":\n', "jsonl", "value", "line 2: column 6: this is no JSON"),
        ("a: [1", "yaml", "value", "this is no YAML"),
        ("a = ", "toml", "value", "This is no TOML"),
        ("<a><b></a>", "xml", "value", "Line 1, column 9: this is no XML: mismatched tag"),
        ("", "xml", "value", "this is no XML"),
    ],
)
def test_what_cannot_be_converted_is_said(content, from_format, to_format, says):
    error = refusal("data_convert", content=content, from_format=from_format, to_format=to_format)
    assert error.code == "invalid_input"
    assert says in str(error)


def test_what_is_not_finite_becomes_null_only_where_that_is_asked_for():
    for text, kind in (('{"a": [1, NaN]}', "json"), ("a: [1, .nan]", "yaml"), ("a = [1, nan]", "toml")):
        assert "$.a[1] is nan" in str(
            refusal("data_convert", content=text, from_format=kind, to_format="value")
        )
        assert convert(text, kind, not_finite="null") == {"a": [1, None]}
    assert "$.a is inf" in str(
        refusal("data_convert", content='{"a": 1e999}', from_format="json", to_format="value")
    )


# ---------------------------------------------------------------- query

DATA = {"people": [{"name": "Ada", "age": 36, "tags": ["x"]}, {"name": "Bo", "age": 20, "tags": []}], "n": 2}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("people[0].name", "Ada"),
        ("people[*].tags[]", ["x"]),
        ("people[?age > `30`].name", ["Ada"]),
        ("people[?name == 'Bo'] | [0].age", 20),
        ("sort_by(people, &age)[*].name", ["Bo", "Ada"]),
        ("{n: n, names: people[].name}", {"n": 2, "names": ["Ada", "Bo"]}),
        ("sum(people[*].age)", 56),
        ("join(', ', people[*].name)", "Ada, Bo"),
        ("missing.of.it", None),
        ("people[-1:].name", ["Bo"]),
        ("length(people[?contains(tags, 'x')])", 1),
        ("group", None),
    ],
)
def test_a_query_gives_what_it_asks_for(expression, result):
    assert call("data_query", data=DATA, expression=expression) == {"result": result}


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("people[", "Incomplete"),
        ("people[?", "Incomplete"),
        ("a b", "column 2"),
        ("nosuch(@)", "Unknown function: nosuch()"),
        ("length(n)", "invalid type for value"),
        ("abs(@, @)", "Expected 1 argument"),
        ("people[?name > age]", "cannot be evaluated"),
        ("&age", "gives an expression"),
        ("people[::0]", "cannot be evaluated"),
        ("to_number('1e999')", "which JSON has not"),
    ],
)
def test_a_query_that_cannot_be_is_refused(expression, says):
    error = refusal("data_query", data=DATA, expression=expression)
    assert (error.code, error.field) == ("invalid_input", "$.expression")
    assert says in str(error)


# ---------------------------------------------------------------- schemas

SCHEMAS = st.recursive(
    st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["object", "array", "string", "integer", "number", "null", "boolean", ["string", "null"]]
            ),
            "enum": st.lists(
                st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from(["a", ""]), max_size=2
            ),
            "const": st.sampled_from([0, False, "a", [1], {"a": 1.0}]),
            "minimum": st.integers(-1, 1),
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "maxLength": st.integers(0, 2),
            "pattern": st.sampled_from(["^a", "b$", "[0-9]+", ""]),
            "uniqueItems": st.booleans(),
            "minItems": st.integers(0, 2),
            "required": st.lists(st.sampled_from("ab"), unique=True, max_size=2),
            "maxProperties": st.integers(0, 2),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "contains": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "dependentSchemas": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        },
    ),
    max_leaves=6,
)
FITTED = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, -1, 0.5, 2**60, "a", "ab", "b\n", "", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "ab", "c"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(SCHEMAS, FITTED)
def test_what_fits_a_schema_is_what_the_library_alone_says(schema, data):
    found = call("data_validate", data=data, schema=schema, limit=1000)
    library = jsonschema.Draft202012Validator(schema)
    if '"b\\n"' not in json.dumps(data) or "b$" not in json.dumps(schema):  # see _to_the_end
        assert found["valid"] == library.is_valid(data), found
    assert found["valid"] == (found["errors"] == [])


@pytest.mark.parametrize(
    ("data", "schema", "path", "rule", "says"),
    [
        ({"a": [1, "x"]}, {"properties": {"a": {"items": {"type": "integer"}}}}, "$.a[1]", "properties.a.items.type", "'x' is not of type 'integer'"),
        ({"nmae": 1}, {"properties": {"name": {}}, "additionalProperties": False}, "$", "additionalProperties", "did you mean 'name'?"),
        ([1, True, 1.0], {"uniqueItems": True}, "$", "uniqueItems", "items 0 and 2 are equal"),
        ("abc\n", {"pattern": "^abc$"}, "$", "pattern", "does not match"),
        ({"x1": "a"}, {"patternProperties": {"^x": {"type": "integer"}}}, "$.x1", "patternProperties.^x.type", "'a' is not"),
        ("2026-02-30", {"format": "date"}, "$", "format", "is no date"),
        (5, {"$ref": "#/$defs/text", "$defs": {"text": {"type": "string"}}}, "$", "type", "5 is not"),
        ({"b": 1}, {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, "$", "unevaluatedProperties", "'b' was unexpected"),
        ({"next": {"next": {"v": "x"}}}, {"properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}}, "$.next.next.v", "properties.next.properties.next.properties.v.type", "'x' is not"),
        ([1, 2], {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{}, {"type": "string"}]}, "$[1]", "items.1.type", "2 is not"),
        ({"type": 3}, {"$ref": "https://json-schema.org/draft/2020-12/schema"}, "$.type", "", "is not valid"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(data, schema, path, rule, says):
    found = call("data_validate", data=data, schema=schema)
    assert not found["valid"]
    assert found["errors"][0]["path"] == path
    assert found["errors"][0]["rule"].startswith(rule)
    assert says in found["errors"][0]["message"]


@pytest.mark.parametrize(
    ("schema", "field", "says"),
    [
        ({"type": "strng"}, "$.schema.type", "This is no JSON Schema"),
        ({"pattern": "("}, "$.schema", "no regular expression"),
        ({"minimum": "1"}, "$.schema.minimum", "This is no JSON Schema"),
        ({"$ref": "#/nowhere"}, "$.schema", "nowhere', which is not in it"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "$.schema", "dialect"),
        ({"$schema": 3}, "$.schema", "dialect"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema, field, says):
    error = refusal("data_validate", data="x", schema=schema)
    assert (error.code, error.field) == ("invalid_input", field)
    assert says in str(error)


def test_what_is_not_checked_is_said():
    schema = {"properties": {"a": {"format": "duration"}, "b": {"format": "date"}}}
    assert warnings_of("data_validate", data={"a": "x", "b": "2026-11-22"}, schema=schema) == (
        "Formats that are not checked: duration.",
    )
    assert warnings_of("data_validate", data=[1] * 9, schema={"items": {"type": "string"}}, limit=3) == (
        "There are more than 3 errors.",
    )


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("time", "12:30:60Z", "12:30"),
        ("date-time", "2026-11-22T12:30:00.5+01:00", "2026-11-22 12:30"),
        ("email", "a@b.example", "a@b@c"),
        ("hostname", "a-b.example", "-a.example"),
        ("ipv4", "127.0.0.1", "256.0.0.1"),
        ("ipv6", "::1", "::1%eth0"),
        ("uri", "https://a.example/b?c=d#e", "//a"),
        ("uri-reference", "../a?b", "a b"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"),
        ("json-pointer", "/a~1b/0", "a"),
    ],
)
def test_formats_are_told(name, good, bad):
    assert call("data_validate", data=good, schema={"format": name})["valid"]
    assert not call("data_validate", data=bad, schema={"format": name})["valid"]
    assert call("data_validate", data=5, schema={"format": name})["valid"]
