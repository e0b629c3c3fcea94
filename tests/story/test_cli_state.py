"""Shared state on the command line: looked at, changed, watched; and the example."""

import json
import signal
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared_state.py"
STORE = ("--store", "sqlite:///state.db")


def state(shell, *arguments):
    return shell.inside("state", *arguments, *STORE)


def test_a_key_is_written_read_and_listed(shell):
    assert "no store" in state(shell, "list").stderr
    done = state(shell, "set", "app", "config:mode", '{"dark": true}')
    assert done.stdout == 'config:mode is {"dark":true} (version 1)\n'
    assert json.loads(state(shell, "get", "app", "config:mode").stdout) == {"dark": True}
    merged = state(shell, "set", "app", "config:mode", '{"size": 3}', "--strategy", "merge", "-o", "json")
    assert json.loads(merged.stdout) == {
        "key": "config:mode", "value": {"dark": True, "size": 3}, "version": 2, "applied": True
    }  # fmt: skip
    state(shell, "set", "app", "name", "tea", "--ttl", "1h")
    shown = state(shell, "list", "app").stdout.splitlines()
    assert shown[0].split() == ["KEY", "VERSION", "ENDS", "VALUE"]
    assert "in 59m" in shown[2] or "in 1h" in shown[2]
    (found,) = json.loads(state(shell, "list", "app", "config:*", "-o", "json").stdout)
    assert (found["key"], found["version"], found["expires_at"]) == ("config:mode", 2, None)
    assert state(shell, "list").stdout == "app\n"
    assert json.loads(state(shell, "list", "-o", "json").stdout) == [{"namespace": "app"}]
    assert "no keys like x" in state(shell, "list", "app", "x").stderr


def test_what_is_not_as_expected_is_told_by_the_exit(shell):
    state(shell, "set", "app", "leader", "me", "--expected-version", "0")
    done = state(shell, "set", "app", "leader", "you", "--expected-version", "0")
    assert (done.returncode, done.stdout) == (7, "")
    assert "The key leader is at version 1" in done.stderr
    kept = state(shell, "set", "app", "leader", "you", "--strategy", "first_write_wins")
    assert (kept.returncode, kept.stdout) == (0, 'leader stays "me" (version 1)\n')
    missing = state(shell, "get", "app", "nobody")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "no key 'nobody'" in missing.stderr


def test_the_history_of_a_key_is_printed(shell):
    for value in ("1", "2"):
        state(shell, "set", "app", "n", value)
    told = state(shell, "history", "app", "n").stdout.splitlines()
    assert [words.split()[3] for words in told] == ["1", "2"]
    assert "by reprise state" in told[0]
    last = json.loads(state(shell, "history", "app", "n", "-n", "1", "-o", "json").stdout)
    assert [(each["value"], each["old_value"], each["version"]) for each in last] == [(2, 1, 2)]
    assert "No changes of 'm'" in state(shell, "history", "app", "m").stderr


def test_changes_are_watched_until_somebody_ends_it(shell):
    state(shell, "set", "app", "a", "0")
    watching = shell.start("state", "watch", "app", "a", "-o", "jsonl", *STORE)
    watching.wait_for("watching app")
    state(shell, "set", "app", "b", "1")
    state(shell, "set", "app", "a", "1")
    told = json.loads(watching.wait_for('"key"'))
    assert (told["key"], told["value"], told["old_value"], told["origin"]) == ("a", 1, 0, "reprise state")
    watching.signal(signal.SIGINT)
    assert watching.ended() == 0


def test_the_example_does_what_it_says(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "three machines counted to 300; all agree: True" in done.stdout
    assert "eve hears: config:mode was None, is maintenance" in done.stdout
    assert "not written: config:mode is at version" in done.stdout
