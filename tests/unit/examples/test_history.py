import subprocess
from datetime import UTC, datetime

from crew import git, history
from crew.history import read_history


def test_churn_authors_and_age(made):
    made.commit({"a.py": "1", "b.py": "1", "gone.py": "1"}, day=1)
    made.commit({"a.py": "2"}, day=2, author="Bob")
    (made.root / "gone.py").unlink()
    made.commit({"a.py": "3"}, day=20)
    past = read_history(made.root)
    assert (past.commits, past.authors, past.note) == (3, 2, "")
    assert (past.first, past.last) == (
        datetime(2025, 1, 1, 12, tzinfo=UTC),
        datetime(2025, 1, 20, 12, tzinfo=UTC),
    )
    assert [(file.path, file.commits, file.authors) for file in past.files] == [
        ("a.py", 3, 2),
        ("b.py", 1, 1),
    ]
    assert [(bar.start.day, bar.commits, bar.changes) for bar in past.periods if bar.commits] == [
        (1, 1, 3),
        (2, 1, 1),
        (20, 1, 2),
    ]
    assert len(past.periods) == 20
    assert past.period_days == 1


def test_recent_means_before_the_last_commit_not_before_today(made, monkeypatch):
    made.commit({"a.py": "1"}, day=1)
    made.commit({"a.py": "2"}, day=20)
    monkeypatch.setattr(history, "RECENT", history.timedelta(days=10))
    assert read_history(made.root).files[0].recent == 1


def test_a_folder_of_a_repository_has_the_history_of_that_folder(made):
    made.commit({"in/a.py": "1", "b.py": "1"})
    made.commit({"b.py": "2"})
    past = read_history(made.root / "in")
    assert past.commits == 1
    assert [file.path for file in past.files] == ["a.py"]


def test_without_history_it_says_why(made, tmp_path, monkeypatch):
    assert read_history(made.root).note.startswith("No history: ")  # a repository without a commit
    made.commit({"a.py": ""})
    (made.root / "new").mkdir()
    assert read_history(made.root / "new").note == "No history: no commit touches this folder."
    (tmp_path / "plain").mkdir()
    assert "not a git repository" in read_history(tmp_path / "plain").note
    monkeypatch.setenv("PATH", "")
    assert read_history(made.root).note == "No history: git is not installed."


def test_a_shallow_clone_is_said_to_be_one(made, tmp_path):
    made.commit({"a.py": "1"})
    made.commit({"a.py": "2"})
    url = made.root.as_uri()
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", url, tmp_path / "shallow"], check=True, capture_output=True
    )
    past = read_history(tmp_path / "shallow")
    assert past.commits == 1
    assert "shallow" in past.note


def sign(made):
    """Give the last commit a signature, for which git would start a program."""
    show = subprocess.run(
        ["git", "cat-file", "commit", "HEAD"], cwd=made.root, check=True, capture_output=True
    )
    head, _, message = show.stdout.partition(b"\n\n")
    signature = b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    make = ["git", "hash-object", "-t", "commit", "-w", "--stdin"]
    signed = head + b"\n" + signature + b"\n\n" + message
    done = subprocess.run(make, cwd=made.root, input=signed, check=True, capture_output=True)
    made.git("update-ref", "HEAD", done.stdout.decode().strip())


def test_a_repository_cannot_make_git_run_its_programs(made, tmp_path):
    made.commit({"a.py": "1"})
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand"):
        made.git("config", key, str(trap))
    made.git("config", "log.showSignature", "true")
    sign(made)
    assert read_history(made.root).commits == 1
    assert git.ask(made.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").out == b"a.py\0"
    assert not (tmp_path / "sprung").exists()
    for way in (["status"], ["log"]):
        (tmp_path / "sprung").unlink(missing_ok=True)
        subprocess.run(["git", *way], cwd=made.root, check=True, capture_output=True)
        assert (tmp_path / "sprung").exists(), (
            f"git {way[0]} must step into the trap, or this test proves nothing"
        )


def test_a_slow_git_is_given_up(made, tmp_path, monkeypatch):
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=":")
    assert git.ask(made.root, "log", seconds=0.05).problem == "git log took longer than 0.05 s"
