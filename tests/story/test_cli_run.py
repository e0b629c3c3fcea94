"""``reprise run``: a workflow from a file, its result, its exit codes."""

import json
import signal
import sqlite3

import pytest


def test_a_file_is_run_and_its_result_is_the_only_thing_on_stdout(shell):
    done = shell("run", "flow.py:parent", "-i", "n=4", "--id", "p")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 14
    said = [line.split("  ", 2)[1:] for line in done.stderr.splitlines()]
    assert ["p", "parent running"] in said
    assert ["p:1.squares", "square  4/4"] in [
        [run, text.rpartition("  ")[0]] for run, *text in said if text for text in text
    ]
    assert any(
        run == "p" and text[0].startswith("shaky  done") and "attempt 2" in text[0]
        for run, *text in said
        if text
    )
    assert "reprise show p" in done.stderr
    assert (shell.folder / ".reprise" / ".gitignore").read_text() == "*\n"


def test_no_output_carries_what_could_drive_a_terminal(shell):
    for arguments in (["run", "flow.py:fails", "--id", "f"], ["show", "f"], ["events", "f"], ["ps"]):
        done = shell(*arguments)
        assert "\x1b" not in done.stdout + done.stderr, arguments
        assert "[red]purpose[/red]" in done.stdout + done.stderr, arguments


def test_input_is_read_from_arguments_files_and_stdin(shell):
    (shell.folder / "input.json").write_text('{"n": 1}')
    done = shell("run", "flow.py:squares", "-i", "@input.json", "-i", "-", stdin='{"n": 3}')
    assert json.loads(done.stdout) == [0, 1, 4], done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "flow.py"], "flow.py defines 5 workflows: squares, stair, fails, asks, parent"),
        (["run", "flow.py:squares", "-i", "m=1"], "has no 'm'"),
        (["run", "flow.py:squares", "--idd", "x"], "No such option"),
        (["run", "flow.py:squares", "--store", "sqllite:///x.db"], "Did you mean 'sqlite'?"),
        (["ps", "status:runing"], "Did you mean 'running'?"),
        (["nonsense"], "No such command"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_is_right(shell, arguments, said):
    done = shell(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_failing_run_exits_with_1_and_shows_the_error(shell):
    done = shell("run", "flow.py:fails", "--id", "f")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: broken  on [red]purpose[/red]" in done.stderr
    assert "reprise show f" in done.stderr
    assert shell("run", "flow.py:fails", "--id", "f").returncode == 1


def test_error_of_the_flow_at_import_is_one_line_and_a_traceback_only_with_debug(shell):
    (shell.folder / "bad.py").write_text("import reprise\nreprise.nonsense\n")
    done = shell("run", "bad.py")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    assert "bad.py cannot be imported: AttributeError" in done.stderr
    assert "bad.py, line 2" in done.stderr
    assert "Traceback" in shell("run", "bad.py", "--debug").stderr


def test_the_same_id_is_the_same_run_and_another_input_is_a_conflict(shell):
    first = shell("run", "flow.py:squares", "-i", "n=2", "--id", "s")
    again = shell("run", "flow.py:squares", "-i", "n=2", "--id", "s")
    without_input = shell("run", "flow.py:squares", "--id", "s")
    assert first.stdout == again.stdout == without_input.stdout == "[0,1]\n"
    assert shell.marks() == ["square 0", "square 1"]
    other = shell("run", "flow.py:squares", "-i", "n=3", "--id", "s")
    assert (other.returncode, other.stdout) == (7, "")
    assert "exists with another input" in other.stderr
    assert shell("run", "flow.py:fails", "--id", "s").returncode == 7


def test_again_starts_a_fresh_run_beside_the_one_that_ended(shell):
    for expected in ("s", "s-2", "s-3"):
        done = shell("run", "flow.py:squares", "-i", "n=1", "--id", "s", "--again")
        assert done.returncode == 0
        assert f"reprise show {expected}\n" in done.stderr
    assert len(shell.marks()) == 3


def test_store_that_cannot_be_reached_exits_with_4(shell):
    (shell.folder / "not.db").write_text("no database at all, " * 50)
    for arguments in (
        ["ps"],
        ["show", "@last"],
        ["run", "flow.py:squares", "--store", "sqlite:///no/such/folder/x.db"],
        ["ps", "--store", "sqlite:///not.db"],
    ):
        done = shell(*arguments)
        assert (done.returncode, done.stdout) == (4, ""), (arguments, done.stderr)
        assert "hint: " in done.stderr
    assert not (shell.folder / ".reprise").exists(), "who only looks leaves nothing behind"


def test_timeout_keeps_the_run_and_a_deadline_ends_it(shell):
    waited = shell("run", "flow.py:asks", "--id", "t", "--timeout", "0.3")
    assert (waited.returncode, waited.stdout) == (5, "")
    assert "reprise resume t" in waited.stderr
    over = shell("run", "flow.py:asks", "--id", "d", "--deadline", "0.3")
    assert (over.returncode, over.stdout) == (5, "")
    states = {row["id"]: row["status"] for row in json.loads(shell.inside("ps", "-o", "json").stdout)}
    assert states == {"t": "pending", "d": "failed"}


def test_run_that_is_cancelled_from_elsewhere_exits_with_6(shell):
    running = shell.start("run", "flow.py:asks", "--id", "c")
    running.wait_for("asks running")
    assert shell("cancel", "c", "--reason", "changed my mind").returncode == 0
    assert running.ended() == 6
    assert "changed my mind" in "\n".join(running.lines)
    assert shell("cancel", "c").returncode == 7


def test_run_that_is_paused_from_elsewhere_can_go_on(shell):
    running = shell.start("run", "flow.py:asks", "--id", "c")
    running.wait_for("asks running")
    assert shell("pause", "c").returncode == 0
    assert running.ended() == 130
    assert json.loads(shell.inside("show", "c", "-o", "json").stdout)["status"] == "paused"
    resumed = shell.start("resume", "c")
    resumed.wait_for("asks running")
    assert shell("signal", "c", "name", "Ada").returncode == 0
    assert (resumed.ended(), '"Ada"' in resumed.lines) == (0, True)


def test_detached_run_is_left_to_a_worker(shell):
    done = shell("run", "flow.py:squares", "-i", "n=2", "--detach", "--id", "w")
    assert (done.returncode, done.stdout) == (0, "w\n")
    assert "reprise worker flow.py" in done.stderr
    worker = shell.start("worker", "flow.py", "--build", "b1", "--concurrency", "3")
    assert "3 steps at once" in worker.wait_for("ready: ")
    worker.wait_for("took w  squares")
    worker.wait_for("completed w  squares")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert any("draining" in line for line in worker.lines)
    assert shell("run", "flow.py:squares", "--id", "w").stdout == "[0,1]\n"


def test_settings_come_from_flags_before_environment_before_files(shell):
    def settings(*arguments, **environment):
        done = shell.inside("doctor", "-o", "json", *arguments, **environment)
        found = {each["check"]: each["text"] for each in json.loads(done.stdout)}
        return found["store"].partition(" ")[0].removeprefix("sqlite:///"), found["settings"]

    (shell.folder / "config" / "reprise").mkdir(parents=True)
    (shell.folder / "config" / "reprise" / "config.toml").write_text('store = "sqlite:///user.db"\n')
    assert settings() == ("user.db", f"store.url ({shell.folder}/config/reprise/config.toml)")
    (shell.folder / "pyproject.toml").write_text('[tool.reprise]\nstore = "sqlite:///pyproject.db"\n')
    assert settings() == ("pyproject.db", "store.url (pyproject.toml)")
    (shell.folder / "reprise.toml").write_text('store = "sqlite:///toml.db"\n[worker]\nconcurrency = 2\n')
    assert settings() == ("toml.db", "store.url (reprise.toml), worker.concurrency (reprise.toml)")
    (shell.folder / ".env").write_text("REPRISE_STORE=sqlite:///dotenv.db\n")
    assert settings()[0] == "dotenv.db"
    assert settings(REPRISE_STORE="sqlite:///environment.db")[0] == "environment.db"
    flag, text = settings("--store", "sqlite:///flag.db", REPRISE_STORE="sqlite:///environment.db")
    assert (flag, text) == ("flag.db", "store.url (--store), worker.concurrency (reprise.toml)")
    (shell.folder / "reprise.toml").write_text("[worker]\nconcurency = 2\n")
    wrong = shell.inside("ps")
    assert wrong.returncode == 2
    assert "reprise.toml: worker has no 'concurency'" in wrong.stderr


def test_doctor_finds_what_is_wrong_and_names_the_cure(shell):
    assert shell.inside("doctor").returncode == 0
    assert not (shell.folder / ".reprise").exists()
    shell("run", "flow.py:squares", "--id", "s")
    findings = {each["check"]: each for each in json.loads(shell.inside("doctor", "-o", "json").stdout)}
    assert {each["level"] for each in findings.values()} == {"ok"}, findings
    assert "write-ahead log" in findings["format"]["text"]

    database = shell.folder / ".reprise" / "reprise.db"
    database.chmod(0o644)
    connection = sqlite3.connect(database)
    connection.execute("UPDATE records SET data = X'31' WHERE version = 1")
    connection.commit()
    connection.close()
    done = shell("doctor", "-o", "json")
    findings = {each["check"]: each for each in json.loads(done.stdout)}
    assert done.returncode == 1
    assert (findings["rights"]["level"], findings["rights"]["repair"]) == (
        "warn",
        "chmod 600 .reprise/reprise.db",
    )
    assert findings["content"]["level"] == "fail"
    assert findings["content"]["repair"]
