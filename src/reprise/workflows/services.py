"""Services: who carries out the steps of a saga. A bus that reaches them, or their handlers in this process."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

from reprise.kernel.errors import ConfigurationError, PlanInvalid, StepRefused, nearest
from reprise.runtime.agents import called_with
from reprise.runtime.undo import call_ended

PING = "ping"
"""Action by which a bus that cannot say whom it reaches is asked to reach somebody."""
PING_TIMEOUT = 5.0

Handler = Callable[..., Any] | Mapping[str, Callable[..., Any]]
"""Called with (action, payload, idempotency_key) or (action, payload), async or not; or such a function for each action,
called with (payload, idempotency_key) or (payload)."""


class MessageBus(Protocol):
    """What reaches services.

    A service does a request once per idempotency key, however often it is made, and raises
    :class:`~reprise.kernel.errors.StepRefused` for what it did not do and will not. A bus may also have
    ``reaches(service) -> bool``, async or not.
    """

    async def request(
        self, service: str, action: str, payload: dict[str, Any], timeout: float, idempotency_key: str
    ) -> Any:
        """Let a service do something and return what it says."""
        ...


class LocalBus:
    """Reaches handlers in this process.

    >>> import asyncio
    >>> bus = LocalBus({"billing": {"charge": lambda payload: f"charged {payload['amount']}"}})
    >>> asyncio.run(bus.request("billing", "charge", {"amount": 5}, 1.0, "key"))
    'charged 5'
    """

    def __init__(self, services: Mapping[str, Handler]) -> None:
        self._actions: dict[str, dict[str, Callable[..., Awaitable[Any]]]] = {}
        self._handlers: dict[str, Callable[..., Awaitable[Any]]] = {}
        for name, handler in services.items():
            if isinstance(handler, Mapping):
                actions = cast("Mapping[str, Callable[..., Any]]", handler)
                self._actions[name] = {
                    action: called_with(function, 2, f"{action}(payload, idempotency_key)")
                    for action, function in actions.items()
                }
            elif callable(handler):
                self._handlers[name] = called_with(handler, 3, f"{name}(action, payload, idempotency_key)")
            else:
                raise ConfigurationError(
                    f"Service {name!r} is {handler!r}.",
                    hint="Give a function of (action, payload, idempotency_key), or one for each action.",
                )

    def why_not(self, service: str, actions: list[str]) -> str:
        """Return why a service cannot do these actions, '' if it can."""
        if service in self._handlers:
            return ""
        known = self._actions.get(service)
        if known is None:
            near = nearest(service, [*self._handlers, *self._actions])
            return f"service {service!r} is not known; did you mean {near!r}?" if near else (
                f"service {service!r} is not known"
            )  # fmt: skip
        missing = [action for action in actions if action not in known]
        if not missing:
            return ""
        near = nearest(missing[0], known)
        said = f"service {service!r} has no action {missing[0]!r}"
        return f"{said}; did you mean {near!r}?" if near else said

    async def request(
        self, service: str, action: str, payload: dict[str, Any], timeout: float, idempotency_key: str
    ) -> Any:
        """Call the handler. The step's own timeout ends it."""
        if (handler := self._handlers.get(service)) is not None:
            return await handler(action, payload, idempotency_key)
        return await self._actions[service][action](payload, idempotency_key)


@contextmanager
def answering() -> Generator[None]:
    """Surround a call of a service in a step: take from its error whether it may still be under way, or did nothing."""
    try:
        yield
    except StepRefused:
        call_ended(refused=True)
        raise
    except (OSError, TimeoutError):
        raise  # nobody answered
    except Exception:
        call_ended()
        raise


def bus_of(message_bus: MessageBus | None, services: Mapping[str, Handler] | None) -> MessageBus:
    """Return the bus that was given, or one of these handlers.

    Raises:
        ConfigurationError: both or neither were given, or it is no bus.
    """
    if (message_bus is None) == (services is None):
        raise ConfigurationError(
            "A saga needs a message_bus or services, one of the two.",
            hint="SagaOrchestrator(services={'billing': handler}), or SagaOrchestrator(message_bus=bus).",
        )
    if services is not None:
        return LocalBus(services)
    bus = cast("MessageBus", message_bus)
    if not callable(getattr(bus, "request", None)):
        raise ConfigurationError(
            f"message_bus is {bus!r}.",
            hint="It needs async request(service, action, payload, timeout, idempotency_key).",
        )
    return bus


async def check_reach(bus: MessageBus, saga: str, wanted: Mapping[str, list[str]]) -> None:
    """Check that every service is there; ``wanted`` are the actions that it is to do.

    Raises:
        PlanInvalid: some are not; names all of them.
    """
    faults = [why for service, actions in wanted.items() if (why := await _why_not(bus, service, actions))]
    if faults:
        raise PlanInvalid(
            f"Saga {saga!r} cannot reach its services:\n" + "\n".join(f"- {why}" for why in faults)
        )


async def _why_not(bus: MessageBus, service: str, actions: list[str]) -> str:
    if isinstance(bus, LocalBus):
        return bus.why_not(service, actions)
    reaches = getattr(bus, "reaches", None)
    if callable(reaches):
        answer = reaches(service)
        answer = await answer if inspect.isawaitable(answer) else answer
        return "" if answer else f"service {service!r} cannot be reached"
    try:
        await bus.request(service, PING, {}, PING_TIMEOUT, f"{PING}-{service}")
    except (OSError, TimeoutError) as error:
        return f"service {service!r} cannot be reached: {error or type(error).__name__}"
    except LookupError as error:
        return f"service {service!r} is not known to the bus" if service in error.args else ""
    except Exception:  # noqa: BLE001 - whoever refuses a ping is there
        return ""
    return ""
