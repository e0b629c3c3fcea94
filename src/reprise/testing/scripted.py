"""Agents and models that say what a test wants them to say, and remember what they were asked.

Answers belong to the call, not to the moment: within a run, a step that is executed again after a crash gets the answer
that it got before, and the next attempt of a retry the next one. So the same script serves a run that is undisturbed and one
that crashes anywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple, cast

import msgspec

from reprise.kernel.failures import register_error
from reprise.runtime.host import STEP

_NOTHING: Any = object()


@register_error
class Unscripted(AssertionError):
    """Somebody was asked what the script does not foresee."""


class Asked(NamedTuple):
    """One question to an agent."""

    agent: str
    task: Any
    context: Any


class FunctionAgent:
    """An executor that asks a function of (agent_type, task, context), async or not, and remembers what it was asked.

    It is an ``agent_executor`` of plans and chains; ``agents("writer", "critic")`` are single agents for
    ``Reprise(agents=)``.
    """

    def __init__(self, function: Callable[[str, Any, Any], Any]) -> None:
        self._function = function
        self.calls: list[Asked] = []
        """What was asked, in order."""

    async def __call__(self, agent_type: str, task: Any, context: Any = None) -> Any:
        """Answer for an agent."""
        self.calls.append(Asked(agent_type, task, context))
        answer = self._function(agent_type, task, context)
        return await answer if inspect.isawaitable(answer) else answer

    def agents(self, *names: str) -> dict[str, Callable[[Any, Any], Any]]:
        """Return agents of (task, context) by their names."""

        def agent(name: str) -> Callable[[Any, Any], Any]:
            async def ask(task: Any, context: Any) -> Any:
                return await self(name, task, context)

            return ask

        return {name: agent(name) for name in names}

    def assert_asked(self, agent: str, task: Any = _NOTHING, *, times: int | None = None) -> Asked:
        """Check that an agent was asked (to do ``task``), and how often if that is given; return the latest question.

        Raises:
            AssertionError: it was not; says what was asked instead.
        """
        about = [each for each in self.calls if each.agent == agent and task in (_NOTHING, each.task)]
        wanted = f"{agent}: {'anything' if task is _NOTHING else repr(task)}"
        if not about or (times is not None and len(about) != times):
            count = "" if times is None else f" {times} times, but {len(about)}"
            raise AssertionError(f"Not asked{count}: {wanted}. {self._told()}")
        return about[-1]

    def _told(self) -> str:
        lines = [f"\n  {each.agent}: {each.task!r}" for each in self.calls]
        return f"Asked were:{''.join(lines)}" if lines else "Nobody was asked anything."


class ScriptedAgent(FunctionAgent):
    """An executor that answers from a script, and nothing else.

    The script is a list of answers to all questions in their order, or a mapping of agents to what they say: a list with an
    answer for each turn, or one answer to everything. An answer is a value; an error, which is raised; or a function of
    (task, context), async or not. ``...`` at the end of a list repeats the last answer for ever.

    >>> import asyncio
    >>> agent = ScriptedAgent({"writer": ["a draft", ConnectionError("busy"), "a better draft"], "critic": "fine"})
    >>> asyncio.run(agent("writer", "write")), asyncio.run(agent("critic", "look"))
    ('a draft', 'fine')
    >>> agent.assert_asked("critic", times=1).task
    'look'
    """

    def __init__(self, script: Mapping[str, Any] | Sequence[Any]) -> None:
        super().__init__(self._answer)
        self._script = dict(script) if isinstance(script, Mapping) else None
        self._lines = {} if isinstance(script, Mapping) else {"": _Lines("everybody", script)}
        self._said: dict[tuple[str, str, int], Any] = {}
        """Answers by the run, key and attempt of the step that asked."""
        for name, line in (self._script or {}).items():
            answers = cast("list[Any]", line) if isinstance(line, list) else [line, ...]
            self._lines[name] = _Lines(name, answers)

    def assert_done(self) -> None:
        """Check that everything was said that stands in the script; raises ``AssertionError``."""
        left = {line.name: count for line in self._lines.values() if (count := line.left)}
        if left:
            raise AssertionError(
                f"Never said: {', '.join(f'{n} of {who}' for who, n in left.items())}. {self._told()}"
            )

    async def _answer(self, agent: str, task: Any, context: Any) -> Any:
        job = STEP.get()
        call = (job.execution.work, job.key, job.attempt) if job is not None else None
        if call is None or call not in self._said:
            answer = self._line(agent).next(task)
            if call is not None:
                self._said[call] = answer
        else:
            answer = self._said[call]
        if _is_error(answer):
            raise answer
        if not callable(answer):
            return answer
        given = answer(task, context)
        return await given if inspect.isawaitable(given) else given

    def _line(self, agent: str) -> _Lines:
        line = self._lines.get("" if self._script is None else agent)
        if line is None:
            raise Unscripted(
                f"The script has no agent {agent!r}, only {', '.join(self._lines)}. {self._told()}"
            )
        return line


def _is_error(answer: Any) -> bool:
    return isinstance(answer, BaseException) or (
        inspect.isclass(answer) and issubclass(answer, BaseException)
    )


class _Lines:
    """What one speaker says, turn by turn."""

    def __init__(self, name: str, answers: Sequence[Any]) -> None:
        self.name = name
        self._repeats = bool(answers) and isinstance(answers[-1], EllipsisType)
        self._answers = list(answers[:-1] if self._repeats else answers)
        self._turn = 0

    def at(self, turn: int) -> Any:
        """Return the answer of a turn."""
        return self._answers[min(turn, len(self._answers) - 1)]

    @property
    def left(self) -> int:
        """How many answers were never given."""
        return max(0, len(self._answers) - self._turn)

    def next(self, question: Any) -> Any:
        """Return the answer of the next turn."""
        turn, self._turn = self._turn, self._turn + 1
        if turn >= len(self._answers) and not (self._repeats and self._answers):
            raise Unscripted(
                f"{self.name} has {len(self._answers)} answers and was asked once more: {question!r}. "
                "Add an answer, or put ... behind the last one to repeat it."
            )
        return self.at(turn)


# ---------------------------------------------------------------- models


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model says at once: a message of any shape, or the pieces of one that is streamed."""

    reply: Any = None
    chunks: list[Any] | None = None
    sees: Any = msgspec.UNSET
    """What it is shown, if that is to be checked."""


class ScriptedModel:
    """A model that plays a conversation: call it with whatever the code shows a model, or ``stream`` it in pieces.

    ``turns`` are replies (texts, messages, tool calls, of whatever shape the code knows), errors, or :class:`Turn` values.
    What it was shown is in ``calls``.

    >>> import asyncio
    >>> model = ScriptedModel([{"tool": "search", "input": "bees"}, Turn(chunks=["They ", "hum."])])
    >>> asyncio.run(model("What do bees do?"))
    {'tool': 'search', 'input': 'bees'}
    >>> async def said(): return [piece async for piece in model.stream("Found: they hum")]
    >>> asyncio.run(said())
    ['They ', 'hum.']
    """

    def __init__(self, turns: Sequence[Any]) -> None:
        self._lines = _Lines("the model", turns)
        self.calls: list[Any] = []
        """What it was shown, in order."""

    async def __call__(self, messages: Any, **options: Any) -> Any:
        """Return the next reply; that of pieces of text is the whole text."""
        turn = self._next(messages)
        if turn.chunks is None:
            return turn.reply
        return "".join(turn.chunks) if all(isinstance(piece, str) for piece in turn.chunks) else turn.chunks

    async def stream(self, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Yield the next reply in its pieces; one that has none is one piece."""
        turn = self._next(messages)
        for piece in turn.chunks if turn.chunks is not None else [turn.reply]:
            yield piece

    def assert_done(self) -> None:
        """Check that the conversation was played to its end; raises ``AssertionError``."""
        if self._lines.left:
            raise AssertionError(f"{self._lines.left} replies were never asked for.")

    def save(self, path: Path) -> None:
        """Write what it was shown and said so far to a file, a turn per line, to be loaded again."""
        turns = [self._turn_at(place, shown) for place, shown in enumerate(self.calls)]
        path.write_bytes(b"".join(msgspec.json.encode(turn) + b"\n" for turn in turns))

    @classmethod
    def load(cls, path: Path) -> ScriptedModel:
        """Return a model that plays a file; it checks that it is shown the same again."""
        return cls([msgspec.json.decode(line, type=Turn) for line in path.read_bytes().splitlines()])

    def _turn_at(self, place: int, shown: Any) -> Turn:
        turn = self._lines.at(place)
        return msgspec.structs.replace(turn if isinstance(turn, Turn) else Turn(turn), sees=shown)

    def _next(self, messages: Any) -> Turn:
        self.calls.append(messages)
        turn = self._lines.next(messages)
        if isinstance(turn, BaseException):
            raise turn
        turn = turn if isinstance(turn, Turn) else Turn(turn)
        if turn.sees is not msgspec.UNSET and turn.sees != msgspec.to_builtins(messages):
            raise Unscripted(f"Turn {len(self.calls)} was shown {messages!r}, and recorded is {turn.sees!r}.")
        return turn
