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

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from reprise.testing.crash_plugin import add_marker, add_options, call_at_points, check_plain, point

if TYPE_CHECKING:
    from reprise.testing.simulation import Simulated
    from reprise.testing.world import World

__all__ = ["point", "world"]

MARK = "simulate"
OPTIONS = ("seeds", "faults", "keeper", "within")
"""What the marker takes."""
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
        f'simulate(seeds={SEEDS}, faults=EVERYTHING, keeper="memory", within=3600): run an async test, whose argument is '
        "`world`, under so many seeds; it must return within so many seconds of its own time",
    )
    add_marker(config)
    config.stash[_MET] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse marked tests that could not be called as their marker says.

    Raises:
        pytest.UsageError: says which test, and what to write.
    """
    check_plain(items)
    for item in items:
        mark = item.get_closest_marker(MARK)
        if mark is not None and (why := _why_not(item, mark)):
            raise pytest.UsageError(f"{item.nodeid}: {why}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call simulated tests, and tests of crash points, before anybody runs them on a real loop."""
    mark = pyfuncitem.get_closest_marker(MARK)
    if mark is None:
        return call_at_points(pyfuncitem)
    _under_seeds(pyfuncitem, **mark.kwargs)
    return True


@pytest.fixture
def world() -> None:
    """Stand for the world of a simulated test, which is made anew for each seed."""


def _why_not(item: pytest.Item, mark: pytest.Mark) -> str:
    """Return why a test cannot be simulated, '' if it can."""
    test = inspect.unwrap(getattr(item, "function", None) or _under_seeds)
    if not inspect.iscoroutinefunction(test):
        return "a simulated test is a coroutine function; write async def."
    if "world" not in inspect.signature(test).parameters:
        return f"a simulated test is given its world; write async def {test.__name__}(world)."
    if mark.args:
        return f"the marker takes its options by name; write @pytest.mark.simulate(seeds={mark.args[0]!r})."
    unknown = sorted(mark.kwargs.keys() - set(OPTIONS))
    if unknown:
        errors = import_module("reprise.kernel.errors")
        return str(errors.unknown_option(unknown[0], OPTIONS, "@pytest.mark.simulate"))
    seeds = mark.kwargs.get("seeds", SEEDS)
    if not isinstance(seeds, int) or seeds < 1:
        return f"seeds is {seeds!r}; it is how many, a number from 1 on. --simulate-seed=N runs one of them."
    return ""


def _under_seeds(
    item: pytest.Function, seeds: int = SEEDS, faults: Sequence[Any] | None = None, **options: Any
) -> None:
    test = inspect.unwrap(item.obj)  # a plugin for async tests may have put its own around it
    arguments = {name: item.funcargs[name] for name in inspect.signature(test).parameters}
    simulation = import_module("reprise.testing.simulation")
    chosen = simulation.EVERYTHING if faults is None else faults
    met: Simulated = item.config.stash[_MET].setdefault(item.nodeid, simulation.Simulated())

    async def scenario(world: World) -> None:
        await test(**{**arguments, "world": world})

    for seed in _seeds(item.config, seeds):
        try:
            simulation.simulate_once(scenario, seed, chosen, met, **options)
        except Exception as error:
            error.add_note(f"The same again: pytest '{item.nodeid}' --simulate-seed={seed}")
            raise


def _seeds(config: pytest.Config, seeds: int) -> Sequence[int]:
    only = config.getoption("--simulate-seed")
    if only is not None:
        return [int(only)]
    first = int(config.getoption("--simulate-from") or 0)
    return range(first, first + int(config.getoption("--simulate-seeds") or seeds))


def met_by(config: pytest.Config) -> dict[str, Simulated]:
    """Return what simulated tests met so far in this process, by node id."""
    return config.stash[_MET]
