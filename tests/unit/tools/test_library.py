"""The tools that come with Reprise: each does what its examples say, describes itself, and says no to what it must."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import msgspec
import pytest

from reprise import Example, FileRoots, Tool, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.kernel.schema import misfits
from reprise.testing import run
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.later import Entry, entry_of
from reprise.tools.library import GROUPS, times
from reprise.tools.library.texts.summaries import FunctionSummarizer
from reprise.tools.library.texts.translation import FunctionTranslator
from reprise.tools.library.web.searching import SearXNG

TOOLS = create_builtin_tools_library()
EXAMPLES = [
    pytest.param(tool, example, id=f"{tool.name}-{at}")
    for tool in TOOLS
    for at, example in enumerate(tool.examples)
]


@contextmanager
def roots() -> Iterator[FileRoots]:
    """Yield the folders that the examples are about: docs/hello.txt, and the same packed, work/hello.zip."""
    with TemporaryDirectory() as home:
        docs, work = Path(home, "docs"), Path(home, "work")
        docs.mkdir()
        work.mkdir()
        (docs / "hello.txt").write_text("Hello,\nworld\n")
        (docs / "hello.txt").chmod(0o644)
        os.utime(docs / "hello.txt", (1795339800, 1795339800))
        with zipfile.ZipFile(work / "hello.zip", "w") as archive:
            archive.write(docs / "hello.txt", "hello.txt")
        with FileRoots({"docs": docs, "work": work}) as folders:
            yield folders


def web() -> tuple[object, ...]:
    """Return the web that the examples are about, which is not the real one: example.org, and a search."""
    tea = "".join(f"<p>{'On tea there is a lot to say. ' * each}</p>" for each in (9, 12))
    pages = {
        "/kettles": ("text/html", "<title>Kettles</title><h1>Kettles, all of them</h1>"),
        "/article": ("text/html", f"<title>On tea</title><article>{tea}</article>"),
        "/data.json": ("application/json", '{"tea": 3}'),
        "/data.csv": ("text/csv", "tea\n3\n"),
        "/": ("text/html", "Welcome"),
        "/notes": ("application/json", '{"id": 1}'),
        "/robots.txt": ("text/plain", "User-agent: *\nDisallow: /private\n"),
        "/feed": (
            "application/rss+xml",
            '<rss version="2.0"><channel><title>News of tea</title></channel></rss>',
        ),
        "/search": ("application/json", '{"results": [{"title": "Tea", "url": "https://example.org/tea"}]}'),
    }

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind, text = pages.get(request.url.path, ("text/plain", ""))
        return httpx2.Response(200 if text else 404, headers={"content-type": kind}, text=text)

    access = NetworkAccess(transport=httpx2.MockTransport(answer))
    return access, SearXNG("https://search.example.org", access=access)


def models() -> tuple[object, ...]:
    """Return who translates and summarizes in the examples."""
    return (
        FunctionTranslator(lambda text, *_: {"Good morning": "Bonjour"}[text]),
        FunctionSummarizer(lambda text, *_: text[:60]),
    )


def call(name: str, **arguments: Any) -> Any:
    registry = ToolRegistry(TOOLS)
    with roots() as folders:
        registry.provide(folders, *web(), *models())
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


def test_no_two_tools_have_a_name_in_common():
    assert len(ToolRegistry(create_builtin_tools_library())) == len(TOOLS)
    assert len({tool.name for tool in TOOLS}) == len(TOOLS)


def test_the_index_says_what_the_groups_say():
    index = files("reprise.tools.library").joinpath("index.json").read_bytes()
    groups = [import_module(f"reprise.tools.library.{group}").TOOLS for group in GROUPS]
    assert msgspec.json.decode(index, type=list[Entry]) == [
        entry_of(tool) for group in groups for tool in group
    ], "run scripts/tools_index.py"


def test_a_tool_of_the_library_is_the_one_of_its_group():
    age = next(each for each in create_builtin_tools_library() if each.name == "time_age")
    assert age.describe() == times.time_age.describe()
    assert age.function is times.time_age.function
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = age.no_such_thing


REGISTER = """
import sys
from reprise.tools.registry import ToolRegistry
before = set(sys.modules)
from reprise.tools.library import create_builtin_tools_library
ToolRegistry(create_builtin_tools_library())
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_registering_loads_no_library_of_an_extra():
    loaded = subprocess.run([sys.executable, "-c", REGISTER], capture_output=True, text=True, check=True)
    others = {
        name
        for name in loaded.stdout.split()
        if name not in sys.stdlib_module_names and not name.startswith("_sysconfigdata")
    }
    assert "reprise" in loaded.stdout  # what is loaded at all is seen
    assert others <= {"reprise"}
