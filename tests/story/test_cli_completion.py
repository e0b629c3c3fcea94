"""Completion: ids, names and the words of queries where the cursor is; nothing at all where something is wrong."""

import os
import pty
import select
import shutil
import subprocess
import sys

import pytest
from tests.story.conftest import Shell

from reprise.cli import completing
from reprise.kernel.machine import RUN
from reprise.kernel.query_text import FIELDS, STATES

FLOW = """
from reprise import set_tags, workflow

@workflow
async def order(n: int) -> int:
    set_tags(env="prod" if n % 2 else "dev", team="red blue")
    return 1 // n

@workflow
async def other() -> int:
    return 1
"""
START = """
import asyncio
from shop import order, other
from reprise import Reprise

async def main():
    async with Reprise() as app:
        for n in range(4):
            await (await app.start(order, n, id=f"order-{n}")).finished()
        await app.run(other, id="its")
    async with Reprise(worker=False) as app:
        await app.start(order, 1, id="open-1")

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("filled"))
    (shell.folder / "shop.py").write_text(FLOW)
    (shell.folder / "start.py").write_text(START)
    (shell.folder / ".reprise").mkdir()
    subprocess.run([sys.executable, "start.py"], cwd=shell.folder, env=shell.environment, check=True)
    bin = shell.folder / "bin"
    bin.mkdir()
    (bin / "reprise").write_text(f'#!/bin/sh\nexec {sys.executable} -m reprise "$@"\n')
    (bin / "reprise").chmod(0o755)
    shell.environment["PATH"] = f"{bin}{os.pathsep}{shell.environment['PATH']}"
    yield shell
    shell.stop()


def asked(shell, line, by="fish"):
    done = subprocess.run(
        shell.command("__complete", by, line),
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def here(filled, monkeypatch, capsys):
    """What is answered in this process."""
    monkeypatch.chdir(filled.folder)
    monkeypatch.setattr(os, "environ", filled.environment)

    def answer(line, by="fish"):
        completing.main([by, line])
        return capsys.readouterr().out.splitlines()

    return answer


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("reprise sh", ["show"]),
        ("reprise show order-", [f"order-{n}" for n in range(4)]),
        ("reprise show @", ["@last"]),
        ("reprise show ", ["open-1", "its", *(f"order-{n}" for n in (3, 2, 1, 0))]),
        ("reprise retry ", ["order-0"]),
        ("reprise cancel ", ["open-1"]),
        ("reprise cancel open-1 o", ["open-1"]),
        ("reprise show order-1 o", []),
        ("reprise signal open-1 ", []),
        ("reprise ps work", ["workflow:"]),
        ("reprise ps workflow:", ["workflow:order", "workflow:other"]),
        ("reprise ps env:prod status:failed,ca", ["status:failed,cancelling", "status:failed,cancelled"]),
        ("reprise ps 'env:prod (status:co", ["env:prod (status:compensating", "env:prod (status:completed"]),
        ("reprise ps en", ["env:"]),
        ("reprise ps env:", ["env:dev", "env:prod"]),
        ("reprise ps team:", ['team:"red blue"']),
        ("reprise cancel -q id:op", ["id:open-1"]),
        ("reprise ps -c te", ["team"]),
        ("reprise show -o ", ["json", "jsonl", "table"]),
        ("reprise init -t s", ["saga"]),
        ("reprise db ba", ["backup"]),
        ("reprise config ", ["show"]),
        ("X=1 ./bin/reprise events --foll", ["--follow"]),
        ("reprise config show --or", ["--origin"]),
        ("reprise retry --dr", ["--dry-run"]),
        ("reprise tools se", ["search", "serve"]),
        ("reprise tools show time_a", ["time_add", "time_age"]),
        ("reprise tools call time_age ", ["birth_date=", "on="]),
        ("reprise tools call time_age birth_date=2000-02-29 o", ["on="]),
        ("reprise tools show time_age o", []),
        ("reprise tools call no_such ", []),
    ],
)
def test_what_may_stand_where_the_cursor_is(here, line, found):
    assert here(line) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("reprise ps team:", [r"\"red\ blue\" "]),
        ('reprise show "it', ["its"]),
        ("reprise ps status:fa", ["failed "]),
        ("reprise show @l", ["last "]),
        ("reprise ps work", ["workflow:"]),
        ("reprise ps 'status:fa", ["status:failed"]),
    ],
)
def test_bash_is_given_what_it_puts_behind_its_own_breaks(here, line, found):
    assert here(line, "bash") == found


def test_words_are_those_of_the_language_and_of_the_commands():
    assert set(completing.STATES) == set(RUN.transitions)
    assert set(completing.OPEN) == STATES["open"]
    assert {name.rstrip(":<>").partition(":")[0] for name in completing.FIELDS} == set(FIELDS)


def test_nothing_is_said_where_something_is_wrong(filled, tmp_path):
    shell = Shell(tmp_path)
    assert asked(shell, "reprise show ") == []
    (shell.folder / ".reprise").mkdir()
    (shell.folder / ".reprise" / "reprise.db").write_text(
        "no database at all, but long enough to be read" * 100
    )
    assert asked(shell, "reprise show o") == []
    (shell.folder / "reprise.toml").write_text("= broken")
    assert asked(shell, "reprise show o") == []
    assert asked(shell, "reprise nothing --") == []
    assert asked(shell, "reprise show -s postgresql://nobody@127.0.0.1:1/x ") == []
    done = subprocess.run(
        shell.command("__complete"), env=shell.environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_person_types_in_bash(filled):
    parent, child = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=filled.folder,
        env=filled.environment | {"PS1": "$ ", "TERM": "dumb"},
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    said = b""

    def type_and_see(text, shown):
        nonlocal said
        os.write(parent, text.encode())
        said = b""
        while shown.encode() not in said:
            assert select.select([parent], [], [], 30)[0], said
            said += os.read(parent, 1000)

    try:
        type_and_see('eval "$(reprise completion bash)" && echo taug""ht\n', "taught")
        type_and_see("echo; reprise show op\t", "show open-1 ")
        type_and_see("\x15reprise ps status:compl\t", "status:completed ")
    finally:
        process.kill()
        process.wait(30)
        os.close(parent)


SCRIPTS = {
    "zsh": 'autoload -Uz compinit && compinit -u -d /dev/null; eval "$(reprise completion zsh)"; echo $_comps[reprise]',
    "fish": "reprise completion fish | source; complete -C 'reprise show op'",
}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_other_shells_take_their_script(filled, name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [name, "-c", SCRIPTS[name]],
        cwd=filled.folder,
        env=filled.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("open-1" if name == "fish" else "_reprise") in done.stdout, done.stderr
