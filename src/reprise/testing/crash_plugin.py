"""The part of the pytest plugin that kills workers: ``@pytest.mark.crash_points`` and ``--crash-points``.

    @pytest.mark.crash_points(order, "tea", driver=approve)
    def test_order(point):
        assert point.result == "tea shipped"

The test is called for every point, after :meth:`~reprise.testing.crashes.CrashPoint.check`. Without the option it is called
for the undisturbed run and a few points; with ``--crash-points`` for all, with ``--crash-points=7:after`` for that one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reprise.testing.crashes import CrashPoint

MARK = "crash_points"
FEW = 10
"""Points that are tried where not all are asked for."""


def add_options(group: pytest.OptionGroup) -> None:
    """Add ``--crash-points``."""
    group.addoption(
        "--crash-points",
        nargs="?",
        const="all",
        default="few",
        metavar="N:before|after",
        help=f"kill workers at all appends, or at one of them (default: at {FEW}, spread evenly)",
    )


def add_marker(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "crash_points(workflow, *args, **options): call a test, whose argument is `point`, for each moment at which the "
        "worker of a run can be killed; options as of reprise.testing.crash_points",
    )


@pytest.fixture
def point(request: pytest.FixtureRequest) -> pytest.FixtureRequest:
    """Stand for the point of a test of crash points, of which there is one for each call."""
    return request


def check_plain(items: Iterable[pytest.Item]) -> None:
    """Check that tests of crash points are plain functions: points are executed on loops of their own.

    Raises:
        pytest.UsageError: one is async.
    """
    for item in items:
        marked = item.get_closest_marker(MARK) is not None
        if marked and inspect.iscoroutinefunction(getattr(item, "function", None)):
            raise pytest.UsageError(
                f"{item.nodeid} is async; a test of crash points is a plain function, write def."
            )


def call_at_points(item: pytest.Function) -> bool | None:
    """Call a test once for each point; None = it is no test of crash points."""
    mark = item.get_closest_marker(MARK)
    if mark is None:
        return None
    arguments = {name: item.funcargs[name] for name in inspect.signature(item.obj).parameters}
    for one in _points(mark, str(item.config.getoption("--crash-points"))):
        try:
            if one.number:
                one.check()
            item.obj(**{**arguments, "point": one})
        except Exception as error:
            error.add_note(f"The run was {one}.")
            error.add_note(f"The same again: pytest '{item.nodeid}' --crash-points={one.number}:{one.when}")
            raise
    return True


def _points(mark: pytest.Mark, option: str) -> Iterator[CrashPoint]:
    wanted = {"most": FEW} if option == "few" else {}
    points = import_module("reprise.testing.crashes").crash_points(*mark.args, **{**wanted, **mark.kwargs})
    number, _, when = option.partition(":")
    if number.isdecimal():
        yield points.at(int(number), when or "before")
        return
    yield points.at(0)
    yield from points
