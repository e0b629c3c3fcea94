"""What faces take where they do not say otherwise: the settings of the app in which a run starts, kept by the run."""

import asyncio
from collections import Counter

import msgspec
import pytest
from tests.unit.runtime.scenes import until

from reprise import (
    AgentChain,
    ConfigurationError,
    ParallelExecutor,
    Reprise,
    SagaOrchestrator,
    Settings,
    UnknownOption,
    WorkflowOrchestrator,
    WorkflowStep,
    load_plan,
    load_settings,
    step,
    workflow,
)
from reprise.kernel.events import Started, run_stream

OURS = {"max_concurrent": 1, "retry_count": 1, "default_timeout": 0.05}


class World:
    """Agents of which ``shaky`` always loses its connection and ``stuck`` never ends; counts how many are at work."""

    def __init__(self):
        self.calls = Counter()
        self.working = self.most = 0

    async def __call__(self, who, task, context):
        self.calls[who] += 1
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            if who == "shaky":
                raise ConnectionError("gone")
            if who == "stuck":
                await asyncio.Event().wait()
            return who
        finally:
            self.working -= 1


def plan(**options):
    made = WorkflowOrchestrator(**options)
    for who in ("a", "b", "shaky", "stuck"):
        made.add_step(WorkflowStep(name=who, agent_type=who))
    return made


def chain(**options):
    made = AgentChain()
    for who in ("a", "shaky", "stuck"):
        made.then(who, on_error="skip", **options)
    return made


def parallel(max_concurrent=None, **options):
    made = ParallelExecutor(max_concurrent)
    for who in ("a", "b", "shaky", "stuck"):
        made.create_task(who, **options)
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Tries again at once."""
    monkeypatch.setattr("reprise.kernel.policy.Retry.delay", lambda *_, **__: 0.0)


@pytest.mark.parametrize("face", [plan, chain, parallel])
async def test_a_face_takes_what_the_app_says(face):
    world = World()
    async with Reprise("memory://", defaults=OURS, capture_logs=False) as app:
        result = await face().execute(world, app=app)
    assert world.most == 1
    assert world.calls["shaky"] == world.calls["stuck"] == 2
    assert "0.05 s" in str(next(error for name, error in result.errors.items() if "stuck" in name))


@pytest.mark.parametrize(
    ("face", "options"),
    [
        (chain, {"max_retries": 0, "timeout": 0.01}),
        (parallel, {"max_concurrent": 4, "max_retries": 0, "timeout": 0.01}),
    ],
)
async def test_what_a_face_says_itself_is_stronger(face, options):
    world = World()
    async with Reprise("memory://", defaults=OURS, capture_logs=False) as app:
        result = await face(**options).execute(world, app=app)
    assert world.most == options.get("max_concurrent", 1)
    assert world.calls["shaky"] == 1
    assert "0.01 s" in str(next(error for name, error in result.errors.items() if "stuck" in name))


async def test_a_plan_that_says_how_many_at_once_is_heard_and_none_is_as_data():
    world = World()
    async with Reprise("memory://", defaults=OURS, capture_logs=False) as app:
        await plan(max_concurrent=3).execute(world, app=app)
    assert world.most == 3
    assert "max_concurrent" not in plan().plan().to_dict()
    assert plan(max_concurrent=10).plan().to_dict()["max_concurrent"] == 10
    file = "name: p\nsteps:\n  - {name: a, agent: a}\n  - {name: b, agent: b}\n"
    async with Reprise("memory://", defaults=OURS, capture_logs=False) as app:
        await WorkflowOrchestrator.of(load_plan(file)).execute(world := World(), app=app)
    assert world.most == 1


async def test_a_saga_tries_again_as_often_as_the_app_says():
    calls = []

    def charge(payload):
        calls.append(payload)
        raise ConnectionError("gone")

    saga = SagaOrchestrator(services={"billing": {"charge": charge}})
    await saga.define_saga("pay", [{"step": "charge", "service": "billing", "backoff": 0}])
    async with Reprise("memory://", defaults=OURS, capture_logs=False) as app:
        result = await saga.execute("pay", app=app)
    assert (result.status, len(calls)) == ("failed", 2)


@step
async def nothing() -> None: ...


@workflow
async def above() -> int:
    await nothing()
    world = WORLDS[-1]
    await plan().execute(world, id="below")
    return world.most


WORLDS = []


async def test_children_take_what_the_run_took_that_started_them(tmp_path):
    WORLDS.append(World())
    store = f"sqlite:///{tmp_path}/x.db"
    async with Reprise(store, defaults=OURS, capture_logs=False, worker=False) as app:
        await app.start(above, id="r")
    async with Reprise(store, workflows=[above], capture_logs=False) as app:
        assert await app.handle("r", above).result() == 1


async def started(app, id):
    return msgspec.json.decode((await app.store.log.read(run_stream(id)))[0].data, type=Started)


async def test_a_run_keeps_the_defaults_with_which_it_started(tmp_path):
    """Others settings where it goes on change nothing, and the same id with them is no conflict."""
    store = f"sqlite:///{tmp_path}/x.db"
    wf = WorkflowOrchestrator(name="kept")
    for name in ("a", "b", "c"):
        wf.add_step(WorkflowStep(name=name, agent_type=name))
    asked = []

    async def first(who, task, context):
        asked.append(who)
        await asyncio.Event().wait()

    app = Reprise(store, defaults={"max_concurrent": 1}, capture_logs=False, grace=0)
    async with app:
        executing = asyncio.create_task(wf.execute(first, app=app, id="k"))
        await until(lambda: asked)
        assert (await started(app, "k")).defaults.max_concurrent == 1
        executing.cancel()
    world = World()
    async with Reprise(store, defaults={"max_concurrent": 3, "retry_count": 0}, capture_logs=False) as app:
        result = await wf.execute(world, app=app, id="k")
        assert (await started(app, "k")).defaults.max_concurrent == 1
    assert (result.status, world.most) == ("completed", 1)


async def test_what_is_built_in_is_not_written_down():
    async with Reprise("memory://", capture_logs=False) as app:
        await plan().execute(lambda who, task: who, app=app, id="r")
        assert (await started(app, "r")).defaults is None


async def test_the_runs_of_a_schedule_take_what_the_worker_says():
    async with Reprise("memory://", defaults=OURS, capture_logs=False) as app:
        WORLDS.append(World())
        await app.schedule("later", above, every=1e6)
        triggered = await app.schedules.trigger("later")
        await app.handle(triggered, above).result()
        assert (await started(app, triggered)).defaults.max_concurrent == 1
        WORLDS.append(World())
        await app.schedule("now", above, every=0.05)
        await until(lambda: WORLDS[-1].calls)
        fired, *_ = [row.id for row in await app.find("workflow:above") if row.id.startswith("now@")]
        assert (await started(app, fired)).defaults.max_concurrent == 1


def test_defaults_are_settings_and_nothing_else():
    with pytest.raises(UnknownOption, match="Did you mean 'retry_count'"):
        Reprise("memory://", defaults={"retry_cont": 1})
    with pytest.raises(ConfigurationError, match="max_concurrent is 0"):
        Reprise("memory://", defaults={"max_concurrent": 0})
    assert Reprise("memory://", defaults=Settings().workflows).registry.defaults is None


def test_a_program_may_go_by_the_settings_of_the_command_line(tmp_path):
    (tmp_path / "reprise.toml").write_text("[workflows]\nretry_count = 7\nmax_concurrent = 2\n")
    found = load_settings(
        tmp_path, {"REPRISE_WORKFLOWS__MAX_CONCURRENT": "4", "HOME": str(tmp_path)}
    ).workflows
    assert (found.retry_count, found.max_concurrent, found.default_timeout) == (7, 4, 300)
