"""Which keeper a URL names, and what is said of one that names none."""

import pytest

from reprise.kernel.errors import ConfigurationError
from reprise.stores import open_store, sqlite


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqllite:///x.db", "Did you mean 'sqlite'?"),
        ("mongodb://host/db", "Use memory://"),
        ("x.db", "Use memory://"),
    ],
)
def test_a_url_that_no_keeper_knows_is_told_with_what_there_is(url, says):
    with pytest.raises(ConfigurationError, match="No store is known") as caught:
        open_store(url)
    assert says in str(caught.value)


def test_a_password_is_not_told():
    with pytest.raises(ConfigurationError) as caught:
        open_store("sqllite://ada:secret@host/db")
    assert "host" not in str(caught.value)


def test_a_keeper_that_is_loaded_late_has_no_names_but_its_own():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sqlite.nothing  # noqa: B018 (looking it up loads it)
