"""A tool: a typed function with a schema, stated effects and limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, get_args, overload

import msgspec

from reprise.kernel.errors import ConfigurationError, ToolError, nearest
from reprise.kernel.policy import seconds
from reprise.tools.signature import Schemed, Signature, Typed

F = TypeVar("F", bound=Callable[..., Any])

Effect = Literal["pure", "reads_files", "writes_files", "network", "executes"]
"""What a tool does beside returning something. What says nothing ``executes``, which is the least trusted."""
EFFECTS: tuple[str, ...] = get_args(Effect)
Where = Literal["inline", "thread"]
NAME = 64
"""Most characters of a name: what models' interfaces take."""
MAX_INPUT = 1 << 20
"""Bytes of arguments as JSON."""
MAX_OUTPUT = 8 << 20
TIMEOUT = 30.0


class Example(NamedTuple):
    """A call that shows what a tool does; those of built-in tools are executed by the tests."""

    arguments: Mapping[str, Any]
    returns: Any = msgspec.UNSET
    """What it returns; unset = that depends."""


class Tool:
    """Something that can be done. Made from a function by :func:`tool`, or with JSON schemas and an executor.

    ``effects``
        What it does beside returning something. From it follow permissions, and what a durable run makes of a call:
        results of a ``pure`` tool may be kept, what is not ``idempotent`` has its intent recorded before it is called.
    ``idempotent``
        Whether calling it again with the same arguments does no harm; by default what is pure or only reads files.
    ``timeout``
        Seconds, or a timedelta. A function that is not async goes on in its thread, where nobody can stop it.
    ``max_input``, ``max_output``
        Bytes of arguments and result as JSON.
    ``where``
        ``inline`` or ``thread``: where a function is called that is not async. Inline is for what takes microseconds.
    ``extra``
        The extra that has its libraries; said where they are missing.
    ``parameters``, ``returns``
        JSON schemas, for a function that has no annotations; or ``signature``, which has them when they are asked for.

    >>> @tool(effects="pure")
    ... def shout(text: str, times: int = 1) -> str:
    ...     "Say it louder."
    ...     return text.upper() + "!" * times
    >>> shout.name, shout.description, shout("hello")
    ('shout', 'Say it louder.', 'HELLO!')
    >>> shout.parameters["required"]
    ['text']

    Raises ``ConfigurationError`` for a name or an effect that cannot be.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        returns: Mapping[str, Any] | None = None,
        signature: Signature | None = None,
        effects: Effect = "executes",
        idempotent: bool | None = None,
        tags: Sequence[str] = (),
        examples: Sequence[Example | tuple[Mapping[str, Any], Any]] = (),
        timeout: float | timedelta = TIMEOUT,
        max_input: int = MAX_INPUT,
        max_output: int = MAX_OUTPUT,
        where: Where = "thread",
        extra: str = "",
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        self.description = description or inspect.cleandoc(function.__doc__ or "")
        self.effects: Effect = effects
        self.idempotent = effects in ("pure", "reads_files") if idempotent is None else idempotent
        self.tags = tuple(tags)
        self.examples = tuple(Example(*example) for example in examples)
        self.timeout = seconds(timeout, "timeout")
        self.max_input, self.max_output = max_input, max_output
        self.where: Where = where
        self.extra = extra
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature: Signature = signature or (
            Typed(function) if parameters is None else Schemed(parameters, returns)
        )
        self.__doc__ = self.description
        self.__wrapped__ = function
        _check(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, without checks, policy and limits."""
        return self.function(*args, **kwargs)

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return self.signature.parameters

    @property
    def returns(self) -> dict[str, Any]:
        """JSON schema of the result, ``{}`` = anything."""
        return self.signature.returns

    @property
    def title(self) -> str:
        """First line of the description."""
        return self.description.partition("\n")[0]

    def refusal(self, caller: str) -> ToolError | None:
        """Return the error of somebody who may not call it, whatever policies say; None = they may.

        ``caller`` is the name of a scope, '' = the registry itself. Kinds of tools override it.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """Return all that is known of it as JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "returns": self.returns,
            "effects": self.effects,
            "idempotent": self.idempotent,
            "tags": list(self.tags),
            "timeout": self.timeout,
            "max_input": self.max_input,
            "max_output": self.max_output,
            **({"extra": self.extra} if self.extra else {}),
            "examples": [_shown(example) for example in self.examples],
        }

    def __repr__(self) -> str:
        return f"<tool {self.name}, {self.effects}>"


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    effects: Effect = "executes",
    idempotent: bool | None = None,
    tags: Sequence[str] = (),
    examples: Sequence[Example | tuple[Mapping[str, Any], Any]] = (),
    timeout: float | timedelta = TIMEOUT,
    max_input: int = MAX_INPUT,
    max_output: int = MAX_OUTPUT,
    where: Where = "thread",
    extra: str = "",
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a :class:`Tool`; its options are those of the class.

    The docstring says to models and people what it does. Parameters are described by ``Annotated[int, "How many."]``.
    """
    return Tool(function) if function is not None else partial(Tool, **options)


def _check(tool: Tool) -> None:
    name = tool.name
    if not (name and len(name) <= NAME and name.isascii() and name.replace("-", "_").isidentifier()):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a tool.",
            hint=f"Use letters, digits, - and _, at most {NAME}, and begin with a letter.",
        )
    if tool.effects not in EFFECTS:
        near = nearest(tool.effects, EFFECTS)
        raise ConfigurationError(
            f"The tool {name} has effects {tool.effects!r}.",
            hint=f"Did you mean {near!r}?" if near else f"Valid: {', '.join(EFFECTS)}.",
        )
    if tool.where not in ("inline", "thread"):
        raise ConfigurationError(f"The tool {name} is to be called {tool.where!r}.", hint="inline or thread.")
    if tool.timeout <= 0 or tool.max_input < 1 or tool.max_output < 1:
        raise ConfigurationError(f"The limits of the tool {name} must be positive.")


def _shown(example: Example) -> dict[str, Any]:
    shown: dict[str, Any] = {"arguments": dict(example.arguments)}
    return shown if example.returns is msgspec.UNSET else {**shown, "returns": example.returns}
