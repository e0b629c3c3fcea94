"""Names: short, unique, and the same whatever the order."""

from random import Random

import pytest
from hypothesis import given, strategies as st
from tests.apis import document, operation, parameter

from reprise.kernel.errors import ConfigurationError
from reprise.tools.openapi.naming import arguments_of, names_of, words
from reprise.tools.openapi.parser import OpenAPIParser
from reprise.tools.tool import Tool

IDS = st.text(max_size=120) | st.sampled_from(
    ["list", "List", "listUsers", "list_users", "2fa", "a" * 90, "…", ""]
)
OPERATIONS = st.lists(
    st.tuples(IDS, st.sampled_from(["get", "post"]), st.text(max_size=40)),
    max_size=12,
    unique_by=lambda each: (each[1], each[2]),
)


@given(OPERATIONS, st.sampled_from(["", "my_", "x-"]), st.randoms(use_true_random=False))
def test_names_can_be_names_are_unique_and_depend_on_no_order(operations, prefix, random: Random):
    names = names_of(operations, prefix)
    for name in names:
        Tool(print, name=name, parameters={})  # raises for what cannot be a name
    assert len(set(names)) == len(names)
    mixed = list(enumerate(operations))
    random.shuffle(mixed)
    again = names_of([each for _, each in mixed], prefix)
    assert {at: name for (at, _), name in zip(mixed, again, strict=True)} == dict(enumerate(names))


def test_words():
    assert [
        words(each) for each in ("listPets", "getUserByID", "GET /users/{id}", "OAuth2Token", "a.b:c")
    ] == [
        "list_pets",
        "get_user_by_id",
        "get_users_id",
        "o_auth2_token",
        "a_b_c",
    ]


def test_what_is_cut_differs_still():
    one, other = names_of([("a" * 80, "get", "/a"), ("a" * 79, "get", "/b")], "")
    assert one != other
    assert max(map(len, (one, other))) == 64


@pytest.mark.parametrize("prefix", ["1", "a b", "ä", "x" * 41, "a."])
def test_prefixes_that_no_name_can_begin_with(prefix):
    with pytest.raises(ConfigurationError, match="cannot begin with"):
        OpenAPIParser().extract_tools(document({}), tool_prefix=prefix)


PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(["id", "id_path", "id_query", "body", "a[b]", "a_b", "a" * 80, "日本"]) | st.text(min_size=1, max_size=5),
        st.sampled_from(["path", "query", "header", "cookie"]),
    ),
    unique=True,
    max_size=8,
)  # fmt: skip


@given(PARAMETERS)
def test_arguments_are_unique_and_models_take_them(parameters):
    names = arguments_of(parameters)
    assert names == arguments_of(reversed(parameters))
    assert len(set(names.values())) == len(parameters)
    for name in names.values():
        assert 0 < len(name) <= 64
        assert name.isascii()
        assert name != "body"
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def test_the_same_name_in_path_query_and_body():
    spec = document(
        {
            "/users/{id}": {
                "put": operation(
                    parameter("id", "path"), parameter("id"), body={"properties": {"id": {"type": "string"}}}
                )
            }
        }
    )
    (tool,) = OpenAPIParser().extract_tools(spec)
    assert list(tool.parameters["properties"]) == ["id_path", "id_query", "body"]
