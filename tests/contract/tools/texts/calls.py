"""How the tests call tools for text: through a registry, as everybody does."""

from typing import Any

import pytest

from reprise import ToolError, ToolRegistry
from reprise.testing import run
from reprise.tools.library import texts

REGISTRY = ToolRegistry(texts.TOOLS)


def call(name: str, **arguments: Any) -> Any:
    return run(lambda: REGISTRY.execute_tool(name, arguments), seed=1)


def refusal(name: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call(name, **arguments)
    return caught.value


def warnings(name: str, **arguments: Any) -> tuple[str, ...]:
    return run(lambda: REGISTRY.call_tool(name, arguments), seed=1).warnings
