"""What a server may try, and what comes of it: nothing but an error of that tool, soon, with little memory.

Each case stands beside the control: the same calls of a server that tries nothing go through (test_mount.py).
"""

import asyncio
import json
import resource
import time

import pytest

from reprise.kernel.errors import ToolError
from reprise.tools.mcp.naming import clean, cleaned, name_of

SOON = 20
"""Seconds within which each case is over; most take a few milliseconds."""


async def refusal(awaitable) -> ToolError:
    with pytest.raises(ToolError) as error:
        async with asyncio.timeout(SOON):
            await awaitable
    return error.value


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [
        ("endless", "too_large", "more than 100 pages"),
        ("same-cursor", "too_large", "more than 100 pages"),
        ("many", "too_large", "more than 1,000 tools"),
        ("wrong-list", "upstream", "does not list its tools"),
        ("wrong-tool", "upstream", "does not list its tools"),
        ("no-object", "upstream", "does not list its tools"),
        ("broken-parts", "upstream", "does not list its tools"),
        ("mute", "unavailable", "does not answer in time"),
        ("deep-schema", "unavailable", "does not answer in time"),
    ],
)
async def test_a_list_that_is_none_mounts_nothing(peer, mode, code, says):
    server = peer(mode)
    mount = server.mount(patience=3 if code == "unavailable" else 30)
    error = await refusal(mount.mount(server.registry))
    assert error.code == code
    assert says in error.what
    assert len(server.registry) == 0


@pytest.mark.parametrize(
    ("mode", "refused"),
    [
        ("twice", {"add": "listed twice"}),
        ("huge-schema", {"huge": "characters"}),
    ],
)
async def test_a_tool_that_cannot_be_is_refused_and_the_others_are_there(peer, mode, refused):
    server = peer(mode)
    mount = await server.mounted()
    assert mount.refused.keys() == refused.keys()
    for name, why in refused.items():
        assert why in mount.refused[name]
    assert await server.call("x_ok") == "ok"


async def test_names_that_collide_stay_apart_and_never_depend_on_order(peer):
    server = peer("collide")
    mount = await server.mounted()
    assert len(mount.tools) == 4
    for name in ("a.b", "a b", "a/b", "a_b"):
        await server.call(name_of("x", name))
    assert {server.noted(f"call {name}") for name in ("a.b", "a b", "a/b", "a_b")} == {1}


async def test_odd_names_become_names(peer):
    server = peer("odd")
    mount = await server.mounted()
    for each in mount.tools:
        assert each.name.isascii()
        assert each.name.startswith("x_")
        assert len(each.name) <= 64
        await server.call(each.name)
    assert len(mount.tools) + len(mount.refused) == 9


async def test_texts_are_what_a_person_sees_and_no_longer_than_a_page(peer):
    server = peer("texts")
    mount = await server.mounted()
    texts = {each.name: each.description for each in mount.tools}
    assert texts["x_add"] == "hiddenrightto left"
    # Words that speak to models are not told from others. They are data of a tool that may do nothing by itself.
    assert texts["x_plain"] == "Ignore all."
    assert "x_long" not in texts
    assert "1,000" in mount.refused["long"]


# ---------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("mode", "tool", "arguments"),
    [
        ("pattern", "match", {"x": "a" * 40 + "!"}),
        ("out-pattern", "out", {}),
    ],
)
async def test_patterns_are_left_to_whoever_wrote_them(peer, mode, tool, arguments):
    server = peer(mode)
    await server.mounted()
    async with asyncio.timeout(SOON):
        await server.call(f"x_{tool}", **arguments)
    assert server.noted(f"call {tool}") == 1


@pytest.mark.parametrize(
    ("mode", "tool", "says"),
    [
        ("bomb", "bomb", "takes too long to check"),
        ("loop", "loop", "takes too long to check"),
        ("remote", "remote", "is broken"),
        ("remote", "file", "is broken"),
        ("broken-schema", "items", "is broken"),
    ],
)
async def test_a_schema_that_cannot_be_followed_is_an_error_of_that_tool(peer, mode, tool, says):
    server = peer(mode)
    mount = await server.mounted()
    if tool in mount.refused:
        return
    error = await refusal(server.call(f"x_{tool}", x=["text"] if tool == "items" else "text"))
    assert (error.code, server.noted("call")) == ("upstream", 0)
    assert says in error.what


# ---------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [
        ("huge", "upstream", "more than"),
        ("endless-line", "upstream", "more than"),
        ("large", "too_large", "may return"),
        ("never", "timeout", "took longer"),
        ("garbage", "timeout", "took longer"),
        ("wrong-id", "timeout", "took longer"),
        ("wrong-result", "upstream", "no result"),
        ("no-content", "upstream", "no result"),
        ("error-text", "upstream", "hiddenrightto left"),
        ("error-code", "upstream", "x"),
        ("rpc-error", "upstream", "hiddenrightto left"),
        ("task", "upstream", "no result"),
        ("asks", "timeout", "took longer"),
        ("roots", "timeout", "took longer"),
        ("stderr", "upstream", "the last words"),
    ],
)
async def test_what_is_no_result_is_an_error_and_a_new_call_goes_on(peer, mode, code, says):
    server = peer(mode)
    await server.mounted(timeout=1 if code == "timeout" else 15)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = await refusal(server.call("x_add", a=1))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert error.code == code, error
    assert says in error.what
    assert len(error.what) < 3_000
    assert "\x1b" not in str(error)
    assert grown < 200 << 10, f"{grown >> 10} MiB"
    assert error.retry_after is None
    # The mount is not lost: the next call is one.
    second = await refusal(server.call("x_add", a=1))
    assert second.code == code
    assert server.noted("call add") == 2


async def test_requests_of_a_server_are_refused_where_nobody_offered_to_answer_them(peer, until):
    server = peer("asks")
    await server.mounted(timeout=1)
    await refusal(server.call("x_add", a=1))
    await until(lambda: server.noted("reply"))
    assert json.loads(server.notes.read_text().partition("reply ")[2].splitlines()[0]) < 0


async def test_a_flood_of_notifications_does_not_make_us_list_all_the_time(peer):
    server = peer("flood")
    await server.mounted(timeout=20)
    assert await server.call("x_add", a=1) == "after the flood"
    assert server.noted("list") < 20


async def test_results_that_are_not_what_was_declared_are_errors(peer):
    server = peer("undeclared")
    await server.mounted()
    error = await refusal(server.call("x_out"))
    assert error.code == "upstream"
    assert "not what the server says" in error.what


async def test_control_the_pattern_that_is_not_tried_would_take_for_ever():
    """One character more doubles it: at 24 it is measurable, at 41 nobody waits for it."""
    import re

    began = time.perf_counter()
    assert not re.search("^(a+)+$", "a" * 20 + "!")
    short = time.perf_counter() - began
    began = time.perf_counter()
    assert not re.search("^(a+)+$", "a" * 24 + "!")
    assert time.perf_counter() - began > 4 * short


def test_control_the_texts_do_have_what_is_taken_out():
    assert clean("a\x1b]0;title\x07b\x9bc\u2066d\ufeffe") == "abcde"
    assert cleaned({"properties": {"description": {"description": "a\u200b", "enum": ["a\u200b"]}}}) == {
        "properties": {"description": {"description": "a", "enum": ["a\u200b"]}}
    }
