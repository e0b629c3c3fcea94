"""LangGraph, each superstep durable before the next (durability="sync"); stores: sqlite, memory."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from bench.engines.work import Work


def later(_before: str, after: str) -> str:
    """Reduce two values to the later one: the state does not grow."""
    return after


class State(TypedDict):
    """The state of a graph; `value` is what the latest step returned."""

    run: str
    steps: int
    pause: float
    i: int
    value: Annotated[str, later]


class LangGraph:
    """Graphs over one saver."""

    def __init__(self, saver: Any, work: Work) -> None:
        self._saver, self._work = saver, work
        self._chain_of = cache(self._chain)
        self._fan_graph = self._fan()

    def _chain(self, steps: int) -> Any:
        graph = StateGraph(State)
        for i in range(steps):
            graph.add_node(f"s{i}", self._node(i))
            graph.add_edge(f"s{i - 1}" if i else START, f"s{i}")
        graph.add_edge(f"s{steps - 1}", END)
        return graph.compile(checkpointer=self._saver)

    def _node(self, i: int) -> Any:
        async def node(state: State) -> dict[str, str]:
            return {"value": await self._work(state["run"], i, state["pause"])}

        return node

    def _fan(self) -> Any:
        async def make(state: State) -> dict[str, str]:
            return {"value": await self._work(state["run"], state["i"], state["pause"])}

        def spread(state: State) -> list[Send]:
            return [Send("make", {**state, "i": i}) for i in range(state["steps"])]

        graph = StateGraph(State)
        graph.add_node("make", make)
        graph.add_conditional_edges(START, spread, ["make"])
        graph.add_edge("make", END)
        return graph.compile(checkpointer=self._saver)

    async def chain(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps follow each other."""
        await self._invoke(self._chain_of(steps), run, steps, pause)

    async def fan(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps start at once."""
        await self._invoke(self._fan_graph, run, steps, pause)

    async def _invoke(self, graph: Any, run: str, steps: int, pause: float) -> None:
        config = {"configurable": {"thread_id": run}, "recursion_limit": 100_000, "max_concurrency": 100}
        state = {"run": run, "steps": steps, "pause": pause, "i": 0, "value": ""}
        await graph.ainvoke(state, config, durability="sync")


@asynccontextmanager
async def opened(store: str, folder: Path, work: Work) -> AsyncIterator[LangGraph]:
    """Open the saver."""
    if store == "memory":
        yield LangGraph(InMemorySaver(), work)
        return
    async with AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:
        yield LangGraph(saver, work)
