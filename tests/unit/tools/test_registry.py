"""Registering, calling and describing tools."""

import asyncio
import re
import threading
from datetime import date
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from reprise import (
    ConfigurationError,
    Example,
    MissingExtra,
    Tool,
    ToolCalled,
    ToolContext,
    ToolError,
    ToolPolicy,
    ToolRegistry,
    ToolResult,
    tool,
)
from reprise.testing import run


class Shouted(TypedDict):
    text: str
    words: int


@tool(effects="pure", tags=["text"], examples=[({"text": "ah"}, {"text": "AH", "words": 1})])
def shout(
    text: Annotated[str, "What to say."], times: Annotated[int, msgspec.Meta(ge=1, le=9), "How often."] = 1
) -> Shouted:
    """Say it louder.

    And say how many words it was.
    """
    return {"text": " ".join([text.upper()] * times), "words": times * len(text.split())}


@tool(effects="network")
async def stall() -> str:
    """Wait for ever."""
    await asyncio.Event().wait()
    return ""


def refused(registry: ToolRegistry, name: str, arguments: Any = None) -> ToolError:
    with pytest.raises(ToolError) as caught:
        run(lambda: registry.execute_tool(name, arguments))
    return caught.value


def registry_of(function: Any, **options: Any) -> ToolRegistry:
    return ToolRegistry([Tool(function, name="it", **options)])


# ---------------------------------------------------------------- calling


def test_a_tool_is_called_by_name_with_a_dict_and_returns_its_value():
    registry = ToolRegistry([shout])
    assert run(lambda: registry.execute_tool("shout", {"text": "a b", "times": 2})) == {
        "text": "A B A B",
        "words": 4,
    }


def test_a_tool_is_still_the_function_that_it_was():
    assert shout("oh") == {"text": "OH", "words": 1}


def test_the_envelope_says_what_is_known_of_a_call():
    told: list[ToolCalled] = []

    @tool(effects="pure")
    async def cut(ctx: ToolContext, text: str) -> str:
        """Cut a text."""
        await asyncio.sleep(2)
        ctx.warn(f"{len(text) - 1} characters were cut for {ctx.caller}.")
        return text[:1]

    async def main() -> ToolResult:
        registry = ToolRegistry([cut], observers=[told.append])
        return await registry.scope("ada").call_tool("cut", {"text": "abc"})

    result = run(main)
    assert (result.value, result.tool, result.data) == ("a", "cut", b'"a"')
    assert result.warnings == ("2 characters were cut for ada.",)
    assert result.duration == pytest.approx(2)
    [event] = told
    assert (event.id, event.caller, event.code, event.duration) == (
        result.event_id,
        "ada",
        "",
        result.duration,
    )
    assert (event.bytes_in, event.bytes_out) == (len(b'{"text":"abc"}'), 3)


def test_events_hold_no_arguments_and_no_results():
    told: list[ToolCalled] = []
    registry = ToolRegistry([shout], observers=[told.append])
    run(lambda: registry.execute_tool("shout", {"text": "password"}))
    refused(registry, "shout", {"text": "password", "times": "password"})
    assert "password" not in repr(told).lower()


def test_an_observer_that_fails_stops_nothing(caplog):
    def fail(event: ToolCalled) -> None:
        raise ValueError("full")

    registry = ToolRegistry([shout], observers=[fail])
    assert run(lambda: registry.execute_tool("shout", {"text": "a"}))["text"] == "A"
    assert "An observer of tools failed at shout" in caplog.text


def test_a_function_that_is_not_async_is_called_in_a_thread_unless_it_says_inline():
    def where() -> int:
        return threading.get_ident()

    async def both() -> tuple[int, int]:
        beside = await registry_of(where).execute_tool("it")
        return beside, await registry_of(where, where="inline").execute_tool("it")

    beside, inline = asyncio.run(both())
    assert inline == threading.get_ident() != beside


def test_values_are_read_as_their_types():
    seen: list[Any] = []

    async def take(day: date, names: set[str], limit: int | None = None) -> date:
        seen.extend((day, names, limit))
        return day

    result = run(lambda: registry_of(take).call_tool("it", {"day": "2026-11-22", "names": ["a"]}))
    assert seen == [date(2026, 11, 22), {"a"}, None]
    assert (result.value, result.data) == (date(2026, 11, 22), b'"2026-11-22"')


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "says", "field"),
    [
        ({}, "Object missing required field `text`", ""),
        ({"text": 3}, "Expected `str`, got `int`, at $.text", "$.text"),
        ({"text": "a", "times": "2"}, "Expected `int`, got `str`, at $.times", "$.times"),
        ({"text": "a", "times": 0}, "Expected `int` >= 1, at $.times", "$.times"),
        ({"txt": "a", "text": "b"}, "There is no argument 'txt'. Did you mean 'text'?", "$.txt"),
        ({"text": "a", "zzz": 1}, "There is no argument 'zzz'. It takes text, times.", "$.zzz"),
        ({"text": object()}, "The arguments of shout are no JSON", ""),
        (["text"], "Expected `object`, got `array`", ""),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_call(arguments, says, field):
    error = refused(ToolRegistry([shout]), "shout", arguments)
    assert (error.code, error.field) == ("invalid_input", field)
    assert says in str(error)
    assert "shout" in str(error)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_of_json_is_refused_and_not_null(number):
    def echo(value: Any) -> Any:
        return value

    registry = registry_of(echo)
    error = refused(registry, "it", {"value": [None, {"a": (1.5, number)}]})
    assert (error.code, error.field) == ("invalid_input", "$.value[1].a[1]")
    assert run(lambda: registry.execute_tool("it", {"value": [None, 1.5]})) == [None, 1.5]


def test_an_unknown_tool_is_named_beside_the_nearest():
    error = refused(ToolRegistry([shout]), "shoot")
    assert error.code == "not_found"
    assert "Did you mean 'shout'?" in str(error)


def test_too_much_is_refused_in_and_out():
    registry = ToolRegistry([Tool(shout.function, max_input=30, max_output=40, effects="pure")])
    error = refused(registry, "shout", {"text": "a" * 40})
    assert error.code == "too_large"
    assert "it takes 30" in str(error)
    error = refused(registry, "shout", {"text": "a b", "times": 9})
    assert error.code == "too_large"
    assert "it may return 40" in str(error)


def test_a_tool_that_takes_too_long_is_ended():
    error = refused(ToolRegistry([stall]), "stall")
    assert error.code == "timeout"
    assert "longer than 30 s" in str(error)


def test_a_timeout_inside_is_told_from_the_tools_own():
    async def inside() -> None:
        raise TimeoutError("the server said nothing")

    error = refused(registry_of(inside), "it")
    assert error.code == "timeout"
    assert "the server said nothing" in str(error)


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (ZeroDivisionError("division by zero"), "upstream", "it failed: ZeroDivisionError: division by zero"),
        (
            MissingExtra("polars is missing.", hint="pip install x[data]"),
            "unavailable",
            "pip install x[data]",
        ),
        (ToolError("conflict", "There is one."), "conflict", "it: There is one."),
    ],
)
def test_whatever_a_function_raises_is_a_tool_error(raised, code, says):
    async def fail() -> None:
        raise raised

    error = refused(registry_of(fail), "it")
    assert error.code == code
    assert says in str(error)


def test_a_result_that_is_not_what_was_declared_is_no_result():
    async def lie() -> int:
        return "three"  # type: ignore[return-value]

    error = refused(registry_of(lie), "it")
    assert error.code == "upstream"
    assert "str where int is declared" in str(error)


def test_a_call_that_is_cancelled_is_told_as_that():
    told: list[ToolCalled] = []
    registry = ToolRegistry([stall], observers=[told.append])

    async def main() -> None:
        call = asyncio.create_task(registry.execute_tool("stall"))
        await asyncio.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    run(main)
    assert [event.code for event in told] == ["cancelled"]


# ---------------------------------------------------------------- registering


def test_an_executor_stands_in_for_the_tools_own_function():
    registry = ToolRegistry()
    registry.register_tool(shout, lambda arguments: {"text": f"mock of {arguments['text']}", "words": 0})
    assert run(lambda: registry.execute_tool("shout", {"text": "a"}))["text"] == "mock of a"
    assert refused(registry, "shout", {"text": 1}).code == "invalid_input"


def test_an_executor_may_be_async_take_the_context_and_return_anything_that_is_json():
    async def executor(arguments: dict[str, Any], context: ToolContext) -> str:
        return f"{context.tool} {arguments['times']}"

    registry = ToolRegistry()
    registry.register_tool(shout, executor)
    result = run(lambda: registry.call_tool("shout", {"text": "a"}))
    assert result.value == "shout 1"
    assert "does not declare" in result.warnings[0]


def test_an_executor_that_is_not_async_is_called_in_a_thread():
    def executor(arguments: dict[str, Any], context: ToolContext) -> str:
        return f"{threading.get_ident()} {context.tool}"

    registry = ToolRegistry()
    registry.register_tool(stall, executor)
    beside, name = asyncio.run(registry.execute_tool("stall")).split()
    assert int(beside) != threading.get_ident()
    assert name == "stall"


def test_an_executor_that_takes_something_else_is_refused_and_changes_nothing():
    registry = ToolRegistry([shout])
    with pytest.raises(ConfigurationError, match="takes") as caught:
        registry.register_tool(shout, lambda a, b, c: a, replace=True)
    assert "shout(arguments, context)" in str(caught.value)
    assert run(lambda: registry.execute_tool("shout", {"text": "a"}))["text"] == "A"


@pytest.mark.parametrize("name", ["find_tools", "call_tool"])
def test_no_tool_takes_the_place_of_those_that_find_others(name):
    with pytest.raises(ToolError, match="stands in for many") as caught:
        ToolRegistry().register_tool(Tool(stall.function, name=name), replace=True)
    assert caught.value.code == "conflict"


def test_a_name_is_taken_once_unless_it_is_replaced():
    other = Tool(stall.function, name="shout")
    registry = ToolRegistry([shout, shout])
    with pytest.raises(ToolError) as caught:
        registry.register_tool(other)
    assert caught.value.code == "conflict"
    registry.register_tool(other, replace=True)
    assert registry["shout"] is other
    registry.unregister_tool("shout")
    assert "shout" not in registry
    assert len(registry) == 0


def test_changes_are_heard_until_that_is_ended_and_what_is_no_change_is_not():
    registry, heard = ToolRegistry([shout]), []
    note = lambda before, after: heard.append((before, after))  # noqa: E731 - the same one twice, below
    end, end_second = registry.on_change(note), registry.on_change(note)
    other = Tool(stall.function, name="shout")
    registry.register_tool(shout)
    assert heard == [], "it was there already"
    with pytest.raises(ToolError):
        registry.register_tool(other)
    assert heard == [], "it was refused"
    end_second()
    end_second()
    registry.register_tool(stall)
    registry.register_tool(other, replace=True)
    registry.unregister_tool("shout")
    assert heard == [(None, stall), (shout, other), (other, None)]
    end()
    end()
    registry.unregister_tool("stall")
    assert len(heard) == 3


def test_what_is_heard_is_true_by_then_and_a_handler_that_fails_stops_nothing(caplog):
    registry, seen = ToolRegistry(), []

    def fails(before: Tool | None, after: Tool | None) -> None:
        raise RuntimeError("no luck")

    registry.on_change(fails)
    registry.on_change(lambda before, after: seen.append((list(registry), registry.search("louder"))))
    registry.register_tool(shout)
    registry.unregister_tool("shout")
    assert seen == [(["shout"], [shout]), ([], [])]
    assert "no luck" in caplog.text


def test_a_scope_hears_only_of_what_may_be_called_there():
    registry, heard = ToolRegistry(policy=ToolPolicy(deny=["tag:secret"])), []
    scope = registry.scope("ada", policy=ToolPolicy(allow=["effect:pure"]))
    scope.on_change(lambda before, after: heard.append((before, after)))
    registry.register_tool(Tool(stall.function, name="hidden", effects="pure", tags=["secret"]))
    registry.register_tool(stall)
    assert heard == []
    grown = Tool(stall.function, name="shout", effects="network")
    registry.register_tool(shout)
    registry.register_tool(grown, replace=True)
    registry.unregister_tool("shout")
    assert heard == [(None, shout), (shout, None)], "what became too much is gone, for this caller"


@pytest.mark.parametrize("name", ["", "two words", "1st", "a" * 65, "größe", "a.b"])
def test_a_name_that_models_would_not_take_is_refused(name):
    with pytest.raises(ConfigurationError, match="cannot be the name of a tool"):
        Tool(lambda: None, name=name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"effects": "netwrk"}, "Did you mean 'network'?"),
        ({"where": "moon"}, "inline or thread"),
        ({"timeout": 0}, "positive"),
        ({"max_input": 0}, "positive"),
    ],
)
def test_options_that_cannot_be_are_refused(options, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Tool(shout.function, **options)


def test_parameters_that_no_caller_could_name_are_refused():
    def many(*texts: str) -> None: ...

    with pytest.raises(ConfigurationError, match="name each of them"):
        _ = Tool(many).parameters


def test_parameters_that_cannot_be_read_are_a_fault_of_the_tool_not_of_the_call():
    async def limited(text: Annotated[str | None, msgspec.Meta(max_length=3)] = None) -> None: ...

    with pytest.raises(ConfigurationError, match="limited cannot be read"):
        run(lambda: registry_of(limited).execute_tool("it", {}))


# ---------------------------------------------------------------- described


def test_a_tool_describes_itself_as_json():
    told = shout.describe()
    assert told["parameters"] == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What to say."},
            "times": {
                "type": "integer",
                "minimum": 1,
                "maximum": 9,
                "default": 1,
                "description": "How often.",
            },
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert told["returns"]["$defs"]["Shouted"]["required"] == ["text", "words"]
    assert (told["effects"], told["idempotent"], told["timeout"]) == ("pure", True, 30)
    assert told["examples"] == [{"arguments": {"text": "ah"}, "returns": {"text": "AH", "words": 1}}]
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


def test_what_is_said_of_effects_decides_what_may_be_repeated():
    of = {
        effect: Tool(shout.function, effects=effect).idempotent
        for effect in ("pure", "reads_files", "network")
    }
    assert of == {"pure": True, "reads_files": True, "network": False}
    assert Tool(shout.function, effects="network", idempotent=True).idempotent
    assert Tool(shout.function).effects == "executes"


def test_examples_are_executed_here():
    [example] = shout.examples
    assert isinstance(example, Example)
    assert run(lambda: ToolRegistry([shout]).execute_tool("shout", example.arguments)) == example.returns


# ---------------------------------------------------------------- tools with schemas


def test_a_tool_with_schemas_is_checked_by_them():
    asked: list[Any] = []
    remote = Tool(
        lambda arguments: None,
        name="remote",
        parameters={"properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]},
        returns={"type": "object", "required": ["id"]},
    )
    registry = ToolRegistry()
    registry.register_tool(remote, lambda arguments: asked.append(arguments) or {"id": 7})
    assert run(lambda: registry.execute_tool("remote", {"n": 2})) == {"id": 7}
    error = refused(registry, "remote", {"n": 0})
    assert (error.code, error.field) == ("invalid_input", "$.n")
    assert asked == [{"n": 2}]


# ---------------------------------------------------------------- provided


class Translator:
    def __init__(self, name: str) -> None:
        self.name = name


def test_a_tool_asks_for_what_was_provided_and_says_so_where_nothing_was():
    async def translate(ctx: ToolContext) -> str:
        return ctx.need(Translator).name

    registry = registry_of(translate)
    error = refused(registry, "it")
    assert error.code == "unavailable"
    assert "needs a Translator" in str(error)
    registry.provide(Translator("first"), Translator("second"))
    assert run(lambda: registry.execute_tool("it")) == "second"


def test_time_and_chance_come_from_what_is_around():
    async def look(ctx: ToolContext) -> tuple[int, str]:
        return ctx.clock.now(), ctx.randomness(4).hex()

    async def main() -> Any:
        return await registry_of(look).execute_tool("it")

    assert run(main, seed=3) == run(main, seed=3) != run(main, seed=4)
