"""Moving house from the command line: archives, prune, backups, copies."""

import json
import shutil
import signal
import sqlite3

import pytest
from tests.story.conftest import Shell


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A store with two runs that ended, one of them with a child, and one that waits."""
    shell = Shell(tmp_path_factory.mktemp("built"))
    for arguments in (
        ("flow.py:squares", "-i", "n=2", "--id", "sq"),
        ("flow.py:parent", "-i", "n=2", "--id", "pa"),
        ("flow.py:asks", "--id", "asks", "--detach"),
    ):
        done = shell("run", *arguments, "--progress", "none")
        assert done.returncode == 0, done.stderr
    return shell.folder


@pytest.fixture
def town(shell, built):
    """A shell in a copy of that."""
    shutil.copytree(built, shell.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.wake"))
    return shell


def ids(shell, *arguments):
    done = shell.inside("ps", "-o", "jsonl", *arguments)
    assert done.returncode == 0, done.stderr
    return {json.loads(line)["id"] for line in done.stdout.splitlines()}


def asked(shell, *arguments, code=0):
    done = shell.inside(*arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_events_of_a_run_are_still_one_word_away(town):
    short = asked(town, "events", "sq").stdout
    assert short
    assert "squares" in short
    assert asked(town, "events", "show", "sq").stdout == short
    assert (
        asked(town, "events", "-o", "jsonl", "sq").stdout == asked(town, "events", "sq", "-o", "jsonl").stdout
    )
    assert "There is no run 'verfy'" in asked(town, "events", "verfy", code=3).stderr
    assert "export" in asked(town, "events", "--help").stdout


def test_runs_leave_and_come_back(town):
    done = asked(town, "events", "export", "a.jsonl", "status:ended", "-o", "json")
    told = json.loads(done.stdout)
    assert (told["families"], told["runs"]) == (2, 3)
    sound = json.loads(
        asked(town, "events", "verify", "a.jsonl", "--hash", told["hash"], "-o", "json").stdout
    )
    assert (sound["runs"], sound["hash"]) == (3, told["hash"])
    other = ("--store", "sqlite:///other.db")
    dry = json.loads(asked(town, "events", "import", "a.jsonl", "--dry-run", *other, "-o", "json").stdout)
    came = json.loads(asked(town, "events", "import", "a.jsonl", *other, "-o", "json").stdout)
    assert dry == came
    assert came["runs"] == 3
    assert asked(town, "events", "pa", *other).stdout == asked(town, "events", "pa").stdout
    again = asked(town, "events", "import", "a.jsonl", *other)
    assert "0 runs came in, 0 records; 3 were here already" in again.stdout


def test_a_damaged_archive_is_refused_and_the_line_named(town):
    asked(town, "events", "export", "a.jsonl", "id:sq")
    path = town.folder / "a.jsonl"
    data = bytearray(path.read_bytes())
    data[data.index(b"squares")] ^= 1
    path.write_bytes(data)
    for arguments in (("verify", "a.jsonl"), ("import", "a.jsonl", "-s", "sqlite:///b.db")):
        done = asked(town, "events", *arguments, code=1)
        assert "a.jsonl: line 4 does not follow the one before it" in done.stderr


def test_another_archive_than_the_one_that_was_written_is_told(town):
    asked(town, "events", "export", "a.jsonl", "id:sq")
    done = asked(town, "events", "verify", "a.jsonl", "--hash", "0" * 64, code=1)
    assert "whole, but another one" in done.stderr


def test_a_conflict_is_told_and_nothing_of_it_written(town):
    asked(town, "events", "export", "a.jsonl", "id:sq")
    asked(town, "prune", "id:sq")
    assert town("run", "flow.py:squares", "-i", "n=2", "--id", "sq", "--progress", "none").returncode == 0
    before = asked(town, "events", "sq", "-o", "json").stdout
    done = asked(town, "events", "import", "a.jsonl", code=7)
    assert "The run sq is here with another history" in done.stderr
    assert asked(town, "events", "sq", "-o", "json").stdout == before


def test_prune_asks_which_says_what_it_would_do_and_archives_first(town):
    assert "Which runs?" in asked(town, "prune", code=2).stderr
    assert "no length of time" in asked(town, "prune", "--older-than", "soon", code=2).stderr
    dry = asked(town, "prune", "--all", "--dry-run").stdout
    assert "2 runs and 1 children would go" in dry
    assert asked(town, "prune", "--older-than", "1d", "-o", "json").stdout.startswith('{"families":0')
    done = json.loads(asked(town, "prune", "workflow:parent", "--archive", "a.jsonl", "-o", "json").stdout)
    assert (done["families"], done["runs"]) == (1, 2)
    assert ids(town, "--all") == {"sq", "asks"}
    asked(town, "events", "verify", "a.jsonl", "--hash", done["hash"])
    assert "exists already" in asked(town, "prune", "--all", "--archive", "a.jsonl", code=2).stderr
    asked(town, "events", "import", "a.jsonl")
    assert asked(town, "show", "pa", "-o", "json").stdout
    assert ids(town) == {"sq", "pa", "asks"}


def test_a_backup_is_one_file_and_comes_back(town):
    asked(town, "db", "backup", "b.db")
    connection = sqlite3.connect(f"file:{town.folder / 'b.db'}?mode=ro&immutable=1", uri=True)
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (4,)
    connection.close()
    assert not list(town.folder.glob("b.db-*"))
    asked(town, "prune", "--all")
    assert ids(town) == {"asks"}
    assert "holds data" in asked(town, "db", "restore", "b.db", code=2).stderr
    assert "epoch 1" in asked(town, "db", "restore", "b.db", "--replace").stdout
    assert ids(town) == {"sq", "pa", "asks"}
    assert json.loads(asked(town, "db", "status", "-o", "json").stdout)["epoch"] == 1
    assert "exists already" in asked(town, "db", "backup", "b.db", code=2).stderr


def test_an_archive_of_all_makes_a_new_store(town):
    asked(town, "db", "backup", "b.jsonl.gz")
    done = json.loads(
        asked(town, "db", "restore", "b.jsonl.gz", "-s", "sqlite:///new.db", "-o", "json").stdout
    )
    assert done["runs"] == 4
    assert ids(town, "-s", "sqlite:///new.db") == ids(town)
    assert town("resume", "asks", "-s", "sqlite:///new.db", "--timeout", "1").returncode == 5
    asked(town, "events", "export", "some.jsonl", "id:sq")
    assert "is no backup" in asked(town, "db", "restore", "some.jsonl", "-s", "sqlite:///x.db", code=2).stderr


@pytest.mark.parametrize("damage", ["cut", "other", "flipped"])
def test_a_damaged_backup_changes_nothing(town, damage):
    asked(town, "db", "backup", "b.db")
    path = town.folder / "b.db"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    elif damage == "other":
        path.unlink()
        sqlite3.connect(path).executescript("CREATE TABLE mine (x)").connection.close()
    else:
        data = bytearray(path.read_bytes())
        data[data.index(b'"workflow":"squares"') + 14] ^= 1
        path.write_bytes(data)
    before = ids(town)
    done = asked(town, "db", "restore", "b.db", "--replace", code=4)
    assert "error:" in done.stderr
    assert ids(town) == before
    assert json.loads(asked(town, "db", "status", "-o", "json").stdout)["epoch"] == 0
    assert {entry.name for entry in (town.folder / ".reprise").iterdir()} <= {
        *(f"reprise.db{suffix}" for suffix in ("", "-wal", "-shm", ".wake", ".workers")),
        ".gitignore",
    }


def test_status_and_migrate_of_an_older_and_a_newer_file(town):
    status = json.loads(asked(town, "db", "status", "-o", "json").stdout)
    assert status["schema"] == status["newest_schema"]
    assert status["runs"] == {"completed": 3, "pending": 1}
    assert "the newest" in asked(town, "db", "migrate").stdout
    file = town.folder / ".reprise" / "reprise.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    assert "newer version" in asked(town, "db", "status").stderr
    for command in (("db", "migrate"), ("ps",)):
        assert "99" in asked(town, *command, code=4).stderr
    new = ("-s", "sqlite:///new.db")
    dry = asked(town, "db", "migrate", "--dry-run", *new).stdout
    assert f"would come from version 0 to {status['newest_schema']}" in dry
    assert not (town.folder / "new.db").exists()
    asked(town, "db", "migrate", *new)
    assert (town.folder / "new.db").exists()


def test_a_copy_is_compared(town):
    done = asked(town, "db", "copy", "sqlite:///.reprise/reprise.db", "sqlite:///c.db", "-o", "json")
    told = json.loads(done.stdout)
    assert (told["runs"], told["unfinished"], told["differences"], told["epoch"]) == (4, 1, [], 1)
    assert asked(town, "events", "pa", "-s", "sqlite:///c.db").stdout == asked(town, "events", "pa").stdout
    # A run that is only in the copy.
    asked(town, "events", "export", "a.jsonl", "id:sq")
    asked(town, "prune", "id:sq")
    done = asked(town, "db", "copy", "sqlite:///.reprise/reprise.db", "sqlite:///c.db", code=1)
    assert "the run sq is not in the source" in done.stderr
    assert "onto itself" in asked(town, "db", "copy", "sqlite:///c.db", "sqlite:///c.db", code=2).stderr


def test_a_copy_follows_a_worker_and_cuts_over(town):
    """The whole move: workers go on, are stopped, the copy cuts over, workers of the new store end what is open."""
    source, target = "sqlite:///.reprise/reprise.db", "sqlite:///new.db"
    worker = town.start("worker", "flow.py")
    held = town.start("run", "flow.py:stair", "--id", "stair", "--detach")
    assert held.ended() == 0
    worker.wait_for("held 2")
    copy = town.start("db", "copy", source, target, "--follow")
    while not (town.folder / "new.db").exists() or "asks" not in str(_streams(town.folder / "new.db")):
        assert copy.process.poll() is None, copy.lines
    for n in range(3):
        assert town("run", "flow.py:squares", "--id", f"more{n}", "--progress", "none").returncode == 0
    worker.signal(signal.SIGKILL)
    worker.ended()
    copy.signal(signal.SIGINT)
    assert copy.ended() == 0, copy.lines
    town.open_gate()
    new = town.start("worker", "flow.py", "-s", target)
    done = town("signal", "asks", "name", '"Ada"', "-s", target)
    assert done.returncode == 0, done.stderr
    for id in ("stair", "asks"):
        shown = town("resume", id, "-s", target, "--timeout", "30")
        assert shown.returncode == 0, shown.stderr
    new.signal(signal.SIGTERM)
    new.ended()
    assert ids(town, "-s", target) == ids(town) == {"sq", "pa", "asks", "stair", "more0", "more1", "more2"}
    assert {
        json.loads(line)["status"]
        for line in asked(town, "ps", "-o", "jsonl", "-s", target).stdout.splitlines()
    } == {"completed"}
    assert town.marks().count("square 100") == 1


def _streams(path):
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT name FROM streams").fetchall()
        finally:
            connection.close()
    except sqlite3.Error:
        return []
