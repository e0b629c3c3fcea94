"""An agent uses an API that it was never told of: the specification becomes tools, and these call the store.

    python examples/petstore/main.py

The store is served beside it on loopback, which tools reach only because it is allowed here.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from urllib.parse import urlsplit

from reprise import Credentials, NetworkAccess, OpenAPIParser, OperationOptions, ToolError, ToolRegistry

sys.path.insert(0, str(Path(__file__).parent))
from store import KEY, serving


async def visit(url: str) -> list[str]:
    """Discover the store's tools and use them; return what happened."""
    access = NetworkAccess(allow=[urlsplit(url).netloc])
    parser = OpenAPIParser(
        network=access,
        writers=["keeper"],
        options={"store_list_pets": OperationOptions(select="items[].name", all_pages=10)},
    )
    registry = ToolRegistry()
    registry.provide(access, Credentials().api_key("store_key", lambda: KEY))
    count = parser.register_tools_from_spec(f"{url}/openapi.yaml", registry, tool_prefix="store_")
    said = [f"{count} tools: {', '.join(sorted(registry))}"]

    guest, keeper = registry.scope("guest"), registry.scope("keeper")
    said.append(f"all pages: {', '.join(await guest.execute_tool('store_list_pets'))}")
    pet = await keeper.execute_tool("store_add_pet", {"body": {"name": "Hal", "kind": "fish"}})
    said.append(f"added: {pet}")
    photo = {"base64": base64.b64encode(b"\x89PNG").decode(), "filename": "hal.png"}
    kept = await keeper.execute_tool(
        "store_add_photo", {"id": pet["id"], "body": {"photo": photo, "caption": "Hal"}}
    )
    said.append(f"photo: {kept}")
    for who, name, arguments in (
        (guest, "store_remove_pet", {"id": 8}),
        (keeper, "store_add_pet", {}),
        (keeper, "store_add_pet", {"body": {"name": "Ivy", "kind": "bird"}}),
        (keeper, "store_add_pet", {"body": {"name": "Ada", "kind": "cat"}}),
        (keeper, "store_get_pet", {"id": 99}),
    ):
        try:
            await who.execute_tool(name, arguments)
        except ToolError as error:
            said.append(f"{error.code}: {error.what}")
    await keeper.execute_tool("store_remove_pet", {"id": pet["id"]})
    return said


def main() -> None:
    """Serve the store, visit it, print what happened."""
    with serving() as url:
        print("\n".join(asyncio.run(visit(url))))


if __name__ == "__main__":
    main()
