"""Who is alive on this machine, by the locks of files."""

import os

from reprise.stores.sqlite.presence import SQLitePresence


async def test_who_leaves_holds_the_lock_no_longer(tmp_path):
    presence = SQLitePresence(tmp_path)
    await presence.enter("w")
    os.link(tmp_path / "w.lock", tmp_path / "again.lock")  # the same file, which stays when its name goes
    assert await presence.died({"w", "again"}) == set()
    await presence.leave("w")
    assert await presence.seen() == ["again"]
    assert await presence.died({"w", "again"}) == {"again"}
