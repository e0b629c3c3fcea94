"""``reprise ps``, ``show``, ``events``, ``logs``: what was run can be looked at."""

import json
import signal
import subprocess
import sys

import pytest
from tests.story.conftest import Shell

from reprise.cli import why
from reprise.cli.main import TABLE, Section

FLOW = """
import asyncio, logging
from reprise import continue_as, step, workflow

@step
async def speak(word: str) -> str:
    logging.getLogger("voice").info("said \\x1b[31m%s", word)
    return word * 300

@workflow
async def talk(words: list[str]) -> list[str]:
    return list(await asyncio.gather(*(speak(word) for word in words)))

@workflow
async def rounds(n: int = 0) -> int:
    await speak("x")
    return n if n == 2 else continue_as(n + 1)

@workflow
async def quiet() -> None:
    pass
"""


@pytest.fixture(scope="module")
def talked(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("talked"))
    (shell.folder / "talk.py").write_text(FLOW)
    assert (
        shell(
            "run", "talk.py:talk", "-i", f"words={json.dumps(list('abcdefghij'))}", "--id", "talk-1"
        ).returncode
        == 0
    )
    assert shell("run", "flow.py:parent", "--id", "par").returncode == 0
    yield shell
    shell.stop()


def test_runs_are_listed_for_people_and_for_programs(talked):
    table = talked.inside("ps").stdout.splitlines()
    assert table[0].split() == ["ID", "WORKFLOW", "STATUS", "STARTED", "TOOK", "NOTE"]
    assert [line.split()[:4] for line in table[1:]] == [
        ["par", "parent", "✓", "completed"],
        ["talk-1", "talk", "✓", "completed"],
    ]
    lines = [json.loads(line) for line in talked.inside("ps", "-o", "jsonl").stdout.splitlines()]
    assert [(row["id"], row["parent"], row["tags"]["reprise.file"]) for row in lines] == [
        ("par", None, "flow.py"),
        ("talk-1", None, "talk.py"),
    ]
    assert [row["id"] for row in json.loads(talked.inside("ps", "--all", "-o", "json").stdout)] == [
        "par:1.squares",
        "par",
        "talk-1",
    ]
    assert [row["id"] for row in json.loads(talked.inside("ps", "workflow:talk", "-o", "json").stdout)] == [
        "talk-1"
    ]
    assert json.loads(talked.inside("ps", "status:failed", "-o", "json").stdout) == []
    assert len(json.loads(talked.inside("ps", "-n", "1", "-o", "json").stdout)) == 1


def test_a_run_is_found_by_the_start_of_its_id_and_by_last(talked):
    for name in ("ta", "talk-1"):
        assert talked.inside("show", name).stdout.startswith("talk  talk-1  ✓ completed")
    assert talked.inside("show", "@last").stdout.startswith("parent  par  ✓ completed")
    missing = talked.inside("show", "tb")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "hint: List them: reprise ps" in missing.stderr


def test_one_run_is_shown_with_steps_children_and_what_to_do_next(talked):
    shown = talked.inside("show", "par")
    assert "par:1.squares" in shown.stdout
    assert "attempts" in shown.stdout.lower()
    assert ["shaky", "done"] in [line.split()[:2] for line in shown.stdout.splitlines()]
    assert "reprise events par" in shown.stderr
    folded = talked.inside("show", "talk-1").stdout
    assert "speak ×10  10 ended" in folded
    assert "-o json" in folded, "a long result is cut for people only"
    assert talked.inside("show", "talk-1", "--steps").stdout.count("speak") == 10
    fact = json.loads(talked.inside("show", "talk-1", "-o", "json").stdout)
    assert [len(word) for word in fact["result"]] == [300] * 10
    assert {step["state"] for step in fact["steps"]} == {"done"}
    assert (fact["status"], fact["input"], fact["children"]) == (
        "completed",
        [[], {"words": list("abcdefghij")}],
        [],
    )


def test_history_is_printed_whole(talked):
    lines = [
        json.loads(line) for line in talked.inside("events", "talk-1", "-o", "jsonl").stdout.splitlines()
    ]
    assert [line["version"] for line in lines] == list(range(1, len(lines) + 1))
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("run_started", "run_finished")
    assert [line["kind"] for line in lines].count("step_completed") == 10
    table = talked.inside("events", "talk-1", "-f").stdout.splitlines()
    assert len(table) == len(lines)
    assert "a" * 300 in "\n".join(table), "nothing is cut when nobody looks"
    assert len(json.loads(talked.inside("events", "talk-1", "-o", "json").stdout)) == len(lines)


def test_of_a_run_that_continues_the_latest_generation_is_shown(shell):
    (shell.folder / "talk.py").write_text(FLOW)
    assert shell("run", "talk.py:rounds", "--id", "rounds-1").stdout == "2\n"
    (row,) = [json.loads(line) for line in shell.inside("ps", "-o", "jsonl").stdout.splitlines()]
    assert (row["id"], row["generation"], row["status"]) == ("rounds-1", 2, "completed")
    assert "generation 2" in shell.inside("ps").stdout
    fact = json.loads(shell.inside("show", "rounds-1", "-o", "json").stdout)
    assert (fact["input"], len(fact["steps"]), fact["result"], fact["events"]) == ([[2], {}], 1, 2, 3)
    assert fact["started_at"] < fact["continued_at"]
    assert "as generation 2 since" in shell.inside("show", "rounds-1").stdout
    lines = [
        json.loads(line) for line in shell.inside("events", "rounds-1", "-o", "jsonl").stdout.splitlines()
    ]
    assert [line["kind"] for line in lines].count("run_continued") == 2
    assert lines[0]["kind"] == "run_started"
    assert "run_continued" in shell.inside("events", "rounds-1").stdout


def test_history_is_followed_while_it_grows(shell):
    running = shell.start("run", "flow.py:asks", "--id", "slow")
    running.wait_for("asks running")
    following = shell.start("events", "slow", "-f")
    following.wait_for("run_owned")
    shell("signal", "slow", "name", "Ada")
    following.wait_for("signal_received")
    following.wait_for("run_finished")
    assert (following.ended(), running.ended()) == (0, 0)


def test_logs_of_steps_are_kept_without_what_could_drive_a_terminal(talked):
    table = talked.inside("logs", "talk-1").stdout.splitlines()
    assert sorted(line.split()[-1] for line in table) == list("abcdefghij")
    assert "\x1b" not in "".join(table)
    first = json.loads(talked.inside("logs", "talk-1", "-o", "jsonl").stdout.splitlines()[0])
    assert (first["level"], first["logger"], first["step"]) == ("INFO", "voice", "speak")


def test_help_teaches(shell):
    alone = shell.inside()
    assert alone.returncode == 0
    for command in ("reprise run flow.py", "reprise ps", "reprise show @last"):
        assert command in alone.stdout
    for name, row in TABLE.items():
        commands = [f"{name} {inner}" for inner in row.rows] if isinstance(row, Section) else [name]
        for command in commands:
            text = shell.inside(*command.split(), "--help")
            said = " ".join(text.stdout.partition("╭")[0].partition("Usage")[2][20:].split())
            example = f"reprise {command.removesuffix(' show') if row is TABLE['events'] else command}"
            assert (text.returncode, example in said) == (0, True), command
    assert shell.inside("--version").stdout == shell("version").stdout


LIMITED = """
from pathlib import Path
import time
from reprise import Limit, step, workflow

@step(timeout=None)
def held(n: int) -> int:
    while not Path("gate").exists():
        time.sleep(0.01)
    return n

@workflow(limits=[Limit(1, per="tenant"), Limit(rate=(2, 3600), name="hourly")])
async def job(n: int) -> int:
    return await held(n)
"""


def test_why_a_pending_run_does_not_begin_is_said(shell):
    (shell.folder / "jobs.py").write_text(LIMITED)
    program = (
        "import asyncio, sys; from jobs import job; from reprise import Reprise\n"
        "async def main():\n"
        "  async with Reprise('sqlite:///.reprise/reprise.db', worker=False) as app:\n"
        "    for id in sys.argv[1:]:\n"
        "      await app.start(job, int(id[2:]), id=id, tags={'tenant': id[0]})\n"
        "asyncio.run(main())\n"
    )
    (shell.folder / "start.py").write_text(program)
    (shell.folder / ".reprise").mkdir(exist_ok=True)

    def start(*ids):
        command = [sys.executable, "start.py", *ids]
        subprocess.run(command, cwd=shell.folder, env=shell.environment, check=True)

    start("a-0", "a-1", "b-2")
    row = json.loads(shell.inside("ps", "id:a-1", "-o", "json").stdout)[0]
    assert (row["waits"], row["in_line"]) == ("", True), "nobody is late yet"
    worker = shell.start("worker", "jobs.py", "--build", "v1", "--accepts", "v0")
    worker.heard("took a-0")
    worker.heard("took b-2")
    start("c-3")  # of several lines at once, nobody says whose first one has the last part of a rate
    notes = {row["id"]: row["waits"] for row in json.loads(shell.inside("ps", "-o", "json").stdout)}
    assert notes["a-0"] == notes["b-2"] == ""
    assert "waits for a place of job.tenant=a: 1 of 1 are taken" in notes["a-1"]
    assert "waits for the rate of hourly: 2 began in 1h" in notes["c-3"]
    shown = shell.inside("show", "a-1").stdout
    assert "not yet  waits for a place of job.tenant=a" in shown
    assert "limits   job.tenant=a (1 at once), hourly (2 in 3600 s)" in shown
    (shell.folder / "gate").touch()
    worker.wait_for("completed a-0")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def test_that_no_worker_takes_a_run_is_said(shell, monkeypatch):
    monkeypatch.setattr(why, "OVERDUE", 0)
    (shell.folder / "jobs.py").write_text(LIMITED)
    assert shell("run", "flow.py:squares", "--detach", "--id", "alone").returncode == 0
    assert "no worker has taken it for" in shell.inside("show", "alone").stdout
