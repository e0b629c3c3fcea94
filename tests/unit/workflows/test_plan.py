"""Plans: what is made of them, what is wrong with them, and their way to data and back."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from reprise import CodecError, ConfigurationError, MissingExtra, PlanInvalid, Priority, Retry
from reprise.kernel.schema import misfits
from reprise.workflows import documents
from reprise.workflows.definitions import plan_schema
from reprise.workflows.files import load_plan, parse_plan
from reprise.workflows.graph import Graph
from reprise.workflows.plan import Plan, PlanStep, WorkflowStep

BAD = [
    (head.strip(), text, said.strip())
    for part in (Path(__file__).parent / "bad_definitions.txt").read_text().split("=== ")[1:]
    for head, _, rest in [part.partition("\n")]
    for text, _, said in [rest.partition("--->\n")]
]


@pytest.mark.parametrize(("text", "said"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
def test_a_bad_definition_says_all_that_is_wrong_and_where(text, said):
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(text.rstrip("\n"), "p.yaml")
    assert str(caught.value) == said


def test_there_are_enough_bad_definitions():
    assert len(BAD) >= 40


FULL = Plan(
    name="full",
    description="every field",
    version="3",
    max_concurrent=4,
    timeout=timedelta(hours=1),
    inputs={"topics": {"type": "array"}, "depth": {"type": "integer", "default": 2}},
    output={"text": "${steps.write.result}", "all": ["${size(inputs.topics)} topics"]},
    steps=[
        PlanStep(
            name="look up",
            agent_type="researcher",
            tool="search",
            task="About ${item}, number ${index}",
            parameters={"depth": "${inputs.depth}", "list": [1, {"a": None}]},
            for_each="inputs.topics",
            concurrency=3,
            collect=False,
            retry=Retry(4, backoff=1.5, jitter="none"),
            timeout=60,
            priority="critical",
            on_error="fallback",
            fallback="ask",
            resources={"gpu": 0.5},
            reads=["notes"],
            writes=["found"],
            cache="1h",
        ),
        PlanStep(name="ask", ask={"title": "What is known?", "schema": {"type": "object"}}, timeout=3600),
        PlanStep(name="rest", sleep="1m30s", dependencies=["look up"]),
        PlanStep(name="way", switch=[{"when": "inputs.depth > 1", "then": ("deep",)}, {"else": "wait"}]),
        PlanStep(name="deep", workflow="dig", parameters={"n": 1}, dependencies=["rest"], irreversible=True),
        PlanStep(name="wait", wait_for="go", condition="inputs.depth == 1"),
        PlanStep(
            name="write",
            tool="writer",
            dependencies=["deep", "wait"],
            compensation={"tool": "eraser", "parameters": {"what": "${steps.write.result}"}},
        ),
        PlanStep(name="list", agent_type="a", for_each=["x", "y"], task="${item}", max_retries=0),
    ],
)


def test_a_plan_as_data_is_the_same_plan():
    data = json.loads(json.dumps(FULL.to_dict()))
    again = Plan.from_dict(data)
    assert again == FULL
    assert again.to_dict() == data
    assert load_plan(json.dumps(data)) == FULL
    assert load_plan(json.dumps(data, indent=1)) == FULL


def test_what_is_as_by_default_is_not_written():
    plan = Plan(name="p", steps=[PlanStep(name="a", agent_type="r")])
    assert plan.to_dict() == {"name": "p", "steps": [{"name": "a", "agent_type": "r"}]}


def test_the_published_schema_takes_what_is_written_and_says_where_it_does_not():
    assert misfits(FULL.to_dict(), plan_schema()) == []
    assert misfits({"name": "p", "steps": [{"nam": "a"}]}, plan_schema())


def test_what_data_cannot_hold_is_named_by_step():
    plan = Plan(
        name="p",
        steps=[
            PlanStep(name="a", function=len, parameters={"obj": [1, 2]}),
            PlanStep(name="b", agent_type="r", condition=lambda context: True, task={"when": {1, 2}}),
            PlanStep(name="c", agent_type="r", retry=Retry(3, retry_on=ValueError)),
        ],
    )
    with pytest.raises(CodecError) as caught:
        plan.to_dict()
    said = str(caught.value)
    assert "step 'a': function is a function; step 'b': task.when: a set needs a declared type" in said
    assert "step 'b': condition is a function; step 'c': retry names classes or functions." in said


def test_the_words_of_services_are_understood():
    plan = Plan.from_dict(
        {
            "workflow_id": "race",
            "name": "A race",
            "description": "d",
            "tasks": [
                {
                    "task_id": "analyze",
                    "agent_name": "core_analyzer",
                    "tool_name": "analyze",
                    "parameters": {"n": 1},
                },
                {
                    "step": "see",
                    "service": "visualizer",
                    "dependencies": ["analyze"],
                    "timeout": "90s",
                    "retries": 2,
                },
                {"name": "tell", "agent": "publicist", "depends_on": "see", "priority": "HIGH"},
            ],
        }
    )
    assert (plan.name, plan.description) == ("race", "A race: d")
    analyze, see, tell = plan.steps
    assert (analyze.name, analyze.agent_type, analyze.tool) == ("analyze", "core_analyzer", "analyze")
    assert (see.timeout, see.retry, see.dependencies) == (90, Retry(3), ("analyze",))
    assert (tell.priority, tell.dependencies) == (Priority.HIGH, ("see",))


def test_a_workflow_step_takes_what_people_write():
    step = WorkflowStep(
        name="validate",
        agent_type="coder",
        task="Validate",
        dependencies=["collect"],
        max_retries=2,
        timeout=timedelta(minutes=1),
        priority="critical",
    )
    assert step == PlanStep(
        name="validate",
        agent_type="coder",
        task="Validate",
        dependencies=("collect",),
        retry=Retry(3),
        timeout=60.0,
        priority=Priority.CRITICAL,
    )
    assert [PlanStep(name="a", retries=0).retry, PlanStep(name="a", retry_count=4).retry] == [
        Retry(1),
        Retry(5),
    ]


def test_faults_of_a_plan_made_in_python_are_said_at_once():
    with pytest.raises(PlanInvalid) as caught:
        Plan(
            name="",
            steps=[
                PlanStep(name="a", agent_type="r", priority="urgnt", retry=Retry(2), max_retries=1),
                PlanStep(name="b", agent_type="r", dependencies=["c"], on_error="skp", sleep=0),
                PlanStep(name="d", function="len", timeout="soon", for_each=["${item}"]),
            ],
        )
    assert str(caught.value).splitlines() == [
        "A plan has 9 faults.",
        "  name: a plan needs a name.",
        "  step 'a': priority: there is no 'urgnt'. It is one of background, low, normal, high, critical.",
        "  step 'a': retry: retry and max_retries both say how often it is tried. Keep one of them.",
        "  step 'b': sleep: agent_type and sleep both say who does it. Keep one; for the rest add steps.",
        "  step 'b': on_error: there is no 'skp'. Did you mean 'skip'?",
        "  step 'b': dependencies[0]: there is no step 'c'.",
        "  step 'd': function: 'len' cannot be called.",
        "  step 'd': timeout: 'soon' is no number of seconds above 0.",
        "  step 'd': for_each[0], column 3: item is not known in for_each, which is asked once for all.",
    ]
    assert len(caught.value.faults) == 9


def test_a_message_ends():
    with pytest.raises(PlanInvalid) as caught:
        Plan(name="p", steps=[PlanStep(name=f"s{n}") for n in range(5_000)])
    assert "Plan 'p' has 5,000 faults." in str(caught.value)
    assert str(caught.value).endswith("… and 4,900 more")
    assert len(str(caught.value).splitlines()) == 102


def test_a_condition_may_choose_among_branches_that_exclude_each_other():
    steps = [
        PlanStep(name="s", switch=[{"when": "inputs.n > 1", "then": ["a"]}, {"else": ["b"]}]),
        PlanStep(name="a", agent_type="r"),
        PlanStep(name="b", agent_type="r"),
        PlanStep(
            name="c",
            agent_type="r",
            dependencies=["a", "b"],
            task="${steps.a.status == 'completed' ? steps.a.result : steps.b.result}",
        ),
    ]
    assert Plan(name="p", steps=steps).levels() == [["s"], ["a", "b"], ["c"]]


def test_what_stands_in_comes_before_what_waits():
    plan = Plan(
        name="p",
        steps=[
            PlanStep(name="b", agent_type="r", dependencies=["a"]),
            PlanStep(name="a", agent_type="r", on_error="fallback", fallback="f"),
            PlanStep(name="f", agent_type="r"),
        ],
    )
    assert plan.levels() == [["a"], ["f"], ["b"]]


def stood_in(name, *dependencies, by="spare"):
    return PlanStep(name=name, agent_type="r", dependencies=dependencies, on_error="fallback", fallback=by)


def test_a_step_may_stand_in_for_another_and_for_one_below_it():
    """It is done for the first of them that fails; so what it needs must not wait for that one."""
    spare = PlanStep(name="spare", agent_type="r")
    plan = Plan(name="p", steps=[stood_in("a"), stood_in("b", "a"), stood_in("c", "b"), stood_in("z"), spare])
    assert plan.levels() == [["a", "z"], ["spare"], ["b"], ["c"]]
    with pytest.raises(PlanInvalid) as refused:
        Plan(
            name="p",
            steps=[
                stood_in("a"),
                stood_in("b", "a"),
                PlanStep(name="m", agent_type="r", dependencies=["a"]),
                PlanStep(name="spare", agent_type="r", dependencies=["m"]),
            ],
        )
    (fault,) = refused.value.faults
    assert fault.endswith("steps wait for each other: m → spare → m. Leave one of these out.")


def test_the_critical_path_is_the_longest():
    plan = Plan(
        name="p",
        steps=[
            PlanStep(name="a", agent_type="r"),
            PlanStep(name="b", agent_type="r", dependencies=["a"], timeout=60),
            PlanStep(name="c", sleep=30, dependencies=["a"]),
            PlanStep(name="d", agent_type="r", dependencies=["b", "c"]),
        ],
    )
    assert plan.critical_path() == ["a", "b", "d"]
    assert plan.critical_path({"b": 5}) == ["a", "c", "d"]


def test_inputs_are_bound():
    plan = Plan.from_dict(
        {
            "name": "p",
            "inputs": {"n": "integer", "who": {"type": "string", "default": "Ada"}},
            "steps": [{"name": "a", "agent": "r"}],
        }
    )
    assert plan.bind_inputs({"n": 1}) == {"n": 1, "who": "Ada"}
    with pytest.raises(ConfigurationError) as caught:
        plan.bind_inputs({"who": 3, "m": 1})
    said = str(caught.value)
    assert "n is missing" in said
    assert "who: 3 is no string" in said
    assert "there is no 'm'" in said
    assert Plan(name="p", steps=plan.steps).bind_inputs({"any": 1}) == {"any": 1}


def test_a_step_is_found_by_name():
    assert FULL.step("write").tool == "writer"
    with pytest.raises(ConfigurationError, match="Did you mean 'write'"):
        FULL.step("writ")


def test_a_picture():
    picture = FULL.to_mermaid()
    assert picture.startswith("flowchart TD\n")
    assert '    s0["look up<br/>researcher<br/>for each of inputs.topics"]\n' in picture
    assert "    s0 -. fails .-> s1\n" in picture
    assert '    s3 -- "inputs.depth #gt; 1" --> s4\n' in picture
    assert '    s3 -- "else" --> s5\n' in picture


def test_yaml_is_read_as_json_would_be():
    plan = load_plan(
        "name: p\nsteps:\n- name: on\n  agent: r\n  task: {a: yes, b: 2024-01-01, c: 1:30, d: 012, e: .5, f: ~, g: True}\n"
    )
    assert plan.steps[0].task == {
        "a": "yes", "b": "2024-01-01", "c": "1:30", "d": 12, "e": 0.5, "f": None, "g": True,
    }  # fmt: skip


def test_references_in_yaml_cannot_grow_without_bound(monkeypatch):
    monkeypatch.setattr(documents, "MOST_VALUES", 1000)
    lines = [
        "a0: &a0 [x, x, x, x]",
        *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 20)),
    ]
    with pytest.raises(PlanInvalid, match="more than 1,000 values"):
        parse_plan("\n".join(lines), "p")


def test_a_file_that_is_not_there_is_no_fault_of_the_plan(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_plan(tmp_path / "gone.yaml")


def test_without_yaml_json_still_works(monkeypatch):
    def gone():
        raise MissingExtra("x")

    monkeypatch.setattr(documents, "_yaml", gone)
    assert load_plan('{"name": "p", "steps": [{"name": "a", "agent": "r"}]}').name == "p"
    with pytest.raises(MissingExtra):
        load_plan("name: p\n")


# ---------------------------------------------------------------- graphs against a model


@st.composite
def graphs(draw):
    size = draw(st.integers(0, 8))
    return [sorted(draw(st.sets(st.integers(0, size - 1), max_size=3))) for _ in range(size)]


def reaches(before, node):
    """Return all that comes before a node, by walking."""
    seen, left = set(), list(before[node])
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            left += before[one]
    return seen


@given(graphs())
def test_a_graph_is_as_a_walk_finds_it(before):
    graph = Graph(before)
    above = [reaches(before, node) for node in range(len(before))]
    in_cycles = {node for node in range(len(before)) if node in above[node]}
    free = [node for node in range(len(before)) if not (above[node] | {node}) & in_cycles]
    assert sorted(graph.order) == free
    for node in free:
        assert {one for one in free if graph.comes_before(one, node)} == above[node]
        assert all(graph.order.index(one) < graph.order.index(node) for one in above[node])
    for cycle in graph.cycles():
        assert all(one in before[other] for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    assert bool(graph.cycles()) == bool(in_cycles)
    if not in_cycles:
        depth = {}
        for node in graph.order:
            depth[node] = max((depth[one] + 1 for one in before[node]), default=0)
        assert graph.levels() == [
            sorted(node for node in free if depth[node] == level)
            for level in range(max(depth.values(), default=-1) + 1)
        ]
        assert len(graph.critical_path([1] * len(before))) == len(graph.levels())
