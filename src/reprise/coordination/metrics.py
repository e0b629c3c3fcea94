"""The metrics of this room; docs/guide/metrics.md lists them, and their names stay."""

from __future__ import annotations

from reprise.coordination.tasks import TaskQueueStats
from reprise.kernel.metrics import METRICS

LOCK_WAIT = METRICS.histogram("reprise.lock.wait", "How long was waited for a lock, got or not")
LOCK_HOLD = METRICS.histogram("reprise.lock.hold", "How long a lock was held")
LOCK_LOST = METRICS.counter("reprise.lock.lost", "Locks that were lost while they were held")
LOCK_REFUSED = METRICS.counter("reprise.lock.refused", "Locks that were not free within the time to wait")

QUEUE_DEPTH = METRICS.gauge(
    "reprise.queue.depth", "Tasks in a queue when its statistics were last asked for", "queue", "state"
)
QUEUE_OLDEST = METRICS.gauge(
    "reprise.queue.oldest_age",
    "For how long the oldest pending task could have been taken, as of then",
    "queue",
    unit="s",
)
QUEUE_LATENCY = METRICS.histogram(
    "reprise.queue.claim_latency", "From when a task could be taken to its first being taken", "queue"
)
QUEUE_RETRIES = METRICS.counter(
    "reprise.queue.retries", "Tasks taken again, after a failed try or one whose worker was gone", "queue"
)

LEADER_CHANGES = METRICS.counter("reprise.leader.changes", "Terms that began in this process", "election")
LEADER_LOST = METRICS.counter("reprise.leader.lost", "Terms of this process that were lost", "election")

CACHE_HITS = METRICS.counter(
    "reprise.state.cache.hits", "Reads of shared state that its copy answered", "namespace"
)
CACHE_MISSES = METRICS.counter(
    "reprise.state.cache.misses", "Reads of shared state for which there was no such key", "namespace"
)
CACHE_STALENESS = METRICS.gauge(
    "reprise.state.cache.staleness", "Since when the copy was last known to be whole", "namespace", unit="s"
)


def note_queue(name: str, stats: TaskQueueStats) -> None:
    """Note what is in a queue."""
    for state, number in (
        ("pending", stats.pending),
        ("scheduled", stats.scheduled),
        ("processing", stats.processing),
        ("dead", stats.dead),
    ):
        QUEUE_DEPTH.of(name, state).set(number)
    QUEUE_OLDEST.of(name).set(stats.oldest_age_seconds)
