"""A small codebase with a past, made anew for the test that asks."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crew.clones import find_clones
from crew.coder import measure
from crew.dossier import compile_dossier
from crew.facts import CODE, TEST, Review
from crew.history import read_history
from crew.researcher import locate, take_inventory
from crew.reviewers import REVIEWERS, rank
from crew.tester import map_tests
from crew.vote import settle

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class Made:
    """A folder under git; each commit has its own author and day."""

    def __init__(self, root: Path):
        self.root = root
        self.git("init", "-q", "-b", "main")

    def git(self, *words, **extra):
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **extra}
        subprocess.run(["git", *words], cwd=self.root, check=True, env=environment, capture_output=True)

    def write(self, files):
        for name, content in files.items():
            place = Path(os.fsdecode(os.fsencode(self.root) + b"/" + os.fsencode(name)))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files, day=1, author="Ann"):
        self.write(files)
        self.git("add", "-A")
        who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
               for key, value in (("NAME", author), ("EMAIL", f"{author}@x"), ("DATE", f"2025-01-{day:02} 12:00 +0000"))}  # fmt: skip
        self.git("commit", "-q", "--allow-empty", "-m", "change", **who)


@pytest.fixture
def made(tmp_path):
    (tmp_path / "code").mkdir()
    return Made(tmp_path / "code")


@pytest.fixture
def places(tmp_path):
    """Places for a folder of the test."""
    return lambda root, tests=None: locate(root, tmp_path / "out", tests, NOW)


@pytest.fixture
def review(places):
    """Do a whole review of a folder with the agents alone, without any run."""

    def review(root, tests=None):
        where = places(root, tests)
        inventory, past = take_inventory(where), read_history(root)
        measured = [measure(where.root, file) for file in inventory.files if file.kind in {CODE, TEST}]
        findings, traces = [each.findings for each in measured], [each.traces for each in measured]
        clones, coverage = find_clones(traces), map_tests(root.name, inventory.files, traces)
        dossier = compile_dossier(inventory.files, findings, past, clones, coverage)
        chosen = [profile for profile in dossier.profiles if profile.findings.path in dossier.candidates]
        opinions = [rank(reviewer.name, chosen) for reviewer in REVIEWERS]
        return Review(where, inventory, past, findings, clones, coverage, dossier, opinions, settle(opinions))

    return review
