"""The tools that come with Reprise: each does what its examples say, describes itself, and says no to what it must."""

from typing import Any

import msgspec
import pytest

from reprise import Example, Tool, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.kernel.schema import misfits
from reprise.testing import run
from reprise.tools.library.texts.summaries import FunctionSummarizer
from reprise.tools.library.texts.translation import FunctionTranslator

TOOLS = create_builtin_tools_library()
EXAMPLES = [
    pytest.param(tool, example, id=f"{tool.name}-{at}")
    for tool in TOOLS
    for at, example in enumerate(tool.examples)
]


def call(name: str, **arguments: Any) -> Any:
    registry = ToolRegistry(TOOLS)
    registry.provide(
        FunctionTranslator(lambda text, *_: {"Good morning": "Bonjour"}[text]),
        FunctionSummarizer(lambda text, *_: text[:60]),
    )
    return run(lambda: registry.execute_tool(name, arguments), seed=1)


@pytest.mark.parametrize(("tool", "example"), EXAMPLES)
def test_an_example_returns_what_it_says(tool: Tool, example: Example):
    assert misfits(dict(example.arguments), tool.parameters) == []
    value = call(tool.name, **example.arguments)
    if example.returns is not msgspec.UNSET:
        assert value == example.returns
    assert misfits(msgspec.to_builtins(value), tool.returns) == []


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_says_what_it_is(tool: Tool):
    told = tool.describe()
    assert tool.examples, "it has no example"
    assert tool.title.endswith((".", ":")), tool.title
    assert tool.tags[0] == tool.name.partition("_")[0]
    assert told["returns"], "it does not declare what it returns"
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_what_is_no_argument_is_refused(tool: Tool):
    for arguments in ({"no_such_argument": 1}, dict.fromkeys(tool.parameters["properties"], object)):
        with pytest.raises(ToolError) as caught:
            call(tool.name, **arguments)
        assert caught.value.code == "invalid_input"


def test_the_library_is_registered_in_no_time():
    registry = ToolRegistry(create_builtin_tools_library())
    assert len(registry) == len(TOOLS)
    assert len({tool.name for tool in TOOLS}) == len(TOOLS)
