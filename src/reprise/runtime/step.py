"""Steps: the calls of a body whose outcome is recorded once.

A step is an ordinary function. Called in the body of a run it executes outside of the body's loop, its outcome is
appended to the log, and the body receives what the log says. Called anywhere else (in another step, in a test, in a
script) it is a plain call.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from asyncio import events
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, cast, overload

import msgspec
from msgspec import UNSET, UnsetType

from reprise.kernel.arguments import Arguments
from reprise.kernel.budget import Cost
from reprise.kernel.codec import standard
from reprise.kernel.errors import BodyError, ConfigurationError, unknown_option
from reprise.kernel.policy import Fault, Retry, seconds, seconds_in
from reprise.runtime.branch import BRANCH, RUN
from reprise.runtime.executors.executor import check_name
from reprise.runtime.executors.limits import as_limits
from reprise.runtime.executors.origins import check_importable
from reprise.runtime.handles import StepFuture
from reprise.runtime.host import STEP

P = ParamSpec("P")
R = TypeVar("R")

OnCancel = Literal["wait", "abandon"]

DEFAULT_TIMEOUT = 300.0
"""Seconds a step may run unless it says otherwise (``workflows.default_timeout`` of the documents)."""
IN_WRITER, IN_TRANSACTION = 1.0, 30.0
"""Seconds that a step in the log's transaction may take unless it says otherwise: a synchronous one keeps all others from
writing meanwhile, an asynchronous one keeps the rows that it has written to itself."""
DEFAULT_RETRY = Retry(3)
"""How a step is tried again unless it says otherwise."""
OPTIONS = (
    "name", "key", "retry", "timeout", "on_cancel", "idempotent", "costs", "executor", "memory", "cpu", "transaction",
    "pure", "cache", "version", "effect", "reconcile", "undo",
)  # fmt: skip
TRANSACTION = "transaction"
"""Executor of steps in the log's transaction."""

UNDOABLE: dict[str, Step[..., Any]] = {}
"""Steps with ``undo=`` by their full name: what is to be undone may have been done by a process, or a generation of the
run, whose calls nobody makes again."""


class Recorded(Generic[P, R]):
    """A function whose calls in a body are recorded under a key: a step, or a workflow called as a child run."""

    what = "step"
    pure = False
    """Whether all that a call does is return a result, which follows from its arguments."""
    cache: bool | float = False
    """How long its results are kept for all runs, in seconds; True = for ever, False = not at all."""
    declared = False
    """Whether there is more to do for a call than to execute it and to record what came of it."""
    on_end = "cancel"
    """What becomes of a call that nobody waited for when the body ends: cancel, wait (child runs), abandon."""
    intends = False
    """Whether an intent is written before it is called."""
    executor = "inline"
    elsewhere = False
    """Whether the executor may have a capacity of its own."""

    def __init__(
        self, function: Callable[..., Any], *, name: str, key: str, on_cancel: OnCancel, given: int = 0
    ) -> None:
        if on_cancel not in ("wait", "abandon"):
            raise ConfigurationError(f"on_cancel of {name} is {on_cancel!r}; it may be 'wait' or 'abandon'.")
        self.function = function
        self.name = name
        self.key = key
        self.on_cancel: OnCancel = on_cancel
        self.is_sync = not inspect.iscoroutinefunction(function)
        self.plain = not self.is_sync
        """Whether a call is just awaited."""
        self.arguments = Arguments(function, given=given)
        self.__name__ = name
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @cached_property
    def encode(self) -> Callable[[Any], bytes]:
        """Function that writes a result as its declared type."""
        return standard.encoder(self.arguments.returns)

    @cached_property
    def decode(self) -> Callable[[bytes], Any]:
        """Function that reads a result as its declared type."""
        return standard.decoder(self.arguments.returns)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the call, to be awaited or handed to ``gather``, ``create_task``, a ``TaskGroup``.

        Outside of any event loop a synchronous step is simply called.
        """
        if self.is_sync and events._get_running_loop() is None:
            if (run := RUN.get()) is not None:
                raise run.loop.elsewhere(f"Step {self.name}")
            self.check_plain()
            return self.function(*args, **kwargs)
        call: Any = StepCall(self, args, kwargs)
        return call

    def check_plain(self) -> None:
        """Raise ``BodyError`` where it cannot be called as the plain function that it is."""

    def named(self, name: str) -> Self:
        """Return the same under another name, which is its key, too. What was found out about the function is found out
        once: a copy costs a fraction of a new step.
        """
        made = object.__new__(type(self))
        made.__dict__ = {**self.__dict__, "name": name, "key": name, "__name__": name}
        return made

    def __repr__(self) -> str:
        return f"<{self.what} {self.__module__}.{self.__qualname__}>"


class Step(Recorded[P, R]):
    """A function whose calls in a body are recorded. Made by :func:`step`."""

    attended: Collection[Fault] = ()
    """Of a step with ``effect=``: failures for good that are not the run's but a person's to see to. The run needs
    attention, and when it is resumed the call is made again."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        key: str | Callable[..., str] = "",
        retry: Retry | None = None,
        timeout: float | timedelta | UnsetType | None = UNSET,
        on_cancel: OnCancel | None = None,
        idempotent: bool = False,
        costs: Cost | Callable[..., Cost] | None = None,
        executor: str | None = None,
        memory: int | str | None = None,
        cpu: float | timedelta | None = None,
        transaction: bool = False,
        pure: bool = False,
        cache: bool | float | timedelta | str | None = None,
        version: str = "",
        effect: str = "",
        reconcile: Callable[..., Any] | None = None,
        undo: Callable[..., Any] | None = None,
    ) -> None:
        if not callable(function):
            raise ConfigurationError(f"@step needs a function, not {function!r}.")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise ConfigurationError(
                f"@step cannot record the generator {function.__qualname__}: one call has one outcome.",
                hint="Return a list, or loop in the body and make each item a step.",
            )
        name = name or getattr(function, "__name__", "") or type(function).__name__
        is_async = inspect.iscoroutinefunction(function)
        where = TRANSACTION if transaction else "inline" if is_async else "thread"
        self.executor = check_name(executor or where, name)
        default: OnCancel = "wait" if self.executor in ("inline", "process", TRANSACTION) else "abandon"
        given = 1 if transaction else 0
        fixed = "" if callable(key) else key
        super().__init__(function, name=name, key=fixed, on_cancel=on_cancel or default, given=given)
        self._place(memory, cpu)
        self.retry = retry if retry is not None else DEFAULT_RETRY
        if isinstance(timeout, UnsetType):
            timeout = DEFAULT_TIMEOUT if not transaction else IN_TRANSACTION if is_async else IN_WRITER
        self.timeout = None if timeout is None else seconds(timeout, "timeout")
        self.costs = costs
        self.transaction = transaction
        if transaction or self.executor == TRANSACTION:
            _check_transaction(self)
        self.idempotent = idempotent or pure
        self._share(pure=pure, cache=cache, version=version)
        self.key_of = key if callable(key) else None
        """Function of a call's arguments that gives what the receiver knows it by."""
        self.effect = effect
        self.reconcile = reconcile
        self.undo = undo
        self.repeatable = self.idempotent or bool(effect and key)
        """Whether calling it again after an unknown outcome does no harm."""
        if effect or reconcile is not None or undo is not None or self.key_of is not None:
            self.intends = self.declared = True
            self.plain = False
            self._check_declaration()

    def _check_declaration(self) -> None:
        if self.effect and self.transaction:
            raise ConfigurationError(
                f"Step {self.name} is in the log's transaction, so it happens exactly once.",
                hint="Leave effect= out.",
            )
        if self.pure:
            raise ConfigurationError(
                f"Step {self.name} is pure, so it has no effect that could be done twice or undone.",
                hint="Take pure=True away, or effect=, reconcile= and undo=.",
            )
        if not self.effect and (self.reconcile is not None or self.key_of is not None):
            option = "reconcile" if self.reconcile is not None else "key"
            raise ConfigurationError(
                f"Step {self.name} has a function {option}= and no effect=.", hint='Name it: effect="charge".'
            )
        if self.reconcile is not None and self.timeout is None:
            raise ConfigurationError(
                f"Step {self.name} has reconcile= and no timeout: nobody would know when it may be asked.",
                hint="Give it a timeout= after which the call cannot act any more.",
            )
        for option in ("reconcile", "undo"):
            if (given := getattr(self, option)) is not None and not callable(given):
                raise ConfigurationError(f"{option}= of step {self.name} is {given!r}; give a function.")

    @property
    def full_name(self) -> str:
        """Name of the function with its module."""
        return f"{self.__module__}.{self.__qualname__}"

    def _place(self, memory: int | str | None, cpu: float | timedelta | None) -> None:
        """Check where the function is to be called, and within which limits."""
        if self.executor == "process":
            check_importable(self.function, self.name)
        if self.executor == "thread" and not self.is_sync:
            raise ConfigurationError(
                f"Step {self.name} is async and wants a thread.",
                hint="Leave executor= out, or give it a process; or write it without async.",
            )
        self.memory, self.cpu = as_limits(memory, cpu, self.executor, self.name)
        self.elsewhere = self.executor not in ("inline", "thread")
        self.plain = self.plain and self.executor == "inline"

    def _share(self, *, pure: bool, cache: bool | float | timedelta | str | None, version: str) -> None:
        """Check whether the body may go on before a result is durable, and other runs may use it."""
        self.pure = self.declared = pure
        if pure and self.transaction:
            raise ConfigurationError(
                f"Step {self.name} is pure and in a transaction.",
                hint="What it writes there is an effect: take pure=True away.",
            )
        self.cache = self._kept(cache)
        self.version = version
        if version and not self.cache:
            raise ConfigurationError(
                f"Step {self.name} has a version and no cache.",
                hint="Give it cache= too, such as cache='30d'.",
            )

    def _kept(self, cache: bool | float | timedelta | str | None) -> bool | float:
        if cache is None or isinstance(cache, bool):
            kept: bool | float = bool(cache)
        else:
            kept = seconds_in(cache) if isinstance(cache, str) else seconds(cache, "cache")
            if not kept:
                raise ConfigurationError(
                    f"cache of {self.name} is {cache!r}.",
                    hint="Say how long: '30d', 3600, a timedelta, or True.",
                )
        if kept and not self.pure:
            raise ConfigurationError(
                f"Step {self.name} has a cache and is not pure.",
                hint="Only what does nothing but return a result can be left out: add pure=True, or take cache= away.",
            )
        return kept

    def options(self, **changes: Any) -> Step[P, R]:
        """Return the same step with other options, such as ``key=`` for one call.

        >>> @step
        ... async def fetch(url: str) -> str: ...
        >>> fetch.options(key="front-page", timeout=5).timeout
        5.0
        """
        options = self._options()
        check_options("@step", changes, options)
        return Step(self.function, **(options | changes))

    def check_plain(self) -> None:
        """Raise ``BodyError`` where it cannot be called as the plain function that it is."""
        if self.transaction:
            raise BodyError(
                f"Step {self.name} has no transaction here: only the body of a run can call it.",
                hint=f"In a test call {self.name}.function(connection, …); in a step, that function with its connection.",
            )
        if self.intends and STEP.get() is not None:
            raise BodyError(
                f"Step {self.name} has effect= or undo=, and inside of another step nobody would keep what it promises.",
                hint=f"Call it in the body of the workflow; or call {self.name}.function(…) as part of this step.",
            )

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTIONS} | {"key": self.key_of or self.key}

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind as a method does."""
        if instance is None:
            return self
        if self.cache:
            raise ConfigurationError(
                f"Step {self.name} is a method, and what it returns may depend on more than its arguments.",
                hint="Make the cached step a function, and what it needs its arguments.",
            )
        return Step[Any, Any](self.function.__get__(instance, owner), **self._options())


class StepCall(msgspec.Struct, eq=False, weakref=True):
    """One call of a step that has not begun.

    It is a coroutine to everybody who asks, but the loop of a run takes it for what it is: where a task would only
    wait for the step's future, there is just the future.
    """

    step: Recorded[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    begun: bool = False
    inner: Generator[Any, Any, Any] | None = None

    def start(self, key: str) -> StepFuture:
        """Register the call with the run of the caller and return the future of its outcome."""
        self.begun = True
        run = RUN.get()
        assert run is not None
        return run.call(self.step, self.args, self.kwargs, self.step.key or key)

    def __await__(self) -> Generator[Any, Any, Any]:
        self.begun = True
        run = RUN.get()
        if run is None:
            return self._plainly().__await__()
        step = self.step
        if not run.loop.is_here():
            raise run.loop.elsewhere(f"Step {step.name}")
        return run.call(step, self.args, self.kwargs, step.key or BRANCH.get().step(step.name)).__await__()

    async def _plainly(self) -> Any:
        """Call the function as if it were no step."""
        self.step.check_plain()
        if self.step.is_sync:
            if self.step.executor == "inline":
                return self.step.function(*self.args, **self.kwargs)
            return await asyncio.to_thread(self.step.function, *self.args, **self.kwargs)
        return await cast("Awaitable[Any]", self.step.function(*self.args, **self.kwargs))

    def send(self, value: Any) -> Any:
        """Drive as a coroutine."""
        if self.inner is None:
            self.inner = self.__await__()
        return self.inner.send(value)

    def throw(self, *error: Any) -> Any:
        """Drive as a coroutine."""
        if self.inner is None:
            self.inner = self.__await__()
        return self.inner.throw(*error)

    def close(self) -> None:
        """Drive as a coroutine."""
        self.begun = True
        if self.inner is not None:
            self.inner.close()

    def __del__(self) -> None:
        if not self.begun and not _is_unwound():
            warnings.warn(
                f"the call of step {self.step.name} was never awaited, so nothing happened",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


def _is_unwound() -> bool:
    """Tell whether this happens in a body that is being let go from memory, where no call can begin."""
    loop = events._get_running_loop()
    return loop is not None and loop.is_closed()


def function_of(found: Any) -> Callable[..., Any]:
    """Return the function of a step; anything else as it is."""
    return found.function if isinstance(found, Recorded) else found


def check_options(owner: str, given: dict[str, Any], known: Collection[str]) -> None:
    """Raise ``UnknownOption`` for an option that ``owner`` does not have."""
    for name in given:
        if name not in known:
            raise unknown_option(name, known, owner)


def _check_transaction(step: Step[..., Any]) -> None:
    if not (step.transaction and step.executor == TRANSACTION):
        raise ConfigurationError(
            f"Step {step.name} has transaction={step.transaction} and executor={step.executor!r}.",
            hint="In the log's transaction the store calls the function: say transaction=True, and no executor.",
        )
    if not step.timeout:
        raise ConfigurationError(
            f"timeout of {step.name} is {step.timeout}; a step in a transaction needs one.",
            hint="Others wait for it: give seconds.",
        )
    if not Arguments(step.function).parameters.positional:
        raise ConfigurationError(
            f"Step {step.name} has transaction=True and no parameter for the connection.",
            hint="Let its first parameter be the connection.",
        )


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, transaction: Literal[True], **options: Any
) -> Callable[[Callable[Concatenate[Any, P], Any]], Step[P, Any]]: ...
@overload
def step(
    *, transaction: Literal[False] = False, **options: Any
) -> Callable[[Callable[P, Any]], Step[P, Any]]: ...


def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a step: in the body of a run its outcome is recorded exactly once.

    It executes at least once: a step that was in flight when the process died runs again. Its result must be
    writable as its declared type (see the guide on values). A synchronous function runs in a thread, unless ``executor``
    says otherwise.

    Options:
        name: what the record calls it; default the function's name.
        key: explicit key of the call; use it where a refactoring must not move the step.
        retry: :class:`~reprise.kernel.policy.Retry`; default 3 attempts on errors that are not the program's own.
        timeout: seconds (or timedelta) for one attempt, default 300; None = no limit. An async step is cancelled. A
            thread cannot be: its outcome is unknown and it is tried again only if ``idempotent``. A process is killed.
        on_cancel: "wait" (default of what can be stopped): a cancelled body goes on when the step has stopped;
            "abandon" (default in threads): at once.
        idempotent: doing it twice is as good as once.
        costs: what one attempt costs at most, a Cost or a function of the call's arguments; it is reserved before the
            attempt where the run has a budget. See :func:`~reprise.runtime.budgets.spend`.
        executor: where the function is called: "inline" (default of async ones) on the worker's loop, which a synchronous
            function holds up; "thread" (default of synchronous ones); "process", a warm interpreter of its own that is
            killed when the step is cancelled or takes too long; or one of ``Reprise(executors=)``.
        memory: bytes, or text such as "512MB", that a call in a process may take on top of what the process has. Linux.
        cpu: seconds (or timedelta) of processor time that a call in a process may take; rounded up.
        transaction: execute it in the transaction of the log in which its outcome is recorded, so that it happens
            exactly once. Its first parameter is the connection, which callers do not give: on SQLite a
            :class:`~reprise.stores.sqlite.lending.SQLiteConnection` for a synchronous function, on PostgreSQL an
            asyncpg connection for an async one. ``timeout`` is 1 and 30 seconds then. See the guide on transactions.
        pure: all it does is return a result, so it may be done any number of times. The body goes on before that result
            is durable, and nothing that follows from it leaves the run before it is: see the guide on pure steps.
        cache: of a pure step: how long its result is used by all runs of the store that ask the same ("30d", seconds,
            a timedelta), True = for ever.
        version: of a cached step: what stands for its code; by default a digest of the function itself, which does not
            see a change of what it calls.
        effect: name of what it does to the outside and must not do twice unnoticed. That it is about to happen is
            durable before it begins; after an unknown outcome it is called again only if ``key`` is given (the receiver
            knows a call by ``current_step().idempotency_key`` and does it once) or it is ``idempotent``. Else
            ``reconcile`` is asked, and where there is none, a person. ``key`` may then be a function of the call's
            arguments that returns that idempotency key, such as an order's number.
        reconcile: function of an :class:`~reprise.runtime.intents.Intent` that finds out whether the call happened:
            ``Done(value)``, ``NOT_DONE`` or ``UNKNOWN``. Asked when ``timeout`` has passed since the call began.
        undo: function of an :class:`~reprise.runtime.undo.Undo` that undoes the call when the run fails or is
            cancelled, called also where the call may not have happened. It may be a step, for its retries and timeout.

    Raises:
        UnknownOption: a name is misspelt.
        ConfigurationError: the function is a generator, a process could not import it, an option's value is not
            possible, or two do not fit together.

    >>> @step(retry=Retry(4), timeout=30)
    ... async def double(n: int) -> int:
    ...     return 2 * n
    >>> import asyncio; asyncio.run(double(4))          # outside of a run: a plain call
    8
    """
    check_options("@step", options, OPTIONS)
    if function is None:
        return partial(_make, options)
    if isinstance(function, Step):
        raise ConfigurationError(f"{function.name} is a step already.")
    return _make(options, function)


def _make(options: dict[str, Any], function: Callable[..., Any]) -> Step[..., Any]:
    made = Step[..., Any](function, **options)
    if made.undo is not None:
        UNDOABLE[made.full_name] = made
    return made
