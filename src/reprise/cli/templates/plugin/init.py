"""The plugin PLUGIN_NAME: each function with @tool becomes a tool."""

from typing import Annotated

from reprise import tool


@tool(effects="pure", tags=["PLUGIN_NAME"], examples=[({"name": "Ada"}, "Hello, Ada!")])
def plugin_name_greet(name: Annotated[str, "Who is greeted."]) -> str:
    """Greet somebody by name."""
    return f"Hello, {name}!"
