"""How the server goes about our statements."""

from reprise.kernel.events import Event
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, RunChange, append

IDS = Counter()
READ_WHOLE = """
SELECT relname, seq_scan FROM pg_stat_user_tables
WHERE schemaname = $1 AND relname IN ('streams', 'records', 'runs')
"""


async def test_plans_made_for_small_tables_do_not_read_large_ones_whole(keeper, store, neighbour):
    """A connection keeps its plans; those made right after the tables would scan all of a million rows later."""
    await neighbour.execute("SELECT pg_stat_force_next_flush()")
    for n in range(30):
        started = RunChange(f"{n}", status="running", workflow="w", at=1)
        await append(store.log, IDS.new(), Group(f"run/{n}", [Event(16, 1)], 0, run=started))
        ended = RunChange(f"{n}", status="completed", at=2)
        await append(store.log, IDS.new(), Group(f"run/{n}", [Event(16, 1)], 1, closes=True, run=ended))
    await store._writer._connection.execute("SELECT pg_stat_force_next_flush()")
    scans = dict(await neighbour.fetch(READ_WHOLE, keeper.schema))
    assert scans.keys() == {"streams", "records", "runs"}
    # Making the indexes has read the empty tables, once each.
    assert max(scans.values()) < 30, scans


async def test_a_batch_is_not_planned_again(store):
    """Left alone the server plans anew for the lengths of the arrays, which takes it longer than the work."""
    for _ in range(10):
        await append(store.log, IDS.new(), Group("run/a", [Event(16, 1)]))
    counts = "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements"
    ((planned_once, planned_anew),) = await store._writer._connection.fetch(counts)
    assert planned_once >= 10
    assert planned_anew == 0
