"""kill -9 of workers and of those who talk with runs: updates once, one answer, no chunk lost or doubled."""

import asyncio
import random
import time
from collections import Counter

import msgspec
import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.helping import help_some
from tests.crash.talk_main import CHUNKS, RUNS, STEPS, Notes

from reprise import Reprise, open_store
from reprise.kernel.events import Finished, Kind

ROUNDS = max(1, CYCLES // 200)
MUST_OCCUR = {
    "processes killed while they talked": "scenes",
    "control: doubled for who does not heed them": "chunks read under kills",
    "attempts that began anew": "chunks read under kills",
}


class Scene:
    """A worker and some who talk, each killed now and then and replaced."""

    def __init__(self, nursery, folder, counts, seed):
        folder.mkdir()
        counts["scenes"] += 1
        self.nursery, self.folder, self.counts = nursery, folder, counts
        self.dice = random.Random(seed)
        self.store = f"sqlite:///{folder}/runs.db"
        self.who = {}

    def start(self, job, **options):
        """Start a process; one that ends by itself is done."""
        pid = self.nursery.spawn("talk", self.folder, store=self.store, job=job, **options)
        self.who[pid] = (job, options)

    def kill_until_done(self, pause, *, mercy=60):
        """Kill and replace until all but the worker are done; return how many kills that were."""
        kills, until = 0, time.monotonic() + mercy
        while any(job != "work" for job, _ in self.who.values()):
            time.sleep(self.dice.random() * pause)
            assert time.monotonic() < until, (self.folder / "stderr").read_text()
            for pid in list(self.who):
                if (status := self.nursery.ended(pid)) is not None:
                    assert status == 0, (self.folder / "stderr").read_text()
                    del self.who[pid]
            if not any(job != "work" for job, _ in self.who.values()):
                break
            self.kill(self.dice.choice(list(self.who)))
            asyncio.run(self.help())
            kills += 1
            pause *= 1.03  # so that it ends
        return kills

    async def help(self):
        """Let runs go on of which the worker was killed too often."""
        async with Reprise(self.store, worker=False, capture_logs=False) as app:
            await help_some(app, self.counts)

    def kill(self, pid):
        """Kill one and start another in its place."""
        job, options = self.who.pop(pid)
        self.nursery.kill(pid)
        self.counts["processes killed while they talked"] += 1
        self.start(job, **options)

    def kill_the_worker_after(self, count, job, name):
        """Kill it when somebody was told so much."""
        until = time.monotonic() + 60
        while len(self.notes(job, name)) < count:
            assert time.monotonic() < until, (self.folder / "stderr").read_text()
            time.sleep(0.005)
        self.kill(next(pid for pid, (does, _) in self.who.items() if does == "work"))

    def notes(self, job, name=""):
        """Return what a process was told."""
        return Notes(self.folder / f"{job}-{name}.jsonl").read()

    def read(self, *streams):
        """Return what the store holds."""

        async def read():
            store = open_store(self.store)
            await store.start()
            try:
                assert await store.verify() == []
                return [await store.log.read(stream) for stream in streams]
            finally:
                await store.stop()

        return asyncio.run(read())

    def result(self, run):
        """Return the result of a run, once it has one."""
        until = time.monotonic() + 20
        while True:
            (records,) = self.read(f"run/{run}")
            if records and records[-1].kind == Kind.RUN_FINISHED:
                return msgspec.json.decode(msgspec.json.decode(records[-1].data, type=Finished).value)
            assert time.monotonic() < until, f"{run} does not end"
            time.sleep(0.02)


def pay(scene, *, careless):
    """Let an account be paid into under kills; return what was applied and what the caller was told."""
    scene.start("work")
    scene.start("updates", careless=careless)
    kills = scene.kill_until_done(0.25)
    applied = scene.result("account")
    told = dict(scene.notes("updates"))
    return kills, applied, told


@pytest.mark.timeout(90)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_an_update_is_applied_once_and_its_caller_gets_the_answer(number, nursery, tmp_path, counts, request):
    scene = Scene(nursery, tmp_path / "s", counts, SEED + number)
    kills, applied, told = pay(scene, careless=False)
    assert kills, "nothing was killed: it says nothing"
    assert len(applied) == len(set(applied)), again(request, SEED + number)
    assert all(n % 5 != 4 for n in applied)
    for n, reply in told.items():
        assert reply == "refused" if n % 5 == 4 else applied[reply - 1] == n, again(request, SEED + number)
    counts["updates applied once"] += len(applied)
    counts["updates refused"] += sum(reply == "refused" for reply in told.values())


@pytest.mark.timeout(90)
def test_control_updates_without_an_id_are_applied_twice(nursery, tmp_path, counts):
    doubled = 0
    for number in range(5):
        _, applied, _ = pay(Scene(nursery, tmp_path / f"s{number}", counts, SEED + number), careless=True)
        doubled += len(applied) - len(set(applied))
        nursery.kill(*nursery.alive)
        if doubled:
            break
    counts["control: applied twice without an id"] += doubled
    assert doubled, "no update was doubled where some must be: the zero of the other test means nothing"


def vote(scene, *, careless):
    """Let three answer each run under kills; return who won by the runs, and who was told so."""
    scene.start("work")
    for number in range(3):
        scene.start("answers", name=f"p{number}", number=number, careless=careless)
    kills = scene.kill_until_done(0.2)
    results = {f"q{n}": scene.result(f"q{n}") for n in range(RUNS)}
    told = Counter()
    wrong = []
    for number in range(3):
        for run, outcome in scene.notes("answers", f"p{number}"):
            told[run] += outcome == "won"
            if (outcome == "won") != (results[run] == number):
                wrong.append((run, number, outcome, results[run]))
    return kills, told, wrong


@pytest.mark.timeout(90)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_answer_wins_and_only_its_sender_is_told_so(number, nursery, tmp_path, counts, request):
    kills, told, wrong = vote(Scene(nursery, tmp_path / "s", counts, SEED + number), careless=False)
    assert kills
    assert not wrong, again(request, SEED + number)
    assert sorted(told.values()) == [1] * RUNS, again(request, SEED + number)
    counts["questions answered once by three"] += RUNS


@pytest.mark.timeout(90)
def test_control_signals_tell_everybody_that_theirs_counts(nursery, tmp_path, counts):
    _, told, wrong = vote(Scene(nursery, tmp_path / "s", counts, SEED), careless=True)
    counts["control: told so and not heard, by signals"] += len(wrong)
    assert wrong, "signals would do as well as questions: the other test means nothing"
    assert told


def believed(chunks, *, heeds_restarts=True):
    """Return what a reader has in the end, by step; what it was told is void is thrown away."""
    kept = {}
    for _, step, restarts, value in chunks:
        if not restarts:
            kept.setdefault(step, []).append(value)
        elif heeds_restarts:
            kept[step] = []
    return kept


@pytest.mark.timeout(90)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_reader_that_resumes_by_offset_misses_nothing_and_has_nothing_twice(
    number, nursery, tmp_path, counts, request
):
    scene = Scene(nursery, tmp_path / "s", counts, SEED + number)
    scene.start("work")
    scene.start("reads", name="words")
    scene.start("reads", name="said")
    for step in (1, 2):
        scene.kill_the_worker_after(step * CHUNKS + CHUNKS // 4, "reads", "words")
    scene.kill_until_done(0.3)
    words, said = scene.notes("reads", "words"), scene.notes("reads", "said")
    for chunks in (words, said):
        assert [chunk[0] for chunk in chunks] == list(range(1, len(chunks) + 1)), again(
            request, SEED + number
        )
    assert [chunk[3] for chunk in said] == list(range(STEPS)), again(request, SEED + number)
    whole = [[[number, n] for n in range(CHUNKS)] for number in range(STEPS)]
    assert list(believed(words).values()) == whole, again(request, SEED + number)
    counts["chunks read under kills"] += len(words) + len(said)
    counts["attempts that began anew"] += sum(chunk[2] for chunk in words)
    # The control: who does not heed the marks has chunks twice.
    heedless = believed(words, heeds_restarts=False)
    doubled = sum(len(chunks) - CHUNKS for chunks in heedless.values())
    counts["control: doubled for who does not heed them"] += doubled
    (history,) = scene.read("run/speaks")
    assert Kind.CHUNK not in {record.kind for record in history}
