"""Chains: agents one after the other, each given what the one before came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any, Self, Unpack, get_args

import msgspec
from msgspec import UNSET, UnsetType

from reprise.kernel.errors import ConfigurationError, unknown_option
from reprise.kernel.policy import Duration
from reprise.workflows.calls import REFUSED, checked_retries, checked_timeout, kept
from reprise.workflows.chain_body import FURTHER, ChainWork, Link, OnError, follow, type_of
from reprise.workflows.chain_result import ChainResult, read_chain
from reprise.workflows.executing import ExecuteOptions, execute
from reprise.workflows.flow import Flow
from reprise.workflows.performers import AgentExecutor, Performers


class AgentChain:
    """Agents one after the other: what one returns becomes the task of the next.

    >>> import asyncio
    >>> from reprise import AgentChain
    >>> chain = AgentChain(name="review", initial_input="logins")
    >>> _ = chain.then("researcher", transform=lambda x: f"Analyze: {x}").then("coder")
    >>> result = asyncio.run(chain.execute(lambda agent_type, task: f"{agent_type} did [{task}]"))
    >>> result.output, result.status
    ('coder did [researcher did [Analyze: logins]]', 'completed')
    """

    def __init__(self, name: str = "chain", initial_input: Any = None) -> None:
        self.name = name
        self.initial_input = initial_input
        self._links: list[Link] = []
        self._functions: dict[str, Callable[..., Any]] = {}

    @property
    def links(self) -> tuple[Link, ...]:
        """The links so far."""
        return tuple(self._links)

    def then(
        self,
        agent_type: str,
        transform: Callable[[Any], Any] | None = None,
        validate: Callable[[Any], Any] | None = None,
        *,
        name: str = "",
        repair: Callable[[Any, Any, str], Any] | None = None,
        tries: int = 3,
        on_error: OnError = "stop",
        default: Any = UNSET,
        goto: str = "",
        jumps: int = 3,
        returns: Any = None,
        max_retries: int | None = None,
        timeout: Duration | UnsetType | None = UNSET,
    ) -> Self:
        """Add a link, and return the chain.

        ``transform``, ``validate`` and ``repair`` are called in the body of the run, so they only compute.

        Args:
            agent_type: who does it.
            transform: makes the task of what the link before came to.
            validate: looks at what the agent returned: False, a text (the reason), or an error that it raises refuse it.
            name: key in the history, by default the agent's; of another link of the same agent ``coder-2`` and so on.
            repair: makes the next task of (task, answer, reason) after a refusal. By default a task that is text gets
                the reason appended; the context has both under ``refused``.
            tries: how often in all the agent is asked while its answers are refused.
            on_error: what becomes of the chain when the link fails for good; see ``OnError``.
            default: what stands for the result then.
            goto: name of the link to go on with then.
            jumps: how often it may lead there.
            returns: type of what the agent returns, where it is not plain JSON: a dataclass, a pydantic model …
            max_retries: how often a call that failed in a way that may pass is made again; None = as the settings say,
                else 3.
            timeout: seconds (or timedelta) of one call, None = no limit; not given = as the settings say, else 300.

        Raises:
            ConfigurationError: what is given does not fit together, or a name is taken.
        """
        functions = {"transform": transform, "validate": validate, "repair": repair, "returns": returns}
        link = Link(
            name or self._free_name(agent_type),
            agent_type,
            on_error,
            default,
            goto,
            jumps,
            tries,
            checked_retries(max_retries),
            checked_timeout(timeout),
        )
        _check_link(link, functions, {other.name for other in self._links})
        self._links.append(link)
        for what, function in functions.items():
            if function is not None:
                self._functions[f"{link.name}.{what}"] = function
        return self

    def _free_name(self, agent_type: str) -> str:
        taken = {link.name for link in self._links}
        names = (agent_type if n == 1 else f"{agent_type}-{n}" for n in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def flow(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        agents: Mapping[str, Any] | None = None,
    ) -> Flow:
        """Return the workflow that the runs of this chain execute.

        Raises:
            UnknownAgent: nobody is known for one of its links.
            UnknownOption: a link leads to one that there is not.
        """
        names = [link.name for link in self._links]
        for link in self._links:
            if link.goto and link.goto not in names:
                raise unknown_option(link.goto, names, f"goto= of link {link.name!r}")
        performers = Performers(agent_executor, agents)
        performers.check(link.agent_type for link in self._links)
        return Flow(
            follow, name=self.name, performers=performers, definition=self.links, functions=self._functions
        )

    async def execute(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        *,
        initial_input: Any = UNSET,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> ChainResult:
        """Run the chain and return what came of it; a link that fails is no error here.

        Without ``app``, ``store`` or an app that is open around it, the run lives in memory. One with an ``id`` that
        exists goes on, or gives what came of it. ``context`` is known to every agent. ``timeout`` (or ``deadline``)
        is that of the whole.

        Raises:
            UnknownAgent: nobody is known for one of its links; nothing was started.
            CodecError: the input cannot be kept and the run is durable.
            RunConflict: the id exists with another input.
        """
        given = self.initial_input if initial_input is UNSET else initial_input
        return await execute(
            self,
            lambda flow: [self._work(flow, given, dict(context or {}))],
            read_chain,
            agent_executor,
            **options,
        )

    def _work(self, flow: Flow, given: Any, context: dict[str, Any]) -> ChainWork:
        return ChainWork(
            kept(flow, given, f"initial_input of chain {self.name!r}"),
            [_with_default(flow, link) for link in self._links],
            kept(flow, context, f"context of chain {self.name!r}"),
            sorted(self._functions),
        )


def _check_link(link: Link, functions: Mapping[str, Any], taken: set[str]) -> None:
    what = f"Link {link.name!r}"
    if link.name in taken or FURTHER.fullmatch(link.name) or link.name.endswith(REFUSED):
        why = "is there already" if link.name in taken else "has a name that further calls of a link have"
        raise ConfigurationError(f"{what} {why}.", hint="Give it another name=.")
    for name in ("transform", "validate", "repair"):
        function = functions[name]
        if function is not None and (not callable(function) or iscoroutinefunction(function)):
            raise ConfigurationError(
                f"{name}= of {what} is {function!r}.",
                hint="Give a plain function; what takes time or leaves the process is a link of its own.",
            )
    if link.on_error not in get_args(OnError):
        raise unknown_option(link.on_error, get_args(OnError), f"on_error= of {what}")
    for option, given in (("default", link.default is not UNSET), ("goto", bool(link.goto))):
        if given != (link.on_error == option):
            raise ConfigurationError(
                f"{what} has on_error={link.on_error!r} and {f'{option}=' if given else f'no {option}='}.",
                hint=f"They go together: on_error={option!r}, {option}=…",
            )
    if functions["repair"] is not None and functions["validate"] is None:
        raise ConfigurationError(
            f"{what} has repair= and nothing to refuse an answer.", hint="Give validate= too."
        )
    for option, number, least in (("tries", link.tries, 1), ("jumps", link.jumps, 0)):
        if number < least:
            raise ConfigurationError(f"{option}= of {what} is {number}.", hint=f"Give {least} or more.")


def _with_default(flow: Flow, link: Link) -> Link:
    if link.default is UNSET:
        return msgspec.structs.replace(link, default=None)
    default = kept(flow, link.default, f"default= of link {link.name!r}", type_of(flow, link))
    return msgspec.structs.replace(link, default=default)
