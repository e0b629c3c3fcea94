"""``reprise plan``: definitions checked, drawn and run from a shell."""

import json
import signal

import pytest

GOOD = "name: p\nsteps:\n  - {name: a, agent: r}\n  - {name: b, agent: r, depends_on: a}\n"
BAD = "name: q\nsteps:\n  - {name: a, agnt: r}\n  - {name: b, agent: r, depends_on: c}\n"


def test_plans_are_checked(shell):
    (shell.folder / "good.yaml").write_text(GOOD)
    (shell.folder / "bad.yaml").write_text(BAD)
    fine = shell("plan", "check", "good.yaml")
    assert fine.returncode == 0
    assert fine.stdout.splitlines()[1].split() == ["good.yaml", "p", "2", "2", "a", "→", "b"]
    both = shell("plan", "check", "bad.yaml", "good.yaml", "-o", "json")
    assert both.returncode == 1
    assert [each["file"] for each in json.loads(both.stdout)] == ["good.yaml"]
    assert both.stderr.splitlines() == [
        "error: Plan 'q' has 2 faults.",
        "  bad.yaml:3:15: step 'a': agnt: there is no field 'agnt'. Did you mean 'agent'?",
        "  bad.yaml:4:25: step 'b': dependencies[0]: there is no step 'c'.",
    ]


def test_a_plan_is_drawn_and_a_bad_one_says_why_not(shell):
    (shell.folder / "good.yaml").write_text(GOOD)
    (shell.folder / "bad.yaml").write_text(BAD)
    assert shell("plan", "draw", "good.yaml").stdout.splitlines()[0] == "flowchart TD"
    refused = shell("plan", "draw", "bad.yaml")
    assert refused.returncode == 2
    assert "  bad.yaml:3:15: step 'a': agnt: there is no field 'agnt'." in refused.stderr
    assert shell("plan", "check", "gone.yaml").returncode == 2


# ---------------------------------------------------------------- run

STAIR = """
name: stair
inputs: {topic: string, depth: {type: integer, default: 2}}
steps:
  - {name: collect, agent: researcher, task: "${inputs.topic} ${inputs.depth + 1}"}
  - {name: hold, agent: holder, task: "${steps.collect.result}", depends_on: collect}
  - {name: write, agent: writer, task: "${steps.hold.result}", depends_on: hold}
output: ${steps.write.result}
"""
AGENTS = """
import time
from pathlib import Path
from reprise import workflow

def mark(text):
    with Path("marks").open("a") as file:
        file.write(text + "\\n")

async def researcher(task, context):
    mark(f"research {task}")
    return task.upper()

def holder(task):
    mark(f"held {task}")
    print("held", flush=True)
    while not Path("gate").exists():
        time.sleep(0.01)
    return task

def writer(task):
    if task.startswith("BAD"):
        raise ValueError("not that one")
    mark(f"write {task}")
    return f"About {task}"

@workflow
async def twice(n: int) -> int:
    return 2 * n
"""


@pytest.fixture
def plans(shell):
    """A folder with a plan and its agents."""
    (shell.folder / "stair.yaml").write_text(STAIR)
    (shell.folder / "agents.py").write_text(AGENTS)
    return shell


def run(shell, *arguments, file="stair.yaml", agents="agents.py"):
    return shell("plan", "run", file, *(["--agents", agents] if agents else []), *arguments)


def test_a_plan_is_run_and_its_output_is_the_only_thing_on_stdout(plans):
    plans.open_gate()
    done = run(plans, "-i", "topic=12", "--id", "s")
    assert (done.returncode, done.stdout) == (0, '"About 12 3"\n'), done.stderr
    assert [line for line in done.stderr.splitlines() if "collect  done" in line]
    assert "reprise show s" in done.stderr
    again = run(plans, "-i", '{"topic": "12"}', "--id", "s")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert plans.marks() == ["research 12 3", "held 12 3", "write 12 3"]
    other = run(plans, "-i", "topic=other", "--id", "s", "--again", "-i", "depth=5")
    assert other.stdout == '"About OTHER 6"\n'
    assert "reprise show s-2" in other.stderr
    failed = run(plans, "-i", "topic=bad", "--id", "f")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Plan stair failed at step write: ValueError: not that one" in failed.stderr


@pytest.mark.parametrize(
    "again", [["plan", "run", "stair.yaml", "--agents", "agents.py", "--id", "k"], ["resume", "k"]]
)
def test_a_plan_that_is_killed_goes_on_with_the_steps_it_was_started_with(plans, again):
    running = plans.start("plan", "run", "stair.yaml", "-i", "topic=a", "--agents", "agents.py", "--id", "k")
    running.wait_for("held")
    running.signal(signal.SIGKILL)
    assert running.ended() == -signal.SIGKILL
    # What was started is what is done, whatever the file says by now.
    (plans.folder / "stair.yaml").write_text(STAIR.replace("agent: writer", "agent: researcher"))
    plans.open_gate()
    done = plans(*again)
    assert (done.returncode, done.stdout) == (0, '"About A 3"\n'), done.stderr
    assert plans.marks() == ["research a 3", "held A 3", "held A 3", "write A 3"]


def test_a_plan_is_left_to_a_worker_which_takes_up_what_was_killed(plans):
    detached = run(plans, "-i", "topic=a", "--detach", "--id", "w")
    assert (detached.returncode, detached.stdout) == (0, "w\n")
    command = "reprise worker stair.yaml --agents agents.py"
    assert command in detached.stderr
    for _ in range(2):
        worker = plans.start(*command.split()[1:])
        worker.wait_for("held")
        worker.signal(signal.SIGKILL)
        worker.ended()
    plans.open_gate()
    worker = plans.start(*command.split()[1:])
    worker.wait_for("completed w  stair")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert plans.marks() == ["research a 3", *["held A 3"] * 3, "write A 3"]


PARENT = """
name: parent
steps:
  - {name: double, workflow: twice, parameters: {n: 4}}
  - {name: below, workflow: child, parameters: {who: x}, depends_on: double}
  - {name: write, agent: writer, task: "${steps.double.result} ${steps.below.result}", depends_on: [double, below]}
"""
CHILD = "name: child\ninputs: {who: string}\nsteps: [{name: say, agent: writer, task: '${inputs.who}'}]\n"


def test_steps_that_are_workflows_are_found_beside_the_plan_and_with_the_agents(plans):
    (plans.folder / "parent.yaml").write_text(PARENT)
    missing = run(plans, file="parent.yaml")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "error: Plan 'parent': no workflow 'child' is known here." in missing.stderr
    assert "hint: Put it beside the plan as child.yaml" in missing.stderr
    (plans.folder / "child.yaml").write_text(CHILD)
    done = run(plans, "--id", "p", file="parent.yaml")
    assert json.loads(done.stdout) == {"write": 'About 8 {"say":"About x"}'}, done.stderr
    assert [row["id"] for row in json.loads(plans.inside("ps", "parent:p", "-o", "json").stdout)] == [
        "p:below",
        "p:double",
    ]
    assert plans("check", "parent.yaml").returncode == 0
    assert plans("replay", "p").returncode == 0


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (
            "",
            "error: Plan 'stair': No agent 'researcher' is known here.\nhint: Say who does it: --agents FILE.py",
        ),
        ("few.py", "error: Plan 'stair': No agent 'holder' is known here.\nhint: Did you mean 'holdr'?"),
        ("few.py:agent", "error: few.py has no agents 'agent'.\nhint: Did you mean 'agents'?"),
        ("few.py:NUMBER", "error: few.py:NUMBER says nobody who does a step.\nhint: Give a function of"),
        ("gone.py", "error: There is no file 'gone.py' in "),
        ("few.py:thrice", "thrice takes (a, b, c, d)"),
    ],
)
def test_who_is_not_known_is_said_before_anything_starts(plans, agents, said):
    few = "def thrice(a, b, c, d): ...\nagents = {'researcher': print, 'holdr': print, 'writer': print}\nNUMBER = 3\n"
    (plans.folder / "few.py").write_text(few)
    refused = run(plans, "-i", "topic=a", agents=agents)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert not (plans.folder / ".reprise").exists()


def test_who_does_the_steps_may_be_named(plans):
    plans.open_gate()
    (plans.folder / "others.py").write_text(
        "from reprise import Reprise\n"
        "agents = {name: lambda task: name for name in ('researcher', 'holder', 'writer')}\n"
        "app = Reprise(agents={name: lambda task: 'app' for name in agents})\n"
        "def everybody(agent_type, task, context): return f'{agent_type}: {task}'\n"
    )
    given = {
        name: run(plans, "-i", "topic=a", agents=name).stdout
        for name in ("others.py:everybody", "others", "others:app")
    }
    assert list(given.values()) == ['"writer: holder: researcher: a 3"\n', '"writer"\n', '"app"\n']


def test_what_a_plan_does_not_say_the_settings_do_with_which_it_started(plans):
    (plans.folder / "shaky.py").write_text(
        "import itertools\ncount = itertools.count()\n"
        "def shaky(task):\n    next(count)\n    raise ConnectionError(f'call {next(count) // 2}')\n"
    )
    (plans.folder / "shaky.yaml").write_text("name: shaky\nsteps: [{name: a, agent: shaky}]\n")
    (plans.folder / "reprise.toml").write_text("[workflows]\nretry_count = 1\n")
    done = run(plans, "--id", "s", file="shaky.yaml", agents="shaky.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed at step a: ConnectionError: call 1" in done.stderr, "0 and 1: two calls"
    assert '"defaults":{"max_concurrent":10,"default_timeout":300.0,"retry_count":1}' in plans.inside(
        "events", "s", "-o", "jsonl"
    ).stdout.replace(" ", "")
    once = plans("plan", "run", "shaky.yaml", "--agents", "shaky.py", REPRISE_WORKFLOWS__RETRY_COUNT="0")
    assert "failed at step a: ConnectionError: call 0" in once.stderr


def test_a_plan_and_a_workflow_have_their_own_commands(plans):
    for arguments, hint in (
        (["run", "stair.yaml"], "hint: Run it with: reprise plan run stair.yaml --agents FILE.py"),
        (["plan", "run", "flow.py"], "hint: A workflow in Python: reprise run flow.py"),
        (["plan", "run", "stair.yaml", "--agents", "agents.py"], "hint: It takes topic, depth."),
        (
            ["plan", "run", "stair.yaml", "--agents", "agents.py", "-i", "[1]"],
            "hint: A plan has its inputs by name",
        ),
        (["plan", "run", "stair.yaml", "--agents", "agents.py", "-i", "topic=a", "-i", "depth=x"], "depth: "),
    ):
        refused = plans(*arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert hint in refused.stderr
