"""Every moment at which a worker can be killed: what a run records is recorded append by append, so these are all.

The run is executed once undisturbed. Then, for each append of its worker, twice more: the process is killed just before that
append reaches the store, and just after it was written and before anybody heard of it. Another process goes on. All of it is
simulated: virtual time, a fresh store in memory, real code.

What must not change is the end: the result, how each run of the family ended, which steps have which outcome, and the
effects that outside receivers saw.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import msgspec

from reprise.app.reprise import Reprise
from reprise.kernel.chance import seeded
from reprise.kernel.errors import ConfigurationError, RepriseError
from reprise.kernel.events import Finished, Kind, Record, run_stream
from reprise.kernel.failures import brief
from reprise.runtime.branch import name_in
from reprise.runtime.face import current_step
from reprise.runtime.handle import RunHandle
from reprise.runtime.history import STEP_KINDS
from reprise.runtime.middleware import Call, Next
from reprise.runtime.rehearsal import Line, Stage
from reprise.runtime.replaying import replay
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Append
from reprise.testing.faults import Fault, Profile
from reprise.testing.link import Link, LinkedLog
from reprise.testing.loop import PATIENCE, SimulatedLoop, run_on
from reprise.testing.node import Crashed, Node
from reprise.testing.wire import Weather, Wire
from reprise.testing.world import World

RUN = "crash-point"
"""Id of the run."""
WITHIN = 400 * 86_400.0
"""Seconds of virtual time in which a run must end."""
BEFORE, AFTER = "before", "after"
_NONE = "nothing is recorded"

Driver = Callable[[RunHandle[Any]], Awaitable[None]]
"""What people and other programs do meanwhile: signals, answers, updates. It lives in a process that is not killed."""


class PointDiffers(AssertionError):
    """A run that lost its worker ended otherwise than the undisturbed one."""


class Executed(NamedTuple):
    """One attempt of a step that began."""

    name: str
    run: str
    key: str
    attempt: int
    idempotency_key: str
    """What a receiver knows the call by, '' = the step is pure."""
    args: tuple[Any, ...]
    life: int
    """1 = in the process that was killed, 2 = in the one that took over."""


class Effect(NamedTuple):
    """Something that happened outside."""

    name: str
    args: tuple[Any, ...]


class EffectsLedger:
    """A receiver outside, such as a payment service: what it was asked to do stays done, whoever crashes.

    Steps tell it what they do with :meth:`do`. It honours keys: under one that it has seen it does nothing more and gives
    the first answer again.

    >>> bank = EffectsLedger()
    >>> [bank.do("pay", 5, key="k", answer="paid") for _ in range(2)], bank.count("pay", 5)
    (['paid', 'paid'], 1)
    """

    def __init__(self) -> None:
        self.done: list[Effect] = []
        """What happened, in order."""
        self._answers: dict[str, Any] = {}

    def do(self, name: str, *args: Any, key: str = "", answer: Any = None) -> Any:
        """Let something happen, unless its ``key`` was seen before; return the answer to its first call."""
        if key and key in self._answers:
            return self._answers[key]
        self.done.append(Effect(name, args))
        if key:
            self._answers[key] = answer
        return answer

    def knows(self, key: str) -> bool:
        """Tell whether something was done under a key: what a ``reconcile`` asks."""
        return key in self._answers

    def count(self, name: str, *args: Any) -> int:
        """Return how often something happened; without ``args``, with whatever arguments."""
        return sum(each.name == name and (not args or each.args == args) for each in self.done)

    def clear(self) -> None:
        """Forget everything."""
        self.done.clear()
        self._answers.clear()


class _End(msgspec.Struct):
    """How an execution ended, and what it left behind."""

    result: Any = None
    error: BaseException | None = None
    executed: list[Executed] = []
    again: list[Executed] = []
    """Steps that were executed although their outcome was in the log when the process that did so began."""
    streams: dict[str, list[Record]] = {}
    appends: list[list[tuple[str, int, str]]] = []
    """Of the first process: stream, kind and key of the events of each."""
    effects: Counter[str] = msgspec.field(default_factory=Counter[str])
    seconds: float = 0.0

    def outcomes(self) -> dict[str, str]:
        """Return by run and key what outcome each step has."""
        return {
            f"{name_in(record.key)} ({record.key} of {_run(stream)})": Kind(record.kind).words
            for stream, records in self.streams.items()
            for record in records
            if record.kind in STEP_KINDS
        }

    def ends(self) -> dict[str, str]:
        """Return by run how it ended."""
        last = {stream: records[-1] for stream, records in self.streams.items()}
        return {_run(stream): _ending(record) for stream, record in last.items()}


class CrashPoint:
    """One moment of death, and what became of the run after it."""

    def __init__(self, points: CrashPoints, number: int, when: str, end: _End) -> None:
        self._points = points
        self._end = end
        self.number = number
        """Of the append, counted from 1; 0 = nothing was killed."""
        self.when = when
        """``before`` or ``after`` it."""

    @property
    def result(self) -> Any:
        """What the run returned in the end; raises what it raised."""
        if self._end.error is not None:
            raise self._end.error
        return self._end.result

    @property
    def error(self) -> BaseException | None:
        """What the run raised, None = it returned."""
        return self._end.error

    @property
    def executed(self) -> list[Executed]:
        """Every attempt of a step that began, in order."""
        return self._end.executed

    def __str__(self) -> str:
        if not self.number:
            return "undisturbed"
        return f"killed {self.when} append {self.number}: {self._points.describe(self.number)}"

    def check(self) -> None:
        """Compare the end with that of the undisturbed run.

        Raises:
            PointDiffers: something differs; says what, and at which record.
        """
        differences = list(self._differences())
        if differences:
            raise PointDiffers(
                "\n".join([f"The worker was {self}. What came of it:", *differences, self._advice()])
            )

    def _differences(self) -> Iterator[str]:
        here, there = self._end, self._points.undisturbed
        if _told(here.error) != _told(there.error):
            yield f"  it ended with {_told(here.error)}; undisturbed with {_told(there.error)}"
        elif here.error is None and not self._points.is_same(here.result, there.result):
            yield f"  it returned {here.result!r}; undisturbed {there.result!r}"
        for what, mine, theirs in (
            ("run", here.ends(), there.ends()),
            ("step", here.outcomes(), there.outcomes()),
        ):
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    yield f"  {what} {name}: {mine.get(name, _NONE)}; undisturbed: {theirs.get(name, _NONE)}"
        for effect in sorted(here.effects.keys() | there.effects.keys()):
            if here.effects[effect] != there.effects[effect]:
                yield f"  {effect} happened {here.effects[effect]} times; undisturbed {there.effects[effect]}"
        for each in here.again:
            yield f"  {each.name} ({each.key}) was executed again although its outcome was in the log"

    def _advice(self) -> str:
        if (self._end.effects - self._points.undisturbed.effects).total():
            return (
                "A step that was under way when its worker died is executed again. Hand the receiver the same key each time: "
                "current_step().idempotency_key; or declare the step with effect= and reconcile=."
            )
        return f"The same again: crash_points(…).at({self.number}, {self.when!r}).check()"


class CrashPoints:
    """All moments of one run at which its worker can be killed. Made by :func:`crash_points`."""

    def __init__(
        self, start: Callable[[Reprise], Awaitable[Any]], workflow: Workflow[..., Any] | None, **options: Any
    ):
        self._start = start
        self._workflow = workflow
        self._driver: Driver | None = options["driver"]
        self._effects: EffectsLedger | None = options["effects"]
        self._same: Callable[[Any, Any], bool] | None = options["same"]
        self._faults: tuple[Fault, ...] = tuple(options["faults"])
        self._seed: int | None = options["seed"]
        self._app: dict[str, Any] = dict(options["app"])
        self._most: int | None = options["most"]

    @cached_property
    def undisturbed(self) -> _End:
        """How the run ends when nobody is killed."""
        end = self._execute(None)
        if not end.appends:
            raise ConfigurationError(
                "Nothing was recorded.", hint="Give it the app and the id that it is called with."
            )
        return end

    @cached_property
    def _lines(self) -> dict[str, Line]:
        """Where the body calls each step."""
        records = self.undisturbed.streams.get(run_stream(RUN), [])
        workflow = self._workflow
        if workflow is None or not records:
            return {}

        async def look() -> dict[str, Line]:
            stage = Stage(loop.clock)
            return {step.key: step.where for step in (await replay(stage, workflow, RUN, records)).steps}

        loop = SimulatedLoop(None)
        return run_on(loop, look)

    def __len__(self) -> int:
        """Return how many moments there are."""
        return len(self._places())

    def __iter__(self) -> Iterator[CrashPoint]:
        """Yield the points one by one, each executed when it is asked for."""
        for number, when in self._places():
            yield self.at(number, when)

    async def __aiter__(self) -> AsyncIterator[CrashPoint]:
        """Yield them beside a loop that runs: the simulations are done on a thread."""
        for number, when in await asyncio.to_thread(self._places):
            yield await asyncio.to_thread(self.at, number, when)

    def at(self, number: int, when: str = BEFORE) -> CrashPoint:
        """Execute with one death, ``before`` or ``after`` an append; 0 = with none."""
        end = self._execute((number, when)) if number else self.undisturbed
        return CrashPoint(self, number, when, end)

    def check(self) -> int:
        """Check all points and return how many there were; raises ``PointDiffers`` at the first that differs."""
        for point in self:
            point.check()
        return len(self)

    def describe(self, number: int) -> str:
        """Say what an append of the undisturbed run writes, and where the code is that asked for it."""
        return ", ".join(
            f"{Kind(kind).words} {name_in(key)}".rstrip() + self._where(key)
            for _, kind, key in self.undisturbed.appends[number - 1]
        )

    def is_same(self, mine: Any, undisturbed: Any) -> bool:
        """Tell whether a result is what it has to be."""
        return (
            self._same(mine, undisturbed) if self._same is not None else _plain(mine) == _plain(undisturbed)
        )

    def _where(self, key: str) -> str:
        line = self._lines.get(key)
        return f" ({line.file}:{line.number})" if line is not None and line.file else ""

    def _places(self) -> list[tuple[int, str]]:
        count = len(self.undisturbed.appends)
        places = [(number, when) for number in range(1, count + 1) for when in (BEFORE, AFTER)]
        if self._most is None or len(places) <= self._most:
            return places
        return [places[number * len(places) // self._most] for number in range(self._most)]

    def _execute(self, cut: tuple[int, str] | None) -> _End:
        if self._effects is not None:
            self._effects.clear()
        loop, end = SimulatedLoop(self._seed), _End()
        scene = _Scene(loop, self._faults, cut, end)

        async def main() -> None:
            driving = None
            try:
                if self._driver is not None:
                    driving = loop.create_task(scene.drive(self._driver), name="driver")
                end.result = await self._live(scene)
            except Exception as error:  # noqa: BLE001  how the run ends is what is looked at
                end.error = error
            finally:
                end.seconds = loop.time()
                if driving is not None:
                    driving.cancel()
                    await asyncio.gather(driving, return_exceptions=True)
                await scene.close()
            await scene.look()

        try:
            run_on(loop, main, patience=PATIENCE)
        except RepriseError as error:  # Deadlock, a broken invariant
            end.error = error
        end.effects = Counter(map(_call, self._effects.done)) if self._effects is not None else Counter()
        return end

    async def _live(self, scene: _Scene) -> Any:
        """Execute in one process, and if that is killed in another."""
        async with asyncio.timeout(WITHIN):
            try:
                return await scene.live("first", self._start, self._app)
            except Crashed:
                return await scene.live("second", self._start, self._app)


def crash_points(
    target: Any,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    driver: Driver | None = None,
    effects: EffectsLedger | None = None,
    same: Callable[[Any, Any], bool] | None = None,
    faults: Iterable[Fault] = (),
    seed: int | None = 0,
    most: int | None = None,
    app: Mapping[str, Any] | None = None,
) -> CrashPoints:
    """Return every moment at which the worker of a run can be killed: iterate, and check each.

    >>> from reprise import step, workflow
    >>> @step
    ... async def double(n: int) -> int: return 2 * n
    >>> @workflow
    ... async def twice(n: int) -> int: return await double(await double(n))
    >>> for point in crash_points(twice, 5):
    ...     assert point.result == 20
    ...     point.check()

    ``target`` is a workflow; a plan, chain, parallel executor or saga, whose ``execute`` is given ``args``; or an async
    function of (app, id) that starts the run of that id, or goes on with it, and returns its result.

    Options:
        kwargs: keyword arguments for the target.
        driver: async function of (run handle): what people and other programs do meanwhile.
        effects: the receiver outside that steps tell what they do; it is emptied before each execution and compared.
        same: tells of (result, undisturbed result) whether they are the same; by default they are compared as JSON.
        faults: what else goes wrong, values of ``reprise.testing.faults``.
        seed: of the order of what happens at the same time; None = the plain order.
        most: at most so many points, spread evenly.
        app: options of the ``Reprise`` in which it runs, such as ``workflows`` and ``agents``.
    """
    options = {
        "driver": driver,
        "effects": effects,
        "same": same,
        "faults": faults,
        "seed": seed,
        "most": most,
    }
    named = dict(kwargs or {})
    settings = dict(app or {})
    if isinstance(target, Workflow):
        flow = cast("Workflow[..., Any]", target)
        settings["workflows"] = [flow, *settings.get("workflows", ())]
        return CrashPoints(lambda app: app.run(flow, *args, id=RUN, **named), flow, app=settings, **options)
    if callable(getattr(target, "execute", None)):
        return CrashPoints(
            lambda app: target.execute(*args, app=app, id=RUN, **named), None, app=settings, **options
        )
    if not inspect.iscoroutinefunction(target):
        raise ConfigurationError(
            f"{target!r} cannot be executed.", hint="Give a workflow, or an async function of (app, id)."
        )
    return CrashPoints(lambda app: target(app, RUN, *args, **named), None, app=settings, **options)


# ---------------------------------------------------------------- one execution


class _Scene(World):
    """A world in which the first process is killed at one of its appends."""

    def __init__(
        self, loop: SimulatedLoop, faults: Sequence[Fault], cut: tuple[int, str] | None, end: _End
    ) -> None:
        super().__init__(loop)
        self.weather = _Weather(loop, seeded(b"weather %d" % self.seed), Profile(faults))
        self.calm = _Weather(loop, seeded(b"calm %d" % self.seed), Profile([]))
        self._sees_deaths = True
        self._cut, self._end = cut, end
        self._recorded: set[tuple[str, str]] = set()

    async def live(
        self, name: str, start: Callable[[Reprise], Awaitable[Any]], options: Mapping[str, Any]
    ) -> Any:
        """Let a process execute the run; raises ``Crashed`` when it is killed."""
        node = self.node(name)
        life = len(self.nodes)
        self._recorded = {(record.stream, record.key) for record in await self._outcomes()}

        async def note(call: Call, next: Next) -> Any:
            step = current_step()
            key = "" if call.job.step.pure else step.idempotency_key
            executed = Executed(call.name, call.run, call.key, call.attempt, key, call.args, life)
            self._end.executed.append(executed)
            if (run_stream(call.run), call.key) in self._recorded:
                self._end.again.append(executed)
            return await next(call)

        settings: dict[str, Any] = dict(options)
        settings["middleware"] = [note, *settings.get("middleware", ())]

        async def serve() -> Any:
            async with self.app(node, **settings) as app:
                return await start(app)

        return await node.run(serve)

    async def drive(self, driver: Driver) -> None:
        """Let people and other programs do what they do, as soon as there is a run."""
        async with self.client() as app:
            while not await self.store.log.read(run_stream(RUN)):  # noqa: ASYNC110  nobody tells of runs that begin
                await asyncio.sleep(0.01)
            await driver(app.handle(RUN))

    def link(self, node: Node, weather: Weather) -> Link:
        """Connect a process; the first one by a wire that kills it."""
        link = super().link(node, weather)
        if node.name == "first":
            link.log = _CutLog(link.keeper, link.wire, self.books, self._cut, self._end.appends)
        return link

    async def look(self) -> None:
        """Keep what is left."""
        await self.books.check(self.store)
        for record in await self.store.log.scan(limit=1_000_000, prefix=run_stream("")):
            self._end.streams.setdefault(record.stream, []).append(record)

    async def _outcomes(self) -> list[Record]:
        records = await self.store.log.scan(limit=1_000_000, prefix=run_stream(""))
        return [record for record in records if record.kind in STEP_KINDS]


class _Weather(Weather):
    """Faults as they are asked for; but what was sent arrives, so that a death has one place."""

    def strikes(self, p: float, name: str) -> bool:
        return name != "appends lost in a crash" and super().strikes(p, name)


class _CutLog(LinkedLog):
    """A log whose process is killed at one of its appends."""

    def __init__(
        self, keeper: Any, wire: Wire, books: Any, cut: tuple[int, str] | None, appends: list[Any]
    ) -> None:
        super().__init__(keeper, wire, books)
        self._number, self._when = cut or (0, BEFORE)
        self._appends = appends
        self._written = 0

    def submit(self, appends: Sequence[Append]) -> None:
        for append in appends:
            self._appends.append([(g.stream, e.kind, e.key) for g in append.groups for e in g.events])
            if self._when == BEFORE and len(self._appends) == self._number:
                self._wire.node.crash()
                return
            super().submit([append])

    def _committed(self, asked: Append, left: list[int], appends: Sequence[Append], done: Append) -> None:
        self._written += 1
        if self._when == AFTER and self._written == self._number:
            self._commit(done, self._wire.node.name)
            self._wire.node.crash()
            return
        super()._committed(asked, left, appends, done)


# ---------------------------------------------------------------- telling


def _ending(record: Record) -> str:
    if record.kind != Kind.RUN_FINISHED:
        return "goes on"
    finished = msgspec.json.decode(record.data, type=Finished)
    return f"{finished.status}: {brief(finished.error)}" if finished.error is not None else finished.status


def _told(error: BaseException | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {error}"


def _run(stream: str) -> str:
    return stream.removeprefix(run_stream(""))


def _call(effect: Effect) -> str:
    return f"{effect.name}({', '.join(map(repr, effect.args))})"


def _plain(result: Any) -> Any:
    """Return of a result what must be the same: of a face's, not how long it took."""
    if hasattr(result, "status") and hasattr(result, "finished"):
        return result.status, bytes(result.finished.value), _told(getattr(result.finished, "error", None))
    try:
        return msgspec.json.encode(result)
    except TypeError:
        return result
