"""Settings: one schema for what files, the environment and flags may say, and where each value came from.

Durations are seconds; a ``timedelta`` is accepted.

>>> settings = Settings.from_dict({"redis": {"port": "6380"}, "store": "memory://"})
>>> settings.redis.port, settings.store.url
(6380, 'memory://')
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias, cast, get_type_hints

import msgspec
from msgspec import Meta, field

from reprise.kernel.codec import Codec
from reprise.kernel.errors import CodecError, ConfigurationError, unknown_option
from reprise.kernel.policy import seconds

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]

Layer: TypeAlias = tuple[str, Mapping[str, Any]]
"""Where values come from, and the values by section."""

DEFAULT = "default"
"""Origin of a value that nobody set."""


class Secret:
    """Text that is not shown: ``repr``, ``str`` and logs hide it, :meth:`reveal` returns it.

    >>> Secret("hunter2"), f"{Secret('hunter2')}", Secret("hunter2").reveal()
    (Secret('***'), '***', 'hunter2')
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(cast("object", text), str):
            raise TypeError("A secret is text")
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


def masked(url: str) -> str:
    """Return a URL without its password.

    >>> masked("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^/?#:]*:).*@", r"\1***@", url)


# ---------------------------------------------------------------- sections


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where runs are kept."""

    url: str = "sqlite:///.reprise/reprise.db"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker takes on."""

    concurrency: Count = 100
    """Steps executing at once."""
    max_loaded: Count = 1000
    """Runs in memory at once."""
    max_loaded_bytes: Count = 256 << 20
    """About how much memory they may take."""
    keep_generations: Annotated[int, Meta(ge=0)] | None = 10
    """Earlier generations of a run that continues whose history is kept; None = all."""
    grace: Seconds = 10.0
    """How long running steps may take to end when the worker stops."""
    build: str = ""
    """Name of this version of the code; runs remember which had them last, and which could not replay them."""
    accepts: list[str] | None = None
    """Builds whose runs a worker takes besides those of its own; None = of all."""


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that execute steps of ``executor="process"``."""

    size: Count | None = None
    """Processes, and such steps, at once; None = one for each processor that we may use."""
    recycle_after: Count = 1000
    """Calls after which a process makes room for a fresh one."""
    recycle_growth: Count = 256 << 20
    """Bytes that a process may have grown since its first call before it makes room for a fresh one."""
    silence: Annotated[float, Meta(gt=0)] = 30.0
    """How long a busy process may give no sign of life; then it is taken for stopped or stuck, and killed."""
    grace: Seconds = 2.0
    """How long a cancelled step may take to clean up (SIGTERM) before its process is killed."""


class PayloadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How payloads are written."""

    limit: Count = 64 << 20
    """Bytes that one value may have as JSON."""
    keys: dict[str, Secret] = {}
    """Keys that seal payloads, by name, as references: ``env:VARIABLE`` or ``file:PATH``."""
    key: str = ""
    """Name of the key that seals; '' = the last one. The others only open."""
    redact: str = ""
    """``package.module:function`` that is given every text for people before it is written."""


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The Redis server of coordination and messaging."""

    host: str = "localhost"
    port: Port = 6379
    db: Annotated[int, Meta(ge=0)] = 0
    password: Secret | None = None


class WorkflowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of workflows."""

    max_concurrent: Count = 10
    default_timeout: Seconds = 300.0
    """Of one attempt of a step."""
    retry_count: Annotated[int, Meta(ge=0)] = 3
    """Retries after the first try: n + 1 attempts."""


class CassandraSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The Cassandra cluster."""

    contact_points: list[str] = field(default_factory=lambda: ["localhost"])
    port: Port = 9042
    keyspace: str = "ai_shell"
    username: str | None = None
    password: Secret | None = None


class DynamoDBSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Amazon DynamoDB, or a local one. Credentials are found as AWS tools find them."""

    region_name: str = "us-east-1"
    endpoint_url: str | None = None
    """None for AWS itself."""


class Neo4jSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The Neo4j server."""

    uri: str = "bolt://localhost:7687"
    database: str = "neo4j"
    username: str | None = None
    password: Secret | None = None


class LockSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of distributed locks."""

    default_ttl: Seconds = 30.0
    retry_delay: Seconds = 0.1
    retry_count: Annotated[int, Meta(ge=0)] = 10
    """A lock without a timeout is waited for ``retry_delay`` times this."""
    node_timeout: Seconds = 0.2
    """How long each of several keepers is waited for. One that stands still costs everybody so long."""


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of task queues."""

    visibility_timeout: Seconds = 300.0
    """How long a claimed task is hidden from others."""
    purge_interval: Seconds = 3600.0


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the services are."""

    state_manager: str = "http://localhost:8080"
    workflow_orchestrator: str = "http://localhost:8081"
    tool_registry: str = "http://localhost:8082"
    agents: dict[str, str] = {}
    """URLs of agents by name."""


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where plugins are, beside installed packages."""

    directories: list[str] = []
    """Folders of plugins; what is in them has to be trusted first (``reprise plugins trust``)."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, section by section."""

    store: StoreSettings = StoreSettings()
    worker: WorkerSettings = WorkerSettings()
    processes: ProcessSettings = ProcessSettings()
    payloads: PayloadSettings = PayloadSettings()
    redis: RedisSettings = RedisSettings()
    workflows: WorkflowSettings = WorkflowSettings()
    cassandra: CassandraSettings = field(default_factory=CassandraSettings)
    dynamodb: DynamoDBSettings = DynamoDBSettings()
    neo4j: Neo4jSettings = Neo4jSettings()
    distributed_lock: LockSettings = LockSettings()
    task_queue: QueueSettings = QueueSettings()
    services: ServiceSettings = field(default_factory=ServiceSettings)
    plugins: PluginSettings = PluginSettings()

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings that a dictionary of sections describes; what it leaves out has its default.

        Raises ``UnknownOption`` naming the nearest section or key, ``ConfigurationError`` for a value out of range.
        """
        return merge([("dictionary", config)])[0]


# ---------------------------------------------------------------- layers

_codec = Codec()
_codec.register(Secret, Secret.reveal, Secret)

_SECTIONS: Mapping[str, Any] = MappingProxyType(get_type_hints(Settings))
_KEYS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {name: get_type_hints(section, include_extras=True) for name, section in _SECTIONS.items()}
)
_SHORT = {"store": "url"}
"""Sections for which a bare string will do, and the key it stands for."""


def merge(layers: Sequence[Layer]) -> tuple[Settings, dict[str, str]]:
    """Return the settings of several layers, the strongest last, and by ``section.key`` where each value came from.

    Raises ``UnknownOption`` for a section or key that does not exist, ``ConfigurationError`` for a value that does not
    fit; both name the layer.

    >>> settings, origins = merge([("reprise.toml", {"redis": {"db": 1}}), ("$REPRISE_REDIS__DB", {"redis": {"db": "2"}})])
    >>> settings.redis.db, origins["redis.db"], origins["redis.host"]
    (2, '$REPRISE_REDIS__DB', 'default')
    """
    values: dict[str, dict[str, Any]] = {}
    origins = {f"{section}.{key}": DEFAULT for section, keys in _KEYS.items() for key in keys}
    for origin, layer in layers:
        for section, key, value in _entries(origin, layer):
            values.setdefault(section, {})[key] = _fit(origin, section, key, value)
            origins[f"{section}.{key}"] = origin
    return Settings(**{section: _SECTIONS[section](**given) for section, given in values.items()}), origins


def _entries(origin: str, layer: Mapping[str, Any]) -> Iterable[tuple[str, str, Any]]:
    for section, values in layer.items():
        if section not in _SECTIONS:
            raise unknown_option(section, _SECTIONS, f"{origin}: the settings")
        given: Any = {_SHORT[section]: values} if isinstance(values, str) and section in _SHORT else values
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{origin}: {section} is {given!r}.", hint="Give its keys and values.")
        for key, value in cast("Mapping[str, Any]", given).items():
            if key not in _KEYS[section]:
                raise unknown_option(key, _KEYS[section], f"{origin}: {section}")
            yield section, key, value


def _fit(origin: str, section: str, key: str, value: Any) -> Any:
    declared = _KEYS[section][key]
    if isinstance(value, timedelta):
        value = seconds(value, f"{section}.{key}")
    elif isinstance(value, Secret):
        value = value.reveal()
    try:
        return _codec.convert(value, declared)
    except CodecError as error:
        shown = "a secret" if "Secret" in repr(declared) else repr(value)
        reason = str(error.__cause__).split(" - at")[0]
        raise ConfigurationError(f"{origin}: {section}.{key} is {shown}: {reason}.") from None


# ---------------------------------------------------------------- environment

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "REDIS_HOST": "redis.host",
        "CASSANDRA_HOSTS": "cassandra.contact_points",
        "DYNAMODB_ENDPOINT": "dynamodb.endpoint_url",
        "NEO4J_URI": "neo4j.uri",
        "STATE_MANAGER_URL": "services.state_manager",
        "WORKFLOW_ORCHESTRATOR_URL": "services.workflow_orchestrator",
        "TOOL_REGISTRY_URL": "services.tool_registry",
    }
)
"""The documents' own variables. ``NEO4J_AUTH`` (user/password) and ``<AGENT>_URL`` of :data:`AGENTS` come on top."""

AGENTS = ("core_analyzer", "insight_hunter", "visualizer", "publicist", "arbiter")
"""Agents whose ``<NAME>_URL`` is understood; others are set as ``services.agents``."""

_PREFIX = "REPRISE_"


def environment_layers(environment: Mapping[str, str]) -> list[Layer]:
    """Return one layer for each variable that is a setting, weakest first: aliases below ``REPRISE_*``.

    ``REPRISE_<SECTION>__<KEY>`` sets any key, ``REPRISE_STORE`` the store. Names that end in no section are left to
    others. Raises ``ConfigurationError`` for a ``NEO4J_AUTH`` that is not user/password.

    >>> environment_layers({"CASSANDRA_HOSTS": "a,b", "REPRISE_STORE": "memory://", "HOME": "/"})
    [('$CASSANDRA_HOSTS', {'cassandra': {'contact_points': 'a,b'}}), ('$REPRISE_STORE', {'store': 'memory://'})]
    """
    layers: list[Layer] = []
    for name, path in ALIASES.items():
        if name in environment:
            section, _, key = path.partition(".")
            layers.append((f"${name}", {section: {key: environment[name]}}))
    layers += _neo4j_auth(environment.get("NEO4J_AUTH", "none"))
    agents = {agent: environment[name] for agent in AGENTS if (name := f"{agent.upper()}_URL") in environment}
    if agents:
        layers.append(("$<AGENT>_URL", {"services": {"agents": agents}}))
    for name in sorted(environment):
        section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
        if name.startswith(_PREFIX) and (key or section in _SHORT):
            layers.append((f"${name}", {section: {key: environment[name]} if key else environment[name]}))
    return layers


def _neo4j_auth(value: str) -> list[Layer]:
    if value == "none":
        return []
    user, slash, password = value.partition("/")
    if not slash:
        raise ConfigurationError("$NEO4J_AUTH is not user/password.", hint="Write it so, or 'none'.")
    return [("$NEO4J_AUTH", {"neo4j": {"username": user, "password": password}})]
