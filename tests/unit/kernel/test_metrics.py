"""Metrics: what is added is there, under its labels, once."""

import sys
from threading import Thread

import pytest

from reprise import ConfigurationError
from reprise.kernel.metrics import MOST, OTHER, SECONDS, Metrics


def told(metrics):
    return {(each.name, *each.labels.values()): each.value for each in metrics.snapshot()}


def test_each_set_of_labels_has_a_number_of_its_own():
    metrics = Metrics()
    doors = metrics.counter("doors", "Doors", "house", "colour")
    rooms = metrics.gauge("rooms", "Rooms")
    doors.of("north", "red").add()
    doors.of("north", "red").add(2)
    doors.of("north", "blue").add(0.5)
    rooms.of().set(7)
    rooms.of().set(3)
    assert told(metrics) == {
        ("doors", "north", "red"): 3,
        ("doors", "north", "blue"): 0.5,
        ("rooms",): 3,
    }
    [door, _, room] = metrics.snapshot()
    assert (door.kind, door.unit, door.text, door.labels) == (
        "counter", "1", "Doors", {"house": "north", "colour": "red"},
    )  # fmt: skip
    assert (room.kind, room.count, room.buckets, room.bounds) == ("gauge", 0, (), ())


def test_a_histogram_counts_in_buckets_up_to_their_bounds():
    metrics = Metrics()
    waits = metrics.histogram("waits", "Waits").of()
    for seconds in (0.0, SECONDS[0], SECONDS[1], SECONDS[-1], SECONDS[-1] + 1):
        waits.observe(seconds)
    [sample] = metrics.snapshot()
    assert sample.bounds == SECONDS
    assert sample.buckets == (2, 1, *[0] * (len(SECONDS) - 3), 1, 1)
    assert (sample.count, sample.unit) == (5, "s")
    assert sample.value == pytest.approx(SECONDS[0] + SECONDS[1] + 2 * SECONDS[-1] + 1)


def test_what_is_counted_elsewhere_is_asked_for_and_stays_when_that_ends():
    metrics = Metrics()
    reads = metrics.counter("reads", "Reads", "of")
    age = metrics.gauge("age", "Age", "of")
    numbers = {"a": 1, "b": 10}
    ends = [reads.ask(lambda: numbers["a"], "x"), reads.ask(lambda: numbers["b"], "x")]
    ends += [age.ask(lambda: 3.0, "x"), age.ask(lambda: 2.0, "x")]
    assert told(metrics) == {("reads", "x"): 11, ("age", "x"): 3.0}
    numbers["b"] = 20
    for end in [*ends, *ends]:
        end()
    numbers["a"] = 1000
    assert told(metrics) == {("reads", "x"): 21}
    reads.of("x").add()
    ends = reads.ask(lambda: numbers["b"], "x")
    assert told(metrics) == {("reads", "x"): 42}


def test_labels_that_are_too_many_are_counted_together():
    metrics = Metrics()
    runs = metrics.counter("runs", "Runs", "id")
    for number in range(MOST + 5):
        runs.of(str(number)).add()
    runs.of("0").add()
    runs.of("new").add()
    counted = told(metrics)
    assert len(counted) == MOST + 1
    assert (counted["runs", OTHER], counted["runs", "0"]) == (6, 2)


def test_nonsense_is_refused():
    metrics = Metrics()
    doors = metrics.counter("doors", "Doors", "house")
    with pytest.raises(ConfigurationError, match="already"):
        metrics.gauge("doors", "Doors")
    for wrong in ((), ("a", "b")):
        with pytest.raises(ConfigurationError, match=f"{len(wrong)} labels"):
            doors.of(*wrong)
        with pytest.raises(ConfigurationError, match=f"{len(wrong)} labels"):
            doors.ask(lambda: 1, *wrong)
    assert metrics.snapshot() == []
    assert [each.name for each in metrics.families()] == ["doors"]


def test_threads_lose_nothing():
    metrics = Metrics()
    count, waits = metrics.counter("count", "").of(), metrics.histogram("waits", "").of()

    def add():
        for _ in range(20_000):
            count.add()
            waits.observe(1.0)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert (count.value, sum(waits.buckets), waits.sum) == (80_000, 80_000, 80_000)
