"""Ctrl-C, SIGTERM, kill -9: whatever stops ``reprise run``, the run goes on from where it was."""

import json
import os
import pty
import re
import select
import signal
import subprocess

import pytest


def held(shell, id="r"):
    running = shell.start("run", "flow.py:stair", "-i", "n=2", "--id", id)
    running.wait_for("held 2")
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_records_what_runs_and_keeps_the_run(shell, number):
    running = held(shell)
    running.signal(number)
    running.wait_for("Stopping")
    shell.open_gate()
    assert running.ended() == 130
    assert "Run r is kept. Go on with:  reprise resume r" in running.lines
    assert shell.marks() == ["square 2", "held 2"]
    done = shell("resume", "r")
    assert (done.returncode, done.stdout) == (0, "10006\n")
    assert shell.marks() == ["square 2", "held 2", "square 100"], (
        "the step that ran was recorded while stopping"
    )


def test_run_that_only_waits_is_kept_too_also_after_it_was_let_go_from_memory(shell):
    running = shell.start("run", "flow.py:asks", "--id", "r")
    running.wait_for("asks running")
    while json.loads(shell.inside("show", "r", "-o", "json").stdout)["status"] != "waiting":
        pass
    running.signal(signal.SIGINT)
    running.wait_for("nothing is under way")
    assert running.ended() == 130
    assert "Run r is kept. Go on with:  reprise resume r" in running.lines


def test_a_second_signal_leaves_at_once(shell):
    running = held(shell)
    running.signal(signal.SIGINT)
    running.wait_for("Stopping")
    running.signal(signal.SIGINT)
    assert running.ended(5) == 130
    shell.open_gate()
    assert shell("resume", "r").stdout == "10006\n"
    assert shell.marks() == ["square 2", "held 2", "held 2", "square 100"]


def test_killed_run_goes_on_with_the_same_command_and_repeats_no_finished_step(shell):
    running = held(shell)
    assert "its worker is gone" not in shell.inside("ps").stdout
    running.signal(signal.SIGKILL)
    assert running.ended() == -signal.SIGKILL
    assert "its worker is gone" in shell.inside("ps").stdout
    shell.open_gate()
    done = shell("run", "flow.py:stair", "-i", "n=2", "--id", "r", "--again")
    assert (done.returncode, done.stdout) == (0, "10006\n")
    assert shell.marks() == ["square 2", "held 2", "held 2", "square 100"]


def test_killed_parent_and_child_go_on_together(shell):
    (shell.folder / "nest.py").write_text(
        "from flow import held, square\nfrom reprise import workflow\n"
        "@workflow\nasync def inner() -> int:\n    return await square(3) + await held(1)\n"
        "@workflow\nasync def outer() -> int:\n    return await square(4) + await inner()\n"
    )
    running = shell.start("run", "nest.py:outer", "--id", "n")
    running.wait_for("held 1")
    running.signal(signal.SIGKILL)
    running.ended()
    shell.open_gate()
    done = shell("run", "nest.py:outer", "--id", "n")
    assert (done.returncode, done.stdout) == (0, "26\n"), done.stderr
    assert shell.marks() == ["square 4", "square 3", "held 1", "held 1"]


def test_run_that_another_process_executes_is_watched(shell):
    running = held(shell)
    watching = shell.start("run", "flow.py:stair", "-i", "n=2", "--id", "r")
    watching.wait_for("stair running")
    stopped = shell.start("resume", "r")
    stopped.wait_for("stair running")
    stopped.signal(signal.SIGINT)
    assert stopped.ended() == 130
    assert any("goes on elsewhere" in line for line in stopped.lines)
    shell.open_gate()
    assert (running.ended(), watching.ended()) == (0, 0)
    assert "10006" in running.lines
    assert "10006" in watching.lines
    assert shell.marks() == ["square 2", "held 2", "square 100"]


def test_code_that_changed_under_a_run_is_said_and_nothing_is_executed(shell):
    running = held(shell)
    running.signal(signal.SIGKILL)
    running.ended()
    shell.open_gate()
    changed = shell.folder / "flow.py"
    changed.write_text(changed.read_text().replace("first = await square(n)", "first = await square(n + 1)"))
    done = shell("resume", "r")
    assert (done.returncode, done.stdout) == (1, "")
    assert "stranded" in done.stderr
    assert "reprise resume r" in done.stderr
    assert shell.marks() == ["square 2", "held 2"]
    changed.write_text(changed.read_text().replace("first = await square(n + 1)", "first = await square(n)"))
    assert shell("resume", "r").stdout == "10006\n"


def test_worker_that_is_told_to_stop_gives_its_runs_back(shell):
    shell("run", "flow.py:stair", "--detach", "--id", "r")
    worker = shell.start("worker", "flow.py")
    worker.heard("took r  stair")
    worker.heard("held 2")
    worker.signal(signal.SIGTERM)
    worker.wait_for("draining: 1 runs")
    shell.open_gate()
    assert worker.ended() == 0
    assert shell("resume", "r").stdout == "10006\n"
    assert shell.marks() == ["square 2", "held 2", "square 100"]


def test_live_picture_is_drawn_on_a_terminal(shell):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        shell.command("run", "flow.py:stair", "-i", "n=2", "--id", "r"),
        cwd=shell.folder,
        env=shell.environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        close_fds=True,
        start_new_session=True,
    )
    os.close(follower)
    seen = ""

    def read_until(pattern):
        nonlocal seen
        while not re.search(pattern, seen, re.DOTALL):
            assert select.select([leader], [], [], 30)[0], f"{pattern} never came: {seen[-2000:]!r}"
            try:
                seen += os.read(leader, 65536).decode("utf-8", "replace")
            except OSError:  # the other side is closed
                assert re.search(pattern, seen, re.DOTALL), seen[-2000:]
                return

    try:
        read_until("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]\x1b\\[0m held .*r · ")
        assert re.search("✓\x1b\\[0m square", seen), "a finished step has its mark"
        assert "\x1b[?25l" in seen, "the cursor is hidden while it is drawn"
        shell.open_gate()
        read_until("✓ completed")
        read_until("10006")
        read_until("reprise show r")
        assert process.wait(20) == 0
        assert "\x1b[?25h" in seen, "and shown at the end"
    finally:
        process.poll() is None and os.killpg(process.pid, signal.SIGKILL)
        os.close(leader)
