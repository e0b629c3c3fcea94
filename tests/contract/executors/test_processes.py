"""Steps in processes, over real ones: what crosses, what is told, how they end, and what becomes of whoever waits."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from tests.contract.executors import crossing
from tests.unit.runtime.scenes import history, kinds, opened, until

import reprise
from reprise import (
    Budget,
    CodecError,
    ConfigurationError,
    Kind,
    PayloadTooLarge,
    ProcessDied,
    StepFailed,
    workflow,
)
from reprise.kernel.events import LogLine, Progress, Spending, log_stream, progress_stream
from reprise.stores.memory import MemoryStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups")


SOURCE = str(Path(reprise.__file__).parents[1])
"""Where programs of their own find what is tested."""
_numbers = count()


def flow_of(asked):
    @workflow(name=f"flow{next(_numbers)}")
    async def flow() -> object:
        return await asked()

    return flow


async def outcome(app, asked, **options):
    return await asyncio.wait_for((await app.start(flow_of(asked), **options)).result(), 30)


async def error_of(app, asked):
    """Return the error that the body is given."""

    async def caught():
        try:
            await asked()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    errors = []
    await outcome(app, caught)
    return errors[0]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for has."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout[:1] in ("", "Z")


async def read_pid(path: Path) -> int:
    await until(path.exists, 30)
    return int(path.read_text())  # noqa: ASYNC240


@contextmanager
def program(folder: Path, text: str, *arguments: str, **options):
    """Run a program of its own, from a file; end it when left."""
    file = folder / "program.py"
    file.write_text(text)
    source = os.pathsep.join([SOURCE, str(Path().absolute())])
    running = subprocess.Popen(
        [sys.executable, "-W", "error", str(file), *arguments],
        env={**os.environ, "PYTHONPATH": source},
        text=True,
        **options,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


# ---------------------------------------------------------------- what crosses


async def test_arguments_and_results_cross_by_their_declared_types():
    async def asked():
        later = await crossing.postponed(crossing.Order(7, date(2026, 2, 1)), days=3)
        return later == crossing.Order(7, date(2026, 2, 4))

    async with opened() as app:
        assert await outcome(app, asked)


async def test_sync_and_async_functions_share_one_warm_process_that_is_not_ours():
    async with opened(processes=1) as app:
        first = await outcome(app, crossing.pid_of)
        await outcome(app, lambda: crossing.echoed("x"))
        assert await outcome(app, crossing.pid_of) == first
        counts = app.engine.statistics()
    assert first != os.getpid()
    assert (counts["processes_alive"], counts["processes_started"], counts["processes_calls"]) == (1, 1, 3)
    assert is_gone(first)


async def test_nothing_is_begun_before_a_step_needs_it():
    async with opened() as app:
        assert app.engine.statistics()["processes_started"] == 0


async def test_large_values_cross_and_too_large_ones_are_refused_as_everywhere():
    large = "ü" * 2_000_000
    async with opened() as app:
        assert await outcome(app, lambda: crossing.echoed(large)) == large
    async with opened(max_payload=100_000) as app:
        error = await error_of(app, lambda: crossing.echoed("x" * 100_001))
        assert isinstance(error, PayloadTooLarge)
        assert "The arguments of step echoed" in str(error)
        error = await error_of(app, lambda: crossing.doubled("x" * 60_000))
        assert isinstance(error, PayloadTooLarge)
        assert "The result of step doubled (:1.doubled) has 120,002 bytes" in str(error)


async def test_what_has_no_json_form_is_an_error_of_the_call_and_names_it():
    async with opened() as app:
        error = await error_of(app, lambda: crossing.anything(object()))
        assert isinstance(error, CodecError)
        assert "Parameter 'value' of anything" in str(error)


async def test_a_step_knows_itself_tells_progress_logs_and_has_declared_variables(caplog):
    store = MemoryStore()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)

    async def asked():
        crossing.TENANT.set("t1")
        return await crossing.about_itself()

    try:
        async with opened(store, capture_logs=True, variables={"tenant": crossing.TENANT}) as app:
            said = await outcome(app, asked, id="one")
    finally:
        root.setLevel(level)
    key = ":1.about_itself"
    assert (said["run"], said["key"], said["attempt"], said["tenant"]) == ("one", key, "1", "t1")
    await store.start()
    lines = [msgspec.json.decode(each.data, type=LogLine) for each in await store.log.read(log_stream("one"))]
    assert [(line.level, line.logger, line.key) for line in lines] == [
        ("INFO", "shop", key),
        ("ERROR", "shop", key),
    ]
    assert lines[0].text == "packing about_itself"
    assert "KeyError: 'lost'" in lines[1].text
    told = [
        msgspec.json.decode(each.data, type=Progress) for each in await store.log.read(progress_stream("one"))
    ]
    assert told == [Progress(key, 1, 2, "half of it")]
    mine = [record for record in caplog.records if record.name == "shop"]
    assert [record.funcName for record in mine] == ["about_itself", "about_itself"], "our own handlers too"


async def test_the_idempotency_key_is_the_one_that_it_has_in_this_process():
    @workflow
    async def here() -> dict[str, str]:
        return await crossing.about_itself.options(executor="inline")()

    @workflow
    async def there() -> dict[str, str]:
        return await crossing.about_itself()

    async with opened() as app, opened() as other:
        one = await app.start(here, id="one")
        two = await other.start(there, id="one")
        assert (await one.result())["idempotency"] == (await two.result())["idempotency"]


async def test_what_a_step_says_that_it_costs_is_booked():
    store = MemoryStore()
    async with opened(store) as app:
        await app.run(flow_of(crossing.paying), id="one", budget=Budget(tokens=100))
    notes = [each for each in await history(store, "one") if each.kind == Kind.BUDGET]
    spent = msgspec.json.decode(notes[-1].data, type=Spending).cost
    assert (spent.tokens, spent.usd) == (42, 0.5)


async def test_what_a_step_says_that_it_costs_is_nobodys_where_there_are_no_books():
    async with opened() as app:
        await outcome(app, crossing.paying)
        assert app.engine.statistics()["processes_died"] == 0


async def test_functions_are_found_under_their_own_names():
    async with opened() as app:
        assert await outcome(app, lambda: crossing.renamed(1)) == 2
        assert await outcome(app, lambda: crossing.Kitchen.cook(2)) == 4


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("what", "tries", "kind"),
    [
        ("unregistered", 1, StepFailed),
        ("declined", 3, crossing.Declined),
        ("http", 1, StepFailed),
        ("busy", 3, StepFailed),
        ("exit", 3, StepFailed),
        ("group", 1, ExceptionGroup),
    ],
)
async def test_errors_cross_and_are_judged_as_if_raised_here(tmp_path, what, tries, kind):
    path = tmp_path / "tries"
    async with opened() as app:
        error = await error_of(app, lambda: crossing.failing(what, path))
    assert type(error) is kind
    assert len(path.read_text().split()) == tries
    path.unlink()
    here = crossing.failing.options(executor="thread")
    async with opened() as app:
        ours = await error_of(app, lambda: here(what, path))
    assert (type(ours), len(path.read_text().split())) == (kind, tries), "a thread says the same"


async def test_a_class_that_only_this_program_knows_is_asked_for_by_retry_on(tmp_path):
    path = tmp_path / "tries"
    from reprise import Retry

    eager = crossing.failing.options(retry=Retry(2, backoff=0, retry_on=crossing.Unregistered))
    async with opened() as app:
        await error_of(app, lambda: eager("unregistered", path))
    assert path.read_text().split() == ["1", "2"]


async def test_an_error_too_large_to_be_recorded_is_said_to_be(tmp_path):
    async with opened(max_payload=100_000) as app:
        error = await error_of(app, lambda: crossing.failing("long", tmp_path / "tries"))
        assert isinstance(error, PayloadTooLarge)
        assert await outcome(app, lambda: crossing.echoed("goes on")) == "goes on"
        assert app.engine.statistics()["processes_died"] == 0


# ---------------------------------------------------------------- how processes end


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
async def test_a_process_that_is_killed_is_an_unknown_outcome_and_is_not_repeated(number):
    store = MemoryStore()
    async with opened(store, processes=1) as app:
        before = await outcome(app, crossing.pid_of)
        with pytest.raises(ProcessDied) as caught:
            await outcome(app, lambda: crossing.killed(int(number)), id="one")
        died = caught.value
        assert (died.reason, died.signal, died.exit_code) == ("signal", number, None)
        assert number.name in str(died)
        assert await outcome(app, crossing.pid_of) != before, "a fresh one took its place"
        assert app.engine.statistics()["processes_started"] == 2
        assert app.engine.statistics()["processes_died"] == 1
    assert "STEP_RETRYING" not in kinds(await history(store, "one"))


async def test_an_idempotent_step_is_tried_again():
    async with opened() as app:
        assert await outcome(app, crossing.killed_at_first) == 2


async def test_whatever_is_killed_all_steps_are_done_and_no_process_is_left():
    @workflow
    async def many() -> list[int]:
        return await asyncio.gather(*(crossing.taking_its_time(n) for n in range(80)))

    killed, most = set(), 0
    async with opened(processes=2) as app:
        running = await app.start(many)
        processes = app.engine.pool._executors["process"]
        while len(killed) < 6:
            await asyncio.sleep(0.05)
            pids = {each.pid for each in processes._all if each.opened.done()} - killed
            most = max(most, len(processes._all))
            if pids:
                os.kill(victim := pids.pop(), signal.SIGKILL)
                killed.add(victim)
        assert await asyncio.wait_for(running.result(), 40) == list(range(80))
        counts = app.engine.statistics()
    assert counts["processes_died"] == len(killed)
    assert counts["processes_started"] >= len(killed)
    assert most <= 4, "two, and two that are ending"
    assert all(is_gone(pid) for pid in killed)
    assert not processes._all


async def test_a_process_that_leaves_by_itself_says_its_code():
    async with opened() as app:
        died = await error_of(app, lambda: crossing.leaving(3))
    assert (type(died), died.reason, died.exit_code) == (ProcessDied, "exit", 3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits memory")
async def test_memory_beyond_the_limit_is_refused_and_the_process_makes_room_for_a_fresh_one():
    async with opened(processes=1) as app:
        before = await outcome(app, crossing.pid_of)
        assert await outcome(app, lambda: crossing.taking(50)) == 50
        assert await outcome(app, lambda: crossing.taking_freely(300)) == 300, "the limit was the call's"
        assert await outcome(app, crossing.pid_of) == before
        error = await error_of(app, lambda: crossing.taking(600))
        assert type(error).__name__ == "MemoryExceeded"
        assert "taking asked for more memory than its 150,000,000 bytes" in str(error)
        assert await outcome(app, crossing.pid_of) != before
        assert await outcome(app, lambda: crossing.taking_freely(600)) == 600, "control: without a limit"


async def test_cpu_beyond_the_limit_ends_the_process():
    async with opened() as app:
        died = await error_of(app, crossing.burning)
    assert (type(died), died.reason, died.signal) == (ProcessDied, "cpu", signal.SIGXCPU)
    assert "more CPU than its 1.0 s" in str(died)


async def test_a_stopped_process_is_noticed(tmp_path):
    path = tmp_path / "work"
    async with opened(processes={"silence": 1.2}) as app:
        asking = asyncio.ensure_future(error_of(app, lambda: crossing.growing(path)))
        pid = await read_pid(path.with_suffix(".pid"))
        await asyncio.sleep(1.8)
        assert not asking.done(), "signs of life come although the step itself says nothing"
        os.kill(pid, signal.SIGSTOP)
        died = await asking
        assert (type(died), died.reason) == (ProcessDied, "silence")
        assert is_gone(pid)


async def test_a_process_that_never_lets_go_of_the_interpreter_is_noticed(tmp_path):
    async with opened(processes={"silence": 1.2}) as app:
        died = await error_of(app, lambda: crossing.stuck(tmp_path / "pid"))
    assert died.reason == "silence"


async def test_a_process_that_writes_into_our_connection_is_killed():
    async with opened() as app:
        died = await error_of(app, crossing.babbling)
    assert (died.reason, died.signal) == ("frame", signal.SIGKILL)


async def test_an_idle_process_that_was_killed_costs_nothing():
    async with opened(processes=1) as app:
        before = await outcome(app, crossing.pid_of)
        os.kill(before, signal.SIGKILL)
        assert await outcome(app, crossing.pid_of) != before


async def test_processes_are_recycled_after_calls_and_by_growth():
    async with opened(processes={"size": 1, "recycle_after": 2}) as app:
        pids = [await outcome(app, crossing.pid_of) for _ in range(4)]
        assert app.engine.statistics()["processes_recycled"] == 2
    assert pids[0] == pids[1] != pids[2] == pids[3]
    async with opened(processes={"size": 1, "recycle_growth": 30_000_000}) as app:
        pids = [await outcome(app, lambda: crossing.hoarding(20)) for _ in range(4)]
    assert pids[0] == pids[1] == pids[2] != pids[3], "20 at first, then 20 and 40 more"


# ---------------------------------------------------------------- cancelling, timeouts, the end


async def test_cancelling_really_stops_the_work(tmp_path):
    path = tmp_path / "work"
    async with opened(processes=1) as app:
        handle = await app.start(flow_of(lambda: crossing.growing(path)))
        pid = await read_pid(path.with_suffix(".pid"))
        await handle.cancel()
        assert (await handle.finished(20)).status == "cancelled"
        assert is_gone(pid), "recorded as cancelled only when it has stopped"
        size = path.stat().st_size
        assert await outcome(app, lambda: crossing.echoed("a fresh one")) == "a fresh one"
        assert path.stat().st_size == size
        assert app.engine.statistics()["processes_killed"] == 1


async def test_control_cancelling_a_thread_does_not(tmp_path):
    path = tmp_path / "work"
    async with opened() as app:
        handle = await app.start(flow_of(lambda: crossing.growing_in_a_thread(path)))
        await until(path.exists)
        await handle.cancel()
        assert (await handle.finished(20)).status == "cancelled"
        size = path.stat().st_size
        await until(lambda: path.stat().st_size > size)
        path.with_suffix(".stop").touch()


@pytest.mark.parametrize("name", ["tidy", "tidy_async", "tidy_at_work"])
async def test_a_cancelled_step_may_clean_up(tmp_path, name):
    path = tmp_path / "work"
    async with opened(processes={"grace": 20}) as app:
        handle = await app.start(flow_of(lambda: getattr(crossing, name)(path)))
        await read_pid(path.with_suffix(".pid"))
        await handle.cancel()
        assert (await handle.finished(20)).status == "cancelled"
    assert path.read_text() == "cleaned up"


async def test_who_does_not_listen_is_killed_after_the_grace(tmp_path):
    path = tmp_path / "work"
    async with opened(processes={"grace": 0.2}) as app:
        handle = await app.start(flow_of(lambda: crossing.obstinate(path)))
        pid = await read_pid(path.with_suffix(".pid"))
        await handle.cancel()
        assert (await handle.finished(20)).status == "cancelled"
        assert is_gone(pid)


async def test_a_timeout_stops_the_work_before_it_is_tried_again(tmp_path):
    path = tmp_path / "work"
    store = MemoryStore()
    async with opened(store) as app:
        assert await outcome(app, lambda: crossing.late(path), id="one") == 2
        assert is_gone(await read_pid(path.with_suffix(".pid")))
    assert kinds(await history(store, "one")).count("STEP_RETRYING") == 1


async def test_waiting_for_a_process_is_no_part_of_the_timeout(tmp_path):
    path = tmp_path / "go"

    async def asked():
        held = asyncio.ensure_future(crossing.pid_and_wait(path))
        return [await crossing.brief(), await held]

    async with opened(processes=1) as app:
        handle = await app.start(flow_of(asked))
        await until(lambda: app.engine.statistics()["processes_busy"] == 1, 20)
        await asyncio.sleep(0.8)
        path.touch()
        assert (await handle.result())[0] == "done"
        assert app.engine.statistics()["processes_started"] == 1


async def test_importing_is_no_part_of_the_timeout(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = """
        import sys, time
        from reprise import Retry, step
        time.sleep(1.5 if "reprise.runtime.executors.inside" in sys.modules else 0)
        @step(executor="process", timeout=1, retry=Retry(1))
        def quick() -> int: return 1
    """
    (tmp_path / "slow_to_import.py").write_text(dedent(text))
    import slow_to_import

    async with opened() as app:
        assert await outcome(app, slow_to_import.quick) == 1


async def test_what_a_step_started_is_killed_with_it(tmp_path):
    async with opened() as app:
        handle = await app.start(flow_of(lambda: crossing.with_children(tmp_path)))
        await read_pid(tmp_path / "step.pid")
        child = await read_pid(tmp_path / "child.pid")
        await handle.cancel()
        await handle.finished(20)
        await until(lambda: is_gone(child))


async def test_an_end_is_noticed_although_its_children_hold_the_connection(tmp_path):
    async with opened() as app:
        asking = asyncio.ensure_future(error_of(app, lambda: crossing.with_children(tmp_path)))
        pid = await read_pid(tmp_path / "step.pid")
        os.kill(pid, signal.SIGKILL)
        assert (await asking).signal == signal.SIGKILL
        assert is_gone(await read_pid(tmp_path / "child.pid"))


async def test_closing_lets_steps_end_within_the_grace(tmp_path):
    path = tmp_path / "go"
    store = MemoryStore()
    async with opened(store, grace=20, processes=1) as app:
        await app.start(flow_of(lambda: crossing.pid_and_wait(path)), id="one")
        await until(lambda: app.engine.statistics()["processes_busy"] == 1, 20)
        asyncio.get_running_loop().call_later(0.2, path.touch)
    assert "STEP_COMPLETED" in kinds(await history(store, "one"))


async def test_closing_kills_what_does_not_end_and_the_run_goes_on_elsewhere(tmp_path):
    path = tmp_path / "go"
    store = MemoryStore()
    flow = flow_of(lambda: crossing.pid_and_wait(path))
    async with opened(store, processes=1) as app:
        await app.start(flow, id="one")
        await until(lambda: app.engine.statistics()["processes_busy"] == 1, 20)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert "STEP_CANCELLED" not in kinds(await history(store, "one"))
    path.touch()
    async with opened(store, workflows=[flow]) as app:
        assert (await app.handle("one").finished(20)).status == "completed"


# ---------------------------------------------------------------- functions that no process finds


async def test_a_function_that_is_not_where_its_name_says_is_refused():
    async with opened() as app:
        crossing.plain, kept = crossing.killed.function, crossing.plain
        try:
            error = await error_of(app, lambda: crossing.renamed(1))
        finally:
            crossing.plain = kept
    assert isinstance(error, ConfigurationError)
    assert "has another 'plain'" in str(error)


async def test_a_module_that_cannot_be_imported_again_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from reprise import step\n@step(executor='process')\ndef late() -> int: return 1\n"
    (tmp_path / "changing_step.py").write_text(text)
    import changing_step

    (tmp_path / "changing_step.py").write_text("raise OSError('gone')" + " " * 100)
    async with opened() as app:
        error = await error_of(app, changing_step.late)
        assert isinstance(error, ConfigurationError)
        assert "cannot import changing_step:late: OSError: gone" in str(error)
        assert await outcome(app, lambda: crossing.echoed("goes on")) == "goes on"


PROGRAM = """
import asyncio, os, sys
from dataclasses import dataclass
from reprise import Reprise, step, workflow

@dataclass
class Point:
    x: int

class Lost(Exception):
    pass

@step(executor="process")
def move(point: Point) -> Point:
    print("printed in the process")
    os.write(1, b"and below Python\\n")
    return Point(point.x + 1)

@step(executor="process")
def lose() -> None:
    raise Lost("where")

@workflow
async def flow() -> list:
    moved = await move(Point(1))
    try:
        await lose()
    except Exception as error:
        return [isinstance(moved, Point), moved.x, error.type, sys.argv[1:]]

async def main() -> None:
    async with Reprise("memory://") as app:
        print(await app.run(flow))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_program_is_found_by_its_file_and_what_processes_print_is_not_its_output(tmp_path):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with program(tmp_path, PROGRAM, "--fast", **pipes) as running:
        out, err = running.communicate(timeout=50)
    assert (running.returncode, out) == (0, "[True, 2, '__main__.Lost', ['--fast']]\n"), err
    assert err.splitlines() == ["printed in the process", "and below Python"]


def test_loops_of_others_do(tmp_path):
    text = PROGRAM.replace("asyncio.run(main())", "uvloop.run(main())").replace(
        "import asyncio, os", "import asyncio, os, uvloop"
    )
    with program(tmp_path, text, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        out, err = running.communicate(timeout=50)
    assert (running.returncode, out) == (0, "[True, 2, '__main__.Lost', []]\n"), err


def test_a_program_in_a_package_keeps_its_relative_imports(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "part.py").write_text("WORD = 'part'\n")
    text = PROGRAM.replace('"printed in the process"', "WORD").replace(
        "import asyncio", "from .part import WORD\nimport asyncio", 1
    )
    (folder / "__main__.py").write_text(text)
    source = os.pathsep.join([SOURCE, str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-m", "shop"],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert done.stderr.splitlines()[0] == "part"
    assert "__main__.Lost" in done.stdout


def test_a_program_that_runs_when_it_is_imported_does_not_run_twice(tmp_path):
    text = PROGRAM.replace('if __name__ == "__main__":\n    ', "")
    with program(tmp_path, text, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        out, err = running.communicate(timeout=50)
    assert running.returncode != 0
    assert out == ""
    assert 'if __name__ == "__main__":' in err


def test_a_program_without_a_file_says_what_to_do():
    source = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=source, capture_output=True, text=True, check=False, timeout=50)
    assert "its program has no file" in done.stderr
    assert "Put the step into a module" in done.stderr


# ---------------------------------------------------------------- a worker that is killed


WORKER = """
import asyncio, sys
from pathlib import Path
from reprise import Reprise, workflow
from tests.contract.executors.crossing import with_children

@workflow
async def flow() -> None:
    await with_children(Path(sys.argv[1]), escaping=True)

async def main() -> None:
    async with Reprise("memory://") as app:
        await app.run(flow)

asyncio.run(main())
"""


OWNER = """
import asyncio, sys
from pathlib import Path
from reprise import Reprise
from tests.contract.executors.crossing import marked

async def main() -> None:
    async with Reprise(sys.argv[1], processes=1) as app:
        await app.run(marked, Path(sys.argv[2]), id="one")

asyncio.run(main())
"""


async def test_whoever_takes_a_run_over_executes_the_step_alone(tmp_path):
    store, path = f"sqlite:///{tmp_path / 'runs.db'}", tmp_path / "marks"
    with program(tmp_path, OWNER, store, str(path)) as owner:
        await until(lambda: path.exists() and path.stat().st_size > 100, 30)
        owner.kill()
        owner.wait()
        async with opened(store, workflows=[crossing.marked]) as app:
            first = path.read_text().split()[0]
            await until(lambda: path.read_text().split()[-1] != first, 30)
            path.with_suffix(".enough").touch()
            second = str(await app.handle("one").result(30))
    marks = path.read_text().split()
    assert marks == sorted(marks, key=[first, second].index), "one after the other, never both"
    assert set(marks) == {first, second}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
async def test_the_kernel_ends_a_process_with_its_worker():
    async def asked():
        return list(await crossing.what_ends_it())

    async with opened() as app:
        assert await outcome(app, asked) == [signal.SIGKILL, "reprise-step"]


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_a_worker_that_is_killed_leaves_no_orphans(tmp_path, stopped):
    with program(tmp_path, WORKER, str(tmp_path)) as worker:
        step, child, other = [await read_pid(tmp_path / f"{name}.pid") for name in ("step", "child", "other")]
        try:
            if stopped:
                os.kill(step, signal.SIGSTOP)
            worker.kill()
            worker.wait()
            await until(lambda: is_gone(step) and is_gone(child), 20)
            assert not is_gone(other), "control: who left the group is nobody's, and is seen to be"
        finally:
            os.kill(other, signal.SIGKILL)
