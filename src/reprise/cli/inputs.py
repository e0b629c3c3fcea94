"""The input of a run from the command line: JSON, a file, standard input, or name=value."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from reprise.kernel.errors import ConfigurationError, unknown_option
from reprise.runtime.workflow import Workflow
from reprise.workflows.flow import Flow

Call = tuple[tuple[Any, ...], dict[str, Any]]


def read_input(
    workflow: Workflow[..., Any], given: Sequence[str], stdin: Callable[[], str] = sys.stdin.read
) -> Call:
    """Return the arguments that several ``-i`` say together.

    A JSON object gives arguments by name, a JSON list by position; ``@file`` and ``-`` (standard input) hold one of
    them; ``name=value`` gives one argument, read as its declared type. What comes later wins. Those of a plan are its
    inputs, by name.

    Raises:
        ConfigurationError: what is given is neither, cannot be read, or does not fit the workflow.
    """
    if isinstance(workflow, Flow) and workflow.inputs is not None:
        return workflow.called_with(_inputs(workflow.inputs, given, stdin))
    return workflow.arguments.bind_mapping(_named(workflow, given, stdin))


def read_changes(
    workflow: Workflow[..., Any], given: Sequence[str], stdin: Callable[[], str] = sys.stdin.read
) -> dict[str, Any]:
    """Return arguments by name that several ``-i`` say together, each as its declared type; they need not be all.

    Raises:
        ConfigurationError: as :func:`read_input`.
    """
    arguments = workflow.arguments
    _, positional, keyword_only, _, _, options = arguments.parameters
    named = _named(workflow, given, stdin)
    for name in named:
        if name not in (*positional, *keyword_only) and not options:
            raise unknown_option(name, (*positional, *keyword_only), f"{workflow.name}()")
    return {name: arguments.read(name, value) for name, value in named.items()}


def _named(workflow: Workflow[..., Any], given: Sequence[str], stdin: Callable[[], str]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for text in given:
        value = _value(text, stdin)
        named |= _by_position(workflow, value) if isinstance(value, list) else value
    return named


def _inputs(declared: Mapping[str, Any], given: Sequence[str], stdin: Callable[[], str]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for text in given:
        value = _value(text, stdin)
        if isinstance(value, list):
            raise ConfigurationError(
                f"The input {text[:60]!r} is a list.", hint="A plan has its inputs by name: -i name=value"
            )
        for name, one in value.items():
            is_text = declared.get(name, {}).get("type") == "string" or not _pair(text)
            inputs[name] = one if is_text else read_value(one)
    return inputs


def read_value(text: str) -> Any:
    """Return the value of a JSON text; what is not JSON is text.

    >>> read_value("3"), read_value("tea"), read_value('"3"')
    (3, 'tea', '3')
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _value(text: str, stdin: Callable[[], str]) -> dict[str, Any] | list[Any]:
    if (pair := _pair(text)) is not None:
        return dict([pair])
    if text == "-":
        return _json(stdin(), "standard input")
    if text.startswith("@"):
        try:
            return _json(Path(text[1:]).read_text("utf-8"), text[1:])
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The input file {text[1:]!r} cannot be read ({error}).") from error
    if text.lstrip().startswith(("{", "[")):
        return _json(text, "the input")
    raise ConfigurationError(
        f"The input {text[:60]!r} is not understood.",
        hint="""Give name=value, JSON such as '{"name": 1}', @file.json, or - for standard input.""",
    )


def _pair(text: str) -> tuple[str, str] | None:
    """Return name and value of ``name=value``, None of anything else."""
    name, equals, value = text.partition("=")
    return (name, value) if equals and name.isidentifier() else None


def _json(text: str, source: str) -> dict[str, Any] | list[Any]:
    try:
        value: Any = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{source} is not JSON: {error}.") from error
    if not isinstance(value, dict | list):
        raise ConfigurationError(
            f"{source} holds {text.strip()[:40]!r}.",
            hint="An input is an object (arguments by name) or a list (by position).",
        )
    return cast("dict[str, Any] | list[Any]", value)


def _by_position(workflow: Workflow[..., Any], values: list[Any]) -> dict[str, Any]:
    parameters = workflow.arguments.parameters
    names = parameters.positional
    if len(values) > len(names) and not parameters.rest:
        raise ConfigurationError(
            f"{workflow.name} takes {len(names)} arguments by position, {len(values)} were given.",
            hint=f"They are {', '.join(names)}." if names else "It takes none.",
        )
    named = dict(zip(names, values, strict=False))
    return named | {parameters.rest: values[len(names) :]} if len(values) > len(names) else named
