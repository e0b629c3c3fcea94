"""``reprise locks`` and ``reprise leader``: a process holds, others look and take it away."""

import json
import sys
from subprocess import PIPE, Popen

PROGRAM = """
import asyncio
from reprise import LeaderElection, LeadershipLost, LockLost, LockManager


async def locked(manager, name):
    try:
        async with manager.lock(name, ttl=600):
            print("in", name, flush=True)
            await asyncio.sleep(3600)
    except LockLost:
        print("lost", name, flush=True)


async def led(election):
    try:
        async with election.campaign():
            print("leads", flush=True)
            await asyncio.sleep(3600)
    except LeadershipLost:
        print("leads no more", flush=True)


async def main():
    url = "sqlite:///locks.db"
    async with LockManager(url, owner="host-7") as manager, LeaderElection(url, "reports", candidate_id="c-1") as election:
        await asyncio.gather(locked(manager, "invoice/1"), locked(manager, "other"), led(election))


asyncio.run(main())
"""


def test_what_is_held_is_listed_and_taken_away(shell):
    (shell.folder / "holds.py").write_text(PROGRAM)
    with Popen([sys.executable, "holds.py"], cwd=shell.folder, stdout=PIPE, text=True) as process:
        try:
            assert {process.stdout.readline() for _ in range(3)} == {
                "in invoice/1\n",
                "in other\n",
                "leads\n",
            }
            store = ("--store", "sqlite:///locks.db")

            def asked(*arguments):
                done = shell.inside(*arguments, *store)
                assert done.returncode == 0, done.stderr
                return done

            facts = list(map(json.loads, asked("locks", "list", "-o", "jsonl").stdout.splitlines()))
            assert [fact["lock"] for fact in facts] == ["invoice/1", "other"]
            assert all(fact["owner"].startswith("host-7/Task-") for fact in facts)
            assert asked("locks", "list", "invoice/").stdout.count("host-7") == 1
            assert "invoice/1" in asked("locks", "break", "invoice/1").stdout
            assert process.stdout.readline() == "lost invoice/1\n"
            assert "held by nobody" in asked("locks", "break", "invoice/1").stderr
            assert "c-1" in asked("leader", "list").stdout
            [gone] = json.loads(asked("leader", "resign", "reports", "-o", "json").stdout)
            assert (gone["election"], gone["leader"]) == ("reports", "c-1")
            assert process.stdout.readline() == "leads no more\n"
            assert "Nobody leads" in asked("leader", "list").stderr
            assert "has no leader" in asked("leader", "resign", "reports").stderr
            asked("locks", "break", "other")
            assert process.wait(timeout=30) == 0
            assert "No lock is held" in asked("locks", "list").stderr
        finally:
            process.kill()
