"""What pytest learns from Reprise: ``@pytest.mark.simulate`` and its options.

    @pytest.mark.simulate(seeds=1000, faults=[Crash(), Delay()])
    async def test_orders(world):
        world.workers(2, workflows=[order])
        async with world.client() as app:
            assert await app.run(order, 7) == "shipped"

The test runs once for each seed, each in a world of its own (:class:`~reprise.testing.world.World`), and in virtual time.
Nothing of Reprise is loaded until a test is marked so.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from reprise.testing.crash_plugin import add_marker, add_options, call_at_points, check_plain, point

if TYPE_CHECKING:
    from reprise.testing.simulation import Simulated
    from reprise.testing.world import World

__all__ = ["point", "world"]

SEEDS = 100
"""Seeds of a test that names no number."""
_MET = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("reprise", "Reprise: simulated tests")
    add_options(group)
    group.addoption("--simulate-seed", type=int, metavar="N", help="run simulated tests under this seed only")
    group.addoption("--simulate-seeds", type=int, metavar="N", help="run simulated tests under so many seeds")
    group.addoption(
        "--simulate-from", type=int, default=0, metavar="N", help="the first seed of simulated tests (0)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"simulate(seeds={SEEDS}, faults=EVERYTHING): run an async test, whose argument is `world`, under so many seeds",
    )
    add_marker(config)
    config.stash[_MET] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> Any:
    """Put in the place of a marked coroutine function one that runs it under seeds, before others take it for theirs."""
    marks = [mark for mark in getattr(obj, "pytestmark", ()) if mark.name == "simulate"]
    if not marks or not inspect.iscoroutinefunction(obj):
        return None
    owner = getattr(collector, "cls", None) or collector.obj
    made = _under_seeds(getattr(obj, "__func__", obj), **marks[0].kwargs)
    setattr(owner, name, made)
    return list(collector._genfunctions(name, made))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse async tests of crash points."""
    check_plain(items)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call tests of crash points."""
    return call_at_points(pyfuncitem)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> pytest.FixtureRequest:
    """Stand for the world of a simulated test, which is made anew for each seed."""
    return request


def _under_seeds(
    test: Callable[..., Coroutine[Any, Any, Any]],
    seeds: int = SEEDS,
    faults: Sequence[Any] | None = None,
    **options: Any,
) -> Callable[..., None]:
    @functools.wraps(test)
    def simulated(*args: Any, world: pytest.FixtureRequest, **kwargs: Any) -> None:
        simulate = import_module("reprise.testing.simulation")
        chosen = simulate.EVERYTHING if faults is None else faults
        config = world.config
        met: Simulated = config.stash[_MET].setdefault(world.node.nodeid, simulate.Simulated())

        async def scenario(world: World) -> None:
            await test(*args, world=world, **kwargs)

        for seed in _seeds(config, seeds):
            try:
                simulate.simulate_once(scenario, seed, chosen, met, **options)
            except Exception as error:
                error.add_note(f"The same again: pytest '{world.node.nodeid}' --simulate-seed={seed}")
                raise

    # Whoever looks through the wrapper sees a coroutine function, and would run that on a loop of its own.
    del simulated.__wrapped__
    simulated.__dict__["__signature__"] = inspect.signature(test)
    return simulated


def _seeds(config: pytest.Config, seeds: int) -> Sequence[int]:
    only = config.getoption("--simulate-seed")
    if only is not None:
        return [int(only)]
    first = int(config.getoption("--simulate-from") or 0)
    return range(first, first + int(config.getoption("--simulate-seeds") or seeds))


def met_by(config: pytest.Config) -> dict[str, Simulated]:
    """Return what simulated tests met so far in this process, by node id."""
    return config.stash[_MET]
