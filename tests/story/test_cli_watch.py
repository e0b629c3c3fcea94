"""``reprise ps --watch`` and ``reprise logs -f``: what goes on is seen as it goes on, with a terminal and without."""

import json
import os
import pty
import re
import select
import signal
import subprocess

import pytest

from reprise.cli.board import Look, Rates, Window, board
from reprise.cli.output import table

FLOW = """
import logging
from reprise import step, wait_for_signal, workflow

log = logging.getLogger("voice")

@step
async def speak(word: str) -> str:
    log.info("said %s", word)
    if word == "ouch":
        log.warning("that hurt")
    return word

@workflow
async def inner(word: str) -> str:
    return await speak(word)

@workflow
async def talk(word: str) -> str:
    await speak(word)
    await inner(f"inner {word}")
    last = await wait_for_signal("last", str)
    return await speak(last)

@workflow
async def hum(word: str) -> str:
    return await speak(word)
"""


@pytest.fixture
def talking(shell):
    (shell.folder / "talk.py").write_text(FLOW)
    for name, word in (("t1", "one"), ("t2", "ouch")):
        assert shell("run", "talk.py:talk", "-i", f"word={word}", "--id", name, "-d").returncode == 0
    worker = shell.start("worker", "talk.py")
    worker.wait_for("ready")
    while json.loads(shell.inside("ps", "-c", "status", "-o", "json").stdout) != {"waiting": 2}:
        pass
    return shell


def texts(lines):
    return [line.split("  ")[-1] for line in lines]


def test_logs_of_many_runs_are_followed(talking):
    following = talking.start("logs", "-q", "workflow:talk", "-f")
    for text in ("t1  INFO     speak  said one", "t2  WARNING  speak  that hurt"):
        following.heard(text)
    warned = talking.start("logs", "-q", "workflow:talk,hum", "-f", "-n", "0", "-l", "warning", "-o", "jsonl")
    family = talking.start("logs", "t1", "--all", "-f")
    family.heard("t1:2.inner  INFO     speak  said inner one")
    talking.inside("signal", "t1", "last", "ouch")
    following.heard("t1  INFO     speak  said ouch")
    family.heard("t1  WARNING  speak  that hurt")
    assert family.ended() == 0, "it ends with its run"
    warning = json.loads(warned.wait_for("that hurt"))
    assert (warning["run"], warning["level"]) == ("t1", "WARNING")
    assert talking("run", "talk.py:hum", "-i", "word=ouch", "--id", "h", "-d").returncode == 0
    assert json.loads(warned.wait_for("that hurt"))["run"] == "h", "also of runs that begin meanwhile"
    for each in (following, warned):
        each.signal(signal.SIGINT)
        assert each.ended() == 0
    assert not any("h  " in line for line in following.lines)
    every = talking.inside("logs", "-q", "id:t*").stdout.splitlines()
    assert {"said one", "said inner one", "said inner ouch"} <= set(texts(every))
    assert texts(talking.inside("logs", "t1", "-n", "1").stdout.splitlines()) == ["that hurt"]
    assert "said one" not in talking.inside("logs", "t1", "-l", "error").stdout
    for arguments, why in (
        (["logs"], "Of which run?"),
        (["logs", "t1", "-l", "loud"], "--level has no 'loud'"),
    ):
        wrong = talking.inside(*arguments)
        assert (wrong.returncode, why in wrong.stderr) == (2, True)


def test_runs_are_watched_without_a_terminal(talking):
    watching = talking.start("ps", "workflow:talk", "--watch", "--every", "0.1", "-o", "jsonl")

    def look_until(holds):
        while not holds(look := json.loads(watching.wait_for('"counts"'))):
            pass
        return look

    assert look_until(lambda look: look["counts"].get("waiting") == 2)["workers"] == 1
    talking.inside("signal", "t1", "last", "x")
    assert look_until(lambda look: look["rates"]["ended"] > 0)["counts"] == {"waiting": 1, "completed": 1}
    watching.signal(signal.SIGINT)
    assert watching.ended() == 0
    plain = talking.inside("ps", "-w", "--times", "3", "--every", "0.1").stdout.splitlines()
    assert len(plain) == 1, "a line only when something changed"
    assert "1 worker  1 waiting  1 completed" in plain[0]


def test_a_person_watches(talking):
    parent, child = pty.openpty()
    process = subprocess.Popen(
        talking.command("ps", "--watch", "--every", "0.1"),
        cwd=talking.folder,
        env=talking.environment,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    said = b""

    def see(text):
        nonlocal said
        while text.encode() not in re.sub(rb"\x1b\[[0-9;]*m", b"", said):
            assert select.select([parent], [], [], 30)[0], said
            said += os.read(parent, 10_000)

    try:
        see("waiting 2")
        see("t2")
        talking.inside("signal", "t2", "last", "x")
        see("completed 1")
        process.send_signal(signal.SIGINT)
        see("\x1b[?1049l")  # the screen from before is back
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def test_a_picture_fits_the_terminal():
    made = table("id", "note")
    for n in range(50):
        made.add_row(f"run-{n}", "x" * 300)
    look = Look(0, 0.0, {"running": 12_345, "failed": 2}, 1, 3)
    lines = board(look, Rates(1.0, 0.5, 0.0, 12.0), made, 60, 10)
    assert len(lines) == 10
    assert all(line.cell_len <= 60 for line in lines)
    assert "1.0 started/s  0.5 ended/s" in lines[0].plain
    assert lines[1].plain == "▸ running 12,345   ✗ failed 2"


def test_rates_are_those_of_the_last_seconds():
    window = Window(10)
    for second in range(30):
        rates = window.add(Look(0, second, {"completed": 2 * second if second < 15 else 30}, second))
    assert (rates.started, rates.ended, rates.records) == (0.0, 0.0, 1.0)
    assert window.add(Look(0, 31, {}, 30)).ended == 0.0, "pruned runs are none"
