"""Talking with a run from the command line: query, update, answer, beside a worker."""

import json
import time

import pytest

FLOW = """
import asyncio
from dataclasses import dataclass
from typing import Literal
from reprise import ask, query, step, stream, update, workflow

@dataclass
class Verdict:
    colour: Literal["red", "blue"]
    note: str = ""

@step
async def price(item: str) -> int:
    return len(item)

@workflow
async def cart() -> str:
    items: list[str] = []

    def is_item(item: str, times: int = 1) -> None:
        if not item:
            raise ValueError("an item has a \\x1b]0;title\\x07name")

    @query
    def content(least: int = 0) -> list[str]:
        return [item for item in items if len(item) >= least]

    @update(validator=is_item)
    async def add(item: str, times: int = 1) -> int:
        items.extend([item] * times)
        return times * await price(item)

    verdict = await ask(Verdict, "Which \\x1b[2Jcolour?", to="sales", timeout=1000)
    await says()
    return f"{verdict.colour} {verdict.note} {len(items)}"

tries = []

@step
async def says() -> None:
    out = stream("tokens")
    tries.append(1)
    for text in ("one ", "two \\x1b[31mred"):
        await out.write(text)
    if len(tries) == 1:
        raise ConnectionError
    await out.write({"n": 3})
"""


@pytest.fixture
def worker(shell):
    (shell.folder / "talk.py").write_text(FLOW)
    assert shell("run", "talk.py", "--id", "c", "--detach").returncode == 0
    started = shell.start("worker", "talk.py")
    until = time.monotonic() + 20
    while "Which" not in shell.inside("answer", "c").stdout:
        assert time.monotonic() < until
    return started


def test_a_run_is_asked_changed_and_answered(shell, worker):
    assert json.loads(shell.inside("update", "c", "add", "tea", "times=2").stdout) == 6
    assert json.loads(shell.inside("update", "c", "add", '"rum"', "--key", "k").stdout) == 3
    assert json.loads(shell.inside("update", "c", "add", '"rum"', "--key", "k").stdout) == 3
    assert json.loads(shell.inside("query", "c", "content").stdout) == ["tea", "tea", "rum"]
    assert json.loads(shell.inside("query", "c", "content", "least=4").stdout) == []

    refused = shell.inside("update", "c", "add", '""')
    assert (refused.returncode, "an item has a name" in refused.stderr, "\x1b]" in refused.stderr) == (
        7,
        True,
        False,
    )
    unknown = shell.inside("query", "c", "contents")
    assert (unknown.returncode, "It has: content" in unknown.stderr) == (3, True)

    page = shell.inside("show", "c")
    assert "asks sales  Which colour?" in page.stdout
    assert "colour: blue, red" in page.stdout
    assert "note: string (optional)" in page.stdout
    assert "reprise answer c --field colour=… --field note=…" in page.stderr
    assert "asks sales: Which colour?" in shell.inside("ps").stdout
    (question,) = json.loads(shell.inside("answer", "c", "-o", "json").stdout)
    assert question["schema"]["$defs"]["Verdict"]["required"] == ["colour"]

    wrong = shell.inside("answer", "c", "--field", "colour=green")
    assert (wrong.returncode, '"green" is none of' in wrong.stderr) == (2, True)
    done = shell.inside("answer", "c", "--field", "colour=red", "--field", "note=why not", "--by", "ada")
    assert (done.returncode, "Run c has the answer." in done.stderr) == (0, True)
    again = shell.inside("answer", "c", "--field", "colour=blue", "--question", question["key"])
    assert again.returncode == 7
    assert "answered by ada" in again.stderr

    until = time.monotonic() + 10
    while (fact := json.loads(shell.inside("show", "c", "-o", "json").stdout))["status"] != "completed":
        assert time.monotonic() < until
    assert (fact["result"], fact["questions"]) == ("red why not 3", [])
    named = shell.inside("stream", "c")
    assert (named.stdout, named.stderr) == ("tokens\n", "")
    said = shell.inside("stream", "c", "tokens")
    assert said.stdout == 'one two \x1b[31mred\none two \x1b[31mred\n{"n":3}\n'
    assert "says begins anew" in said.stderr
    rows = [
        json.loads(row)
        for row in shell.inside("stream", "c", "tokens", "-f", "-o", "jsonl").stdout.splitlines()
    ]
    assert [row["offset"] for row in rows] == list(range(1, 7))
    assert [row["restarts"] for row in rows] == [False, False, True, False, False, False]
    assert json.loads(shell.inside("stream", "c", "tokens", "--after", "5", "-o", "json").stdout)[0][
        "value"
    ] == {"n": 3}
    assert shell.inside("stream", "c", "token").returncode == 3
    events = shell.inside("events", "c").stdout
    assert 'add [["tea"],{"times":2}]' in events
    assert ':1.ask = {"colour":"red","note":"why not"} by ada' in events


def test_what_nobody_reads_yet_is_said(shell):
    (shell.folder / "talk.py").write_text(FLOW)
    shell("run", "talk.py", "--id", "c", "--detach")
    late = shell.inside("query", "c", "content", "--timeout", "0.1")
    assert (late.returncode, "Is a worker" in late.stderr) == (5, True)
    late = shell.inside("update", "c", "add", "tea", "--timeout", "0.1", "--key", "k")
    assert (late.returncode, "same id: k" in late.stderr) == (5, True)
    nothing = shell.inside("answer", "c", "yes")
    assert (nothing.returncode, "asks nothing" in nothing.stderr) == (3, True)
    assert shell.inside("answer", "c", "yes", "--field", "a=b").returncode == 2
