"""Agents by name."""

from importlib.metadata import EntryPoint

import pytest

from reprise import AgentRegistry, ConfigurationError
from reprise.runtime import extensions


def shout(task):
    return task.upper()


@pytest.fixture
def installed(monkeypatch):
    point = EntryPoint("greeter", "builtins:len", "reprise.agents")
    monkeypatch.setattr(extensions, "entry_points_of", lambda kind: {"agents": (point,)}.get(kind, ()))


def test_agents_are_found_by_name(installed):
    known = AgentRegistry({"shouter": shout})
    assert known["shouter"]("a") == "A"
    assert known["greeter"] is len
    assert list(known) == ["shouter", "greeter"]
    assert len(known) == 2
    assert "nobody" not in known


def test_what_is_registered_comes_before_what_is_installed(installed):
    assert AgentRegistry({"greeter": shout})["greeter"] is shout


def test_a_name_is_one_agents(installed):
    known = AgentRegistry({"shouter": shout})
    known.register("shouter", shout)
    with pytest.raises(ConfigurationError, match="Two agents are called 'shouter'"):
        known.register("shouter", str.lower)
    with pytest.raises(ConfigurationError, match="'mute' is 'x'"):
        known.register("mute", "x")
    with pytest.raises(KeyError, match="did you mean 'shouter'"):
        known["shoutr"]
