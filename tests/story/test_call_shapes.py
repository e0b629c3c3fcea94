"""The calls that users of the documents know, with nothing changed but the imports: orchestrator, chain, parallel, saga, tracker."""

import textwrap

import pytest

import reprise
from reprise import (
    AgentRegistry,
    AggregationStrategy,
    MessagePriority,
    ParallelExecutor,
    ParallelTask,
    Plan,
    Priority,
    Reprise,
    TaskPriority,
    WorkflowOrchestrator,
    WorkflowPriority,
    WorkflowStep,
    WorkflowTracker,
    step,
    workflow,
)


async def shown(text, **names):
    """Execute an example as it stands, in a program in which these names are known; return what it left behind."""
    body = f"async def example():\n{textwrap.indent(textwrap.dedent(text), '    ')}\n    return locals()"
    exec(compile(body, "<example>", "exec"), names)
    return await names["example"]()


class World:
    """Whoever does the steps: remembers what was asked, and answers as the examples expect."""

    def __init__(self):
        self.asked = []

    async def __call__(self, agent_type, task, context):
        self.asked.append((agent_type, task))
        return {"result": f"{agent_type} did [{task}]"}


@pytest.fixture(params=["in memory", "in a store"])
async def agent_executor(request, tmp_path):
    """Whoever does the steps, in a program that has no app, or one that has opened one over a file."""
    if request.param == "in memory":
        yield World()
        return
    async with Reprise(f"sqlite:///{tmp_path}/x.db", capture_logs=False):
        yield World()


# ---------------------------------------------------------------- the examples

ORCHESTRATOR = """
from reprise import WorkflowOrchestrator, WorkflowStep

# Create workflow
workflow = WorkflowOrchestrator(name="data_pipeline", max_concurrent=3)

# Define steps with dependencies
workflow.add_step(WorkflowStep(
    name="collect_data",
    agent_type="researcher",
    task="Collect data from multiple sources",
    dependencies=[]
))

workflow.add_step(WorkflowStep(
    name="validate_data",
    agent_type="coder",
    task="Validate and clean data",
    dependencies=["collect_data"]
))

# Execute workflow
result = await workflow.execute(agent_executor)
"""

CHAIN = """
from reprise import AgentChain

# Create chain with fluent interface
chain = AgentChain(name="review_pipeline", initial_input="Review authentication")

chain.then("researcher", transform=lambda x: f"Analyze: {x}") \\
     .then("coder", transform=lambda x: f"Implement: {x['result']}") \\
     .then("tester", transform=lambda x: f"Test: {x['result']}") \\
     .then("reviewer", transform=lambda x: f"Review: {x['result']}")

# Execute chain
result = await chain.execute(agent_executor)
"""

PARALLEL = """
from reprise import AggregationStrategy, ParallelExecutor, ParallelTask, TaskPriority

# Create executor
executor = ParallelExecutor(max_concurrent=5, strategy=AggregationStrategy.ALL)

# Add tasks with priorities
executor.create_task("researcher", "Research API patterns", priority=TaskPriority.HIGH)
executor.create_task("coder", "Implement endpoints", priority=TaskPriority.HIGH)
executor.create_task("tester", "Create tests", priority=TaskPriority.NORMAL)

# Execute all in parallel
result = await executor.execute(agent_executor)
"""

INTEGRATION = """
from reprise import WorkflowOrchestrator, WorkflowStep, ParallelExecutor

workflow = WorkflowOrchestrator(name="data_processing")

# Define workflow steps
workflow.add_step(WorkflowStep(
    name="fetch_from_cassandra",
    agent_type="researcher",
    task="Fetch data from Cassandra",
    dependencies=[]
))

workflow.add_step(WorkflowStep(
    name="store_in_dynamodb",
    agent_type="coder",
    task="Store processed data in DynamoDB",
    dependencies=["fetch_from_cassandra"]
))

workflow.add_step(WorkflowStep(
    name="create_graph",
    agent_type="coder",
    task="Create graph relationships in Neo4j",
    dependencies=["store_in_dynamodb"]
))

# Execute with state tracking
result = await workflow.execute(agent_executor)
await state_sync.set("last_workflow", result.workflow_id)
"""

SAGA = """
from reprise import SagaOrchestrator

saga = SagaOrchestrator(message_bus=message_bus)

await saga.define_saga(
    saga_id="customer_onboarding",
    steps=[
        {
            "step": "create_account",
            "service": "account_service",
            "compensation": "delete_account"
        },
        {
            "step": "setup_payment",
            "service": "payment_service",
            "compensation": "remove_payment_method"
        }
    ]
)

result = await saga.execute(saga_id="customer_onboarding", input_data=customer_data)
"""


async def test_the_orchestrator(agent_executor):
    result = (await shown(ORCHESTRATOR, agent_executor=agent_executor))["result"]
    assert agent_executor.asked == [
        ("researcher", "Collect data from multiple sources"),
        ("coder", "Validate and clean data"),
    ]
    assert (result.status, result.errors, result.context) == ("completed", {}, {})
    assert result.results["validate_data"] == {"result": "coder did [Validate and clean data]"}
    assert result.workflow_id == result.run_id == result.execution_id
    assert result.metrics.completed == 2
    assert result.raise_for_status() is result


async def test_the_chain(agent_executor):
    result = (await shown(CHAIN, agent_executor=agent_executor))["result"]
    assert [who for who, _ in agent_executor.asked] == ["researcher", "coder", "tester", "reviewer"]
    assert agent_executor.asked[0][1] == "Analyze: Review authentication"
    assert agent_executor.asked[1][1] == "Implement: researcher did [Analyze: Review authentication]"
    assert (result.status, result.errors, len(result.steps)) == ("completed", {}, 4)
    assert result.output["result"].startswith("reviewer did [Review: tester did [Test: coder did [")


async def test_the_parallel_executor(agent_executor):
    result = (await shown(PARALLEL, agent_executor=agent_executor))["result"]
    assert {who for who, _ in agent_executor.asked} == {"researcher", "coder", "tester"}
    assert (result.status, result.errors, len(result.results)) == ("completed", {}, 3)
    assert result.value[1] == {"result": "coder did [Implement endpoints]"}


async def test_the_workflow_of_the_whole_example(agent_executor):
    class StateSync:
        kept = {}  # noqa: RUF012

        async def set(self, key, value):
            self.kept[key] = value

    left = await shown(INTEGRATION, agent_executor=agent_executor, state_sync=StateSync())
    assert [who for who, _ in agent_executor.asked] == ["researcher", "coder", "coder"]
    assert StateSync.kept == {"last_workflow": left["result"].run_id}


class Bus:
    """A message bus of which payments may be down."""

    def __init__(self, *, down=False):
        self.down = down
        self.requests = []

    async def request(self, service, action, payload, timeout, idempotency_key):
        if action == "ping":
            return None
        assert timeout > 0
        assert idempotency_key
        self.requests.append((service, action, payload["input"]))
        if self.down and action == "setup_payment":
            raise ValueError("no such card")
        return {"done": action}


@pytest.mark.parametrize("down", [False, True])
async def test_the_saga(agent_executor, down):
    bus = Bus(down=down)
    result = (await shown(SAGA, message_bus=bus, customer_data={"name": "Ada"}))["result"]
    forward = [
        ("account_service", "create_account", {"name": "Ada"}),
        ("payment_service", "setup_payment", {"name": "Ada"}),
    ]
    requests = [one for one in bus.requests if one[1] not in ("remove_payment_method", "delete_account")]
    assert requests == forward
    assert result.saga_id == "customer_onboarding"
    assert result.run_id
    if down:
        assert (result.status, result.failed_step) == ("failed", "setup_payment")
        assert result.compensated[-1] == "create_account"
        assert bus.requests[-1] == ("account_service", "delete_account", {"name": "Ada"})
    else:
        assert (result.status, result.failed_step, result.compensated) == ("completed", None, [])
        assert result.results["setup_payment"] == {"done": "setup_payment"}


# ---------------------------------------------------------------- what the documents say without an example


async def two(agent_type, task):
    return f"{agent_type}: {task}"


def plain(agent_type, task, context):
    return f"{agent_type}: {task}"


@pytest.mark.parametrize("who", [two, plain, AgentRegistry({"coder": lambda task: f"coder: {task}"})])
async def test_who_does_the_steps_may_be_any_of_these(who):
    orchestrator = WorkflowOrchestrator(name="one")
    orchestrator.add_step(WorkflowStep(name="a", agent_type="coder", task="x"))
    parallel = ParallelExecutor(strategy=AggregationStrategy.THRESHOLD, threshold=1)
    id = parallel.add_task(
        ParallelTask(agent_type="coder", task="x", priority="critical", timeout=5, max_retries=1)
    )
    chain = reprise.AgentChain(initial_input="x").then("coder", validate=lambda answer: answer == "coder: x")
    assert (await orchestrator.execute(who)).results == {"a": "coder: x"}
    assert (await parallel.execute(who)).results == {id: "coder: x"}
    assert (await chain.execute(who)).output == "coder: x"


async def test_a_step_takes_the_words_of_the_documents():
    assert TaskPriority is MessagePriority is WorkflowPriority is Priority
    orchestrator = WorkflowOrchestrator(name="words", max_concurrent=2)
    orchestrator.add_step(
        WorkflowStep(
            name="a",
            agent_type="coder",
            task="x",
            dependencies=[],
            condition=lambda context: context["step"] == "a",
            max_retries=2,
            timeout=60,
            priority="critical",
            on_error="skip",
        )
    )
    assert (await orchestrator.execute(two)).results == {"a": "coder: x"}


async def test_a_definition_of_a_service_is_done():
    definition = {
        "workflow_id": "analysis",
        "name": "Analysis",
        "description": "Analyse and show",
        "tasks": [
            {"task_id": "analyze", "agent_name": "core_analyzer", "tool_name": "analyze_full", "parameters": {"path": "/d"}},
            {
                "task_id": "show", "agent_name": "visualizer", "tool_name": "visualize", "parameters": {"of": "${steps.analyze.result}"},
                "dependencies": ["analyze"], "timeout": 30, "retries": 1,
            },
        ],
    }  # fmt: skip
    asked = []

    async def agents(agent_type, task, context):
        asked.append((agent_type, context["tool"], task))
        return context["tool"]

    result = await WorkflowOrchestrator.of(Plan.from_dict(definition)).execute(agents)
    assert (result.name, result.status) == ("analysis", "completed")
    assert asked == [
        ("core_analyzer", "analyze_full", {"path": "/d"}),
        ("visualizer", "visualize", {"of": "analyze_full"}),
    ]


@step
async def count(n: int) -> int:
    return n + 1


@workflow
async def twice(n: int) -> int:
    return await count(await count(n))


async def test_the_tracker():
    async with Reprise("memory://", capture_logs=False) as app:
        run = (await app.start(twice, 1)).id
        assert await app.handle(run).result() == 3
        tracker = WorkflowTracker(app)
        history = await tracker.history(run)
        assert isinstance(history, tuple), "nobody can change it"
        assert (await tracker.state(run, at=history[0].version)).status == "pending"
        assert (await tracker.state(run)).status == "completed"
        await tracker.checkpoint("half", run, at=next(one.version for one in history if one.key))
        again = await tracker.rollback("half", run)
        assert (await again.result(), again.id != run) == (3, True)


QUEUE = """
from reprise import TaskQueue, Task, TaskPriority

# Create queue
queue = TaskQueue(redis_client, "processing_queue")

# Enqueue tasks
task = Task(
    task_id="task_123",
    task_type="data_processing",
    payload={"data": "..."},
    priority=TaskPriority.HIGH,
    max_retries=3
)
await queue.enqueue(task)

# Dequeue and process
task = await queue.dequeue(timeout=30)
if task:
    try:
        result = await process_task(task)
        await queue.complete_task(task.task_id, result)
    except Exception as e:
        await queue.fail_task(task.task_id, str(e), retry=True)

# Get statistics
stats = await queue.get_queue_stats()
"""


@pytest.mark.parametrize("works", [True, False])
async def test_the_task_queue(works, tmp_path):
    """``redis_client`` may be anything that keeps queues."""

    async def process_task(task):
        assert (task.task_type, task.payload, task.priority) == (
            "data_processing",
            {"data": "..."},
            Priority.HIGH,
        )
        if not works:
            raise RuntimeError("no")
        return {"processed": True}

    async with Reprise(f"sqlite:///{tmp_path}/x.db", capture_logs=False) as app:
        left = await shown(QUEUE, redis_client=app, process_task=process_task)
        stats = left["stats"]
        assert (
            stats.pending,
            stats.scheduled,
            stats.processing,
            stats.completed,
            stats.failed,
            stats.dead,
        ) == ((0, 0, 0, 1, 0, 0) if works else (0, 1, 0, 0, 1, 0))
        assert stats.__struct_fields__ == (
            "pending", "scheduled", "processing", "completed", "failed", "dead", "oldest_age_seconds", "by_priority",
            "paused", "workers",
        )  # fmt: skip
        if works:
            assert await left["queue"].result("task_123") == {"processed": True}
