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
