"""Who may call which tools, how often, and what a model is given of many."""

import asyncio
import re
from typing import Any

import pytest

from reprise import ConfigurationError, Tool, ToolError, ToolPolicy, ToolRegistry, ToolRequest, ToolScope
from reprise.testing import run


async def nothing() -> str:
    return "done"


def make(name: str, description: str = "", effects: Any = "pure", tags: tuple[str, ...] = ()) -> Tool:
    return Tool(nothing, name=name, description=description, effects=effects, tags=tags)


TOOLS = [
    make("web_fetch", "Fetch a page from the web.", "network", ("web",)),
    make("web_download", "Download a file from the web into a folder.", "writes_files", ("web", "files")),
    make("text_search", "Search a text for words or patterns.", tags=("text",)),
    make("text_summarize", "Summarize a long text in a few sentences.", tags=("text",)),
    make("math_statistics", "Mean, median and standard deviation of numbers.", tags=("math",)),
]


def call(scope: ToolRegistry | ToolScope, name: str, arguments: Any = None) -> Any:
    """Return what a call returns, or the code of its error."""

    async def main() -> Any:
        try:
            return await scope.execute_tool(name, arguments)
        except ToolError as error:
            return error.code

    return run(main)


def scope(**rules: Any) -> ToolScope:
    return ToolRegistry(TOOLS).scope("ada", policy=ToolPolicy(**rules))


# ---------------------------------------------------------------- allowed and denied


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ({}, {"web_fetch", "web_download", "text_search", "text_summarize", "math_statistics"}),
        ({"allow": ["effect:pure"]}, {"text_search", "text_summarize", "math_statistics"}),
        ({"allow": ["text_*", "web_fetch"]}, {"text_search", "text_summarize", "web_fetch"}),
        ({"allow": ["tag:web"], "deny": ["effect:writes_files"]}, {"web_fetch"}),
        ({"deny": ["*"]}, set()),
        ({"allow": []}, set()),
    ],
)
def test_rules_name_tools_by_name_tag_or_effect(rules, allowed):
    mine = scope(**rules)
    assert {tool.name for tool in TOOLS if call(mine, tool.name) == "done"} == allowed
    assert {tool.name for tool in TOOLS if call(mine, tool.name) == "permission_denied"} == {
        tool.name for tool in TOOLS
    } - allowed
    assert {tool.name for tool in mine.list()} == allowed
    assert {tool["name"] for tool in mine.as_tools()} == allowed


def test_what_the_registry_refuses_no_scope_allows():
    registry = ToolRegistry(TOOLS, policy=ToolPolicy(deny=["web_*"]))
    assert call(registry.scope("ada"), "web_fetch") == "permission_denied"
    assert call(registry.scope("ada"), "text_search") == "done"


def test_a_refusal_names_the_rule_and_who_it_was():
    with pytest.raises(ToolError, match=re.escape("ada may not call web_fetch: 'web_*' is denied")):
        run(lambda: scope(deny=["web_*"]).execute_tool("web_fetch"))
    with pytest.raises(ToolError, match=re.escape("only 'tag:math' is allowed")):
        run(lambda: scope(allow=["tag:math"]).execute_tool("web_fetch"))


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"allow": "web_*"}, "Give a list"),
        ({"deny": ["effects:pure"]}, "is no rule"),
        ({"deny": ["effect:netwrk"]}, "Did you mean 'network'?"),
        ({"rate": {"*": (0, 1)}}, "positive"),
        ({"budget": {"*": -1}}, "negative"),
    ],
)
def test_a_rule_that_can_never_hold_is_refused(rules, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        ToolPolicy(**rules)


# ---------------------------------------------------------------- how often


def test_a_rate_lets_so_many_pass_in_any_window():
    outcomes: list[Any] = []

    async def main() -> None:
        mine = scope(rate={"text_*": (2, 10)})
        for wait in (0, 4, 1, 5, 0, 4):
            await asyncio.sleep(wait)
            try:
                outcomes.append(await mine.execute_tool("text_search"))
            except ToolError as error:
                outcomes.append((error.code, round(error.retry_after or 0)))
        assert await mine.execute_tool("web_fetch") == "done"

    run(main)
    assert outcomes == ["done", "done", ("rate_limited", 5), "done", ("rate_limited", 4), "done"]


def test_a_budget_is_used_up_and_what_was_refused_does_not_count():
    mine = scope(budget={"*": 3, "web_*": 1})
    called = [
        call(mine, name) for name in ("web_fetch", "web_fetch", "text_search", "text_search", "text_search")
    ]
    assert called == ["done", "permission_denied", "done", "done", "permission_denied"]


def test_arguments_that_do_not_fit_use_up_nothing():
    mine = scope(budget={"*": 1})
    assert call(mine, "text_search", {"x": 1}) == "invalid_input"
    assert call(mine, "text_search") == "done"


def test_what_one_policy_refuses_uses_nothing_of_the_other():
    registry = ToolRegistry(TOOLS, policy=ToolPolicy(budget={"*": 1}))
    nothing_left = registry.scope("ada", policy=ToolPolicy(budget={"*": 0}))
    assert call(nothing_left, "text_search") == "permission_denied"
    assert call(registry, "text_search") == "done"


# ---------------------------------------------------------------- approval


def test_what_needs_approval_is_asked_for_each_time():
    asked: list[ToolRequest] = []

    async def approve(request: ToolRequest) -> bool:
        asked.append(request)
        return len(asked) == 1

    registry = ToolRegistry(TOOLS)
    mine = registry.scope("ada", policy=ToolPolicy(approve=["effect:network"]), approver=approve)
    assert [call(mine, name) for name in ("web_fetch", "web_fetch", "text_search")] == [
        "done",
        "permission_denied",
        "done",
    ]
    assert [(request.tool.name, request.caller) for request in asked] == [("web_fetch", "ada")] * 2


def test_nobody_is_asked_for_what_may_not_happen_anyway_and_budgets_hold_when_they_answer():
    asked: list[str] = []
    agreed = asyncio.Event()

    async def approve(request: ToolRequest) -> bool:
        asked.append(request.tool.name)
        if len(asked) == 2:
            agreed.set()
        return await agreed.wait()

    async def main() -> list[Any]:
        mine = ToolRegistry(TOOLS).scope(
            "ada", policy=ToolPolicy(approve=["*"], budget={"*": 1}), approver=approve
        )
        calls = [mine.execute_tool("text_search") for _ in range(2)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        return [*ended, *await asyncio.gather(mine.execute_tool("web_fetch"), return_exceptions=True)]

    codes = [getattr(each, "code", each) for each in run(main)]
    assert sorted(codes) == ["done", "permission_denied", "permission_denied"]
    assert asked == ["text_search"] * 2


def test_nobody_to_approve_is_a_no():
    with pytest.raises(ToolError, match="nobody was named who gives it"):
        run(lambda: scope(approve=["*"]).execute_tool("web_fetch"))


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("summarize", "text_summarize"),
        ("summary of a long text", "text_summarize"),
        ("download file", "web_download"),
        ("fetching pages", "web_fetch"),
        ("median", "math_statistics"),
        ("stat", "math_statistics"),
    ],
)
def test_a_tool_is_found_by_what_it_is_for(query, first):
    assert ToolRegistry(TOOLS).search(query)[0].name == first


def test_nothing_is_found_by_words_that_no_tool_has():
    assert ToolRegistry(TOOLS).search("violin") == []
    assert ToolRegistry().search("anything") == []


def test_a_scope_finds_only_what_it_may_call():
    assert [tool.name for tool in scope(allow=["web_fetch"]).search("web")] == ["web_fetch"]


def test_of_many_a_model_is_given_two_to_find_and_call_the_others():
    registry = ToolRegistry(TOOLS)
    assert len(registry.as_tools()) == 5
    assert [tool["name"] for tool in registry.as_tools(limit=4)] == ["find_tools", "call_tool"]
    assert [tool["name"] for tool in registry.as_tools("summarize a text", limit=1)] == ["text_summarize"]
    mine = scope(allow=["text_*"])
    [found, _] = call(mine, "find_tools", {"query": "search web text"})
    assert found["name"] == "text_search"
    assert call(mine, "call_tool", {"name": "text_search", "arguments": {}}) == "done"
    assert call(mine, "call_tool", {"name": "web_fetch", "arguments": {}}) == "permission_denied"
