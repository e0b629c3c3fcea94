"""The command line on PostgreSQL: the same commands, and workers that nobody coordinates."""

import asyncio
import json
import signal

import pytest
from tests.contract.postgres.keeper import PostgresKeeper


@pytest.fixture
def store(postgres):
    """A URL with a schema that no other test uses."""
    keeper = PostgresKeeper(postgres.url)
    yield f"{keeper.dsn}&schema={keeper.schema}"
    asyncio.run(keeper.close())


def test_runs_live_on_a_server_and_workers_share_them(shell, store):
    done = shell("run", "flow.py:parent", "-i", "n=4", "--id", "here", "--store", store)
    assert (done.returncode, done.stdout) == (0, "14\n"), done.stderr

    workers = [shell.start("worker", "flow.py", "--store", store) for _ in range(2)]
    for worker in workers:
        worker.wait_for("ready: ")
    assert shell("run", "flow.py:asks", "--detach", "--id", "ada", "--store", store).returncode == 0
    assert shell.inside("signal", "ada", "name", '"Ada"', "--store", store).returncode == 0
    assert shell("run", "flow.py:asks", "--id", "ada", "--store", store).stdout == '"Ada"\n'
    for worker in workers:
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0

    listed = json.loads(shell.inside("ps", "--store", store, "-o", "json").stdout)
    assert {run["id"]: run["status"] for run in listed} == {"here": "completed", "ada": "completed"}
    assert shell.inside("doctor", "--store", store).returncode == 0


def test_many_runs_are_told_on_a_server_too(shell, store):
    assert shell("run", "flow.py:fails", "--id", "bad", "--store", store).returncode == 1
    looked = shell.inside("retry", "-q", "status:failed", "--dry-run", "-o", "json", "--store", store)
    assert json.loads(looked.stdout)[0]["would"] == "go on as bad~2 with 0 steps kept, again: broken"
    assert shell.inside("retry", "bad", "--detach", "--store", store).stdout == "bad~2\n"
    assert shell.inside("retry", "bad", "--detach", "--store", store).returncode == 7
    assert shell("resume", "bad~2", "--store", store).returncode == 1
    assert shell("run", "flow.py:asks", "--detach", "--id", "ada", "--store", store).returncode == 0
    assert shell.inside("cancel", "-q", "status:open", "--store", store).returncode == 0
    assert shell("resume", "ada", "--store", store).returncode == 6
    watched = shell.inside("ps", "--watch", "--times", "1", "-o", "jsonl", "--store", store)
    assert json.loads(watched.stdout)["counts"] == {"cancelled": 1, "failed": 2}
    assert shell.inside("logs", "-q", "status:failed", "--store", store).returncode == 0
