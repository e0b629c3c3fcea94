"""Settings: the documents' names and defaults, layers, and where each value came from."""

from __future__ import annotations

import ast
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from reprise.kernel.errors import ConfigurationError, UnknownOption
from reprise.kernel.settings import ALIASES, Secret, Settings, environment_layers, masked, merge

DEFAULTS: dict[str, Any] = {
    "store.url": "sqlite:///.reprise/reprise.db",
    "worker.concurrency": 100,
    "worker.max_loaded": 1000,
    "worker.max_loaded_bytes": 256 << 20,
    "worker.keep_generations": 10,
    "worker.grace": 10,
    "worker.build": "",
    "worker.accepts": None,
    "processes.size": None,
    "processes.recycle_after": 1000,
    "processes.recycle_growth": 268_435_456,
    "processes.silence": 30,
    "processes.grace": 2,
    "payloads.limit": 67_108_864,
    "payloads.keys": {},
    "payloads.key": "",
    "payloads.redact": "",
    "redis.host": "localhost",
    "redis.port": 6379,
    "redis.db": 0,
    "redis.password": None,
    "workflows.max_concurrent": 10,
    "workflows.default_timeout": 300,
    "workflows.retry_count": 3,
    "cassandra.contact_points": ["localhost"],
    "cassandra.port": 9042,
    "cassandra.keyspace": "ai_shell",
    "cassandra.username": None,
    "cassandra.password": None,
    "dynamodb.region_name": "us-east-1",
    "dynamodb.endpoint_url": None,
    "neo4j.uri": "bolt://localhost:7687",
    "neo4j.database": "neo4j",
    "neo4j.username": None,
    "neo4j.password": None,
    "distributed_lock.default_ttl": 30,
    "distributed_lock.retry_delay": 0.1,
    "distributed_lock.retry_count": 10,
    "distributed_lock.node_timeout": 0.2,
    "task_queue.visibility_timeout": 300,
    "task_queue.purge_interval": 3600,
    "services.state_manager": "http://localhost:8080",
    "services.workflow_orchestrator": "http://localhost:8081",
    "services.tool_registry": "http://localhost:8082",
    "services.agents": {},
    "plugins.directories": [],
}

# As printed in the document of the enhanced features.
ENHANCED_FEATURES_CONFIG = ast.literal_eval("""{
    # Redis configuration
    'redis': {
        'host': 'localhost',
        'port': 6379,
        'db': 0,
        'password': None
    },

    # Workflow configuration
    'workflows': {
        'max_concurrent': 10,
        'default_timeout': 300,
        'retry_count': 3
    },

    # Database clients
    'cassandra': {
        'contact_points': ['localhost'],
        'port': 9042,
        'keyspace': 'ai_shell'
    },

    'dynamodb': {
        'region_name': 'us-east-1',
        'endpoint_url': None  # Use None for AWS, or local endpoint
    },

    'neo4j': {
        'uri': 'bolt://localhost:7687',
        'database': 'neo4j'
    },

    # Coordination
    'distributed_lock': {
        'default_ttl': 30,
        'retry_delay': 0.1,
        'retry_count': 10
    },

    'task_queue': {
        'visibility_timeout': 300,
        'purge_interval': 3600
    }
}""")


def value_of(settings: Settings, path: str) -> Any:
    section, key = path.split(".")
    return getattr(getattr(settings, section), key)


@pytest.mark.parametrize(("path", "value"), DEFAULTS.items())
def test_defaults(path: str, value: Any) -> None:
    assert value_of(Settings(), path) == value


def test_every_default_is_tested() -> None:
    _, origins = merge([])
    assert set(origins) == set(DEFAULTS)
    assert set(origins.values()) == {"default"}


def test_the_dictionary_of_the_document_is_accepted_as_printed() -> None:
    settings = Settings.from_dict(ENHANCED_FEATURES_CONFIG)
    assert settings == Settings()
    for section, keys in ENHANCED_FEATURES_CONFIG.items():
        for key, value in keys.items():
            assert value_of(settings, f"{section}.{key}") == value


def test_the_strongest_layer_is_the_last() -> None:
    settings, origins = merge(
        [
            ("user.toml", {"redis": {"host": "a", "db": 1}, "store": "memory://"}),
            ("reprise.toml", {"redis": {"host": "b"}}),
            ("--store", {"store": "sqlite:///x.db"}),
        ]
    )
    assert (settings.redis.host, settings.redis.db, settings.store.url) == ("b", 1, "sqlite:///x.db")
    assert (origins["redis.host"], origins["redis.db"]) == ("reprise.toml", "user.toml")
    assert (origins["store.url"], origins["redis.port"]) == ("--store", "default")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rediss": {}}, r"dictionary: the settings has no 'rediss'. Did you mean 'redis'"),
        ({"redis": {"prot": 1}}, r"dictionary: redis has no 'prot'. Did you mean 'port'"),
    ],
)
def test_a_typo_names_the_nearest(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownOption, match=said):
        Settings.from_dict(config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"redis": 3}, "dictionary: redis is 3"),
        ({"redis": {"port": "x"}}, "dictionary: redis.port is 'x': Expected `int`"),
        ({"redis": {"port": 70000}}, "redis.port is 70000: Expected `int` <= 65535"),
        ({"workflows": {"default_timeout": -1}}, "default_timeout is -1: Expected `float` >= 0"),
        ({"workflows": {"max_concurrent": 0}}, "max_concurrent is 0: Expected `int` >= 1"),
        ({"neo4j": {"password": 12345}}, "neo4j.password is a secret"),
    ],
)
def test_a_wrong_value_names_where_it_stands(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Settings.from_dict(config)
    assert "12345" not in str(caught.value)


def test_durations_may_be_timedeltas() -> None:
    settings = Settings.from_dict({"distributed_lock": {"default_ttl": timedelta(minutes=1)}})
    assert settings.distributed_lock.default_ttl == 60


def test_the_documents_variables_are_aliases() -> None:
    environment = {
        "REDIS_HOST": "r",
        "CASSANDRA_HOSTS": "a, b",
        "DYNAMODB_ENDPOINT": "http://d:8000",
        "NEO4J_URI": "bolt://n",
        "NEO4J_AUTH": "me/se/cret",
        "STATE_MANAGER_URL": "http://s",
        "WORKFLOW_ORCHESTRATOR_URL": "http://w",
        "TOOL_REGISTRY_URL": "http://t",
        "CORE_ANALYZER_URL": "http://c",
        "VISUALIZER_URL": "http://v",
        "DATABASE_URL": "not ours",
    }
    settings, origins = merge(environment_layers(environment))
    assert settings.redis.host == "r"
    assert settings.cassandra.contact_points == ["a", "b"]
    assert settings.dynamodb.endpoint_url == "http://d:8000"
    assert (settings.neo4j.uri, settings.neo4j.username) == ("bolt://n", "me")
    assert settings.neo4j.password == Secret("se/cret")
    services = settings.services
    assert (services.state_manager, services.workflow_orchestrator, services.tool_registry) == (
        "http://s",
        "http://w",
        "http://t",
    )
    assert services.agents == {"core_analyzer": "http://c", "visualizer": "http://v"}
    assert origins["cassandra.contact_points"] == "$CASSANDRA_HOSTS"
    assert {path for path in ALIASES.values() if origins[path] == "default"} == set()


def test_our_variables_are_stronger_than_aliases() -> None:
    environment = {
        "REPRISE_REDIS__HOST": "ours",
        "REDIS_HOST": "theirs",
        "REPRISE_STORE": "memory://",
        "REPRISE_REDIS__DB": "4",
    }
    settings, origins = merge(environment_layers(environment))
    assert (settings.redis.host, settings.redis.db, settings.store.url) == ("ours", 4, "memory://")
    assert origins["redis.host"] == "$REPRISE_REDIS__HOST"


def test_other_variables_are_left_alone_but_a_typo_in_a_key_is_not() -> None:
    assert environment_layers({"REPRISE_TEST_POSTGRES": "x", "PATH": "y", "NEO4J_AUTH": "none"}) == []
    with pytest.raises(UnknownOption, match=r"\$REPRISE_REDIS__PROT: redis has no 'prot'"):
        merge(environment_layers({"REPRISE_REDIS__PROT": "1"}))
    with pytest.raises(ConfigurationError, match="user/password"):
        environment_layers({"NEO4J_AUTH": "me"})


def test_secrets_are_not_shown() -> None:
    settings = Settings.from_dict(
        {"redis": {"password": "hunter2"}, "neo4j": {"password": Secret("hunter2")}}
    )
    assert settings.redis.password is not None
    assert settings.redis.password.reveal() == "hunter2"
    assert settings.redis.password == settings.neo4j.password
    shown = (
        f"{settings} {settings!r} {settings.redis.password} {[settings.redis.password]} %s"
        % settings.redis.password
    )
    assert "hunter2" not in shown
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://me:p@ss:w@h/db", "postgresql://me:***@h/db"),
        ("postgresql://me@h/db", "postgresql://me@h/db"),
        ("sqlite:///a:b.db", "sqlite:///a:b.db"),
    ],
)
def test_urls_are_shown_without_their_password(url: str, shown: str) -> None:
    assert masked(url) == shown
