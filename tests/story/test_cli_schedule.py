"""``reprise schedule``: runs by the calendar, from the first declaration to a worker that starts what is due."""

import json
import signal


def asked(shell, *arguments, code=0):
    done = shell.inside("schedule", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def added(shell, name, *options, code=0):
    done = shell("schedule", "add", name, "flow.py:squares", *options)
    assert done.returncode == code, done.stderr
    return done.stderr


def listed(shell):
    return {
        fact["name"]: fact
        for fact in map(json.loads, asked(shell, "list", "-o", "jsonl").stdout.splitlines())
    }


def test_a_worker_starts_what_is_due_and_what_was_started_is_found_by_its_schedule(shell):
    said = added(shell, "often", "--every", "0.2s", "--overlap", "allow", "-i", "n=2")
    assert "Schedule 'often' fires next" in said
    assert "reprise worker flow.py" in said
    worker = shell.start("worker", "flow.py")
    for _ in range(3):
        worker.wait_for("completed often@")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert "is paused" in asked(shell, "pause", "often", "--note", "enough").stderr
    found = shell.inside(
        "ps", "tag.reprise.schedule:often status:completed", "-o", "jsonl"
    ).stdout.splitlines()
    assert len(found) >= 3
    fact = listed(shell)["often"]
    assert (fact["paused"], fact["note"], fact["next"]) == (True, "enough", [])
    assert fact["started"] >= len(found)
    table = asked(shell, "list").stdout
    assert "paused: enough" in table
    assert "is paused" in asked(shell, "next", "often").stderr


def test_times_are_shown_by_the_clock_of_the_place(shell):
    added(shell, "nightly", "--cron", "30 2 * * *", "--timezone", "America/New_York", "--jitter", "10m")
    lines = asked(shell, "next", "nightly", "-n", "3").stdout.splitlines()
    assert len(lines) == 3
    assert all(" 02:30:00-0" in line or " 03:00:00-04:00" in line for line in lines), lines
    assert all("s later" in line for line in lines)
    facts = json.loads(asked(shell, "next", "nightly", "-o", "json").stdout)
    assert len(facts) == 5
    assert all(fact["fire_time"] < fact["begins"] for fact in facts)


def test_a_run_is_triggered_and_the_past_made_up_for(shell):
    added(shell, "daily", "--cron", "@daily", "--paused")
    id = asked(shell, "trigger", "daily").stdout.strip()
    assert id.startswith("daily@")
    assert shell("resume", id).stdout == "[0,1,4]\n"
    assert "makes up for 3 fire times" in asked(shell, "backfill", "daily", "2026-01-01", "2026-01-04").stderr
    assert "makes up for the past" in asked(shell, "list").stdout
    worker = shell.start("worker", "flow.py")
    for day in ("01", "02", "03"):
        worker.wait_for(f"completed daily@202601{day}T000000Z")
    assert "fires next" in asked(shell, "resume", "daily").stderr
    assert "is removed" in asked(shell, "remove", "daily").stderr
    assert "There are no schedules" in asked(shell, "list").stderr


def test_a_copy_of_the_store_has_the_schedules(shell):
    added(shell, "nightly", "--cron", "0 2 * * *")
    added(shell, "once", "--at", "2020-01-01")
    before = listed(shell)
    assert "over" in asked(shell, "list").stdout
    assert shell.inside("db", "copy", "sqlite:///.reprise/reprise.db", "sqlite:///copy.db").returncode == 0
    assert shell.inside("db", "backup", "saved.db").returncode == 0
    for path in ("copy.db", "saved.db"):
        copied = json.loads(asked(shell, "list", "-o", "json", "--store", f"sqlite:///{path}").stdout)
        assert {fact["name"]: fact for fact in copied} == before


def test_what_cannot_be_meant_is_said_with_what_to_do(shell):
    assert "exactly one of cron=, every= and at=" in added(shell, "x", code=2)
    assert "is no length of time" in added(shell, "x", "--every", "soon", code=2)
    added(shell, "nightly", "--cron", "0 2 * * *")
    for verb in ("next", "pause", "resume", "trigger", "remove"):
        assert "Did you mean 'nightly'?" in asked(shell, verb, "nigthly", code=3).stderr
    assert (
        "no fire time in that time"
        in asked(shell, "backfill", "nightly", "2026-01-01T03:00", "2026-01-01T04:00", code=2).stderr
    )
