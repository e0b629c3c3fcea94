"""Payloads come back as they were handed in, take little room, and never the wrong one."""

import asyncio
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from reprise.kernel.errors import ConfigurationError, KeyMissing, StaleVersion, StoreCorrupt
from reprise.kernel.events import Event, Kind
from reprise.stores.blobs import referred
from reprise.stores.log import Group
from reprise.stores.memory import MemoryStore
from reprise.stores.packing import PackedStore, keeper_of
from reprise.stores.packing.bases import LANES, Base, Bases, Chain, lane_of
from reprise.stores.packing.envelope import (
    DIFFERENCE,
    SEALED,
    SpoiltError,
    difference,
    folded,
    place_of,
    unfold,
)
from reprise.stores.packing.keys import KeyRing
from reprise.testing.suites.keeper import put

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
RING = KeyRing({"k": OLD}, "k")


def over(keeper: MemoryStore, keys=None, memory=64 << 20) -> PackedStore:
    """Return another process's view of a keeper: what this one remembers, it does not."""
    return PackedStore(keeper, keys, memory=memory)


def text(dice: random.Random, size: int) -> str:
    return dice.randbytes(size // 2).hex()


class Owner:
    """Writes a run as its owner does: under a token, with exact versions."""

    def __init__(self, store, stream="run/a"):
        self.store, self.stream = store, stream
        self.version = self.token = 0
        self.written = []

    async def take(self, token=0):
        """Read what there is, and own it."""
        self.written = [record.data for record in await self.store.log.read(self.stream)]
        self.token = token or (await self.store.log.head(self.stream)).token + 1
        self.version = len(self.written)
        await self.write(b"{}", takes=True)
        return self

    async def write(self, *payloads, key=":1.turn", kind=16, takes=False, closes=False):
        events = [Event(kind, 1, key, data) for data in payloads]
        group = Group(self.stream, events, self.version, self.token, takes=takes, closes=closes)
        done = await put(self.store.log, group)
        self.version += len(payloads)
        self.written += payloads
        return done

    async def check(self, store=None):
        """Compare what a store reads with what was written."""
        read = [record.data for record in await (store or self.store).log.read(self.stream)]
        assert read == self.written


async def raw(store, stream="run/a"):
    """Return the payloads of a stream as they are kept."""
    return [record.data for record in await keeper_of(store).log.read(stream)]


def growing(count, size=2000, seed=1):
    """Return the states of a list that grows by one random text a turn."""
    dice = random.Random(seed)
    texts = [text(dice, size) for _ in range(count)]
    return [msgspec.json.encode(texts[:n]) for n in range(1, count + 1)]


# ---------------------------------------------------------------- room


async def test_a_growing_list_costs_what_was_added(tmp_path):
    store = over(MemoryStore())
    owner = await Owner(store).take()
    states = growing(200)
    for n, state in enumerate(states):
        await owner.write(state, key=f":{n}.turn")
    kept = await raw(store)
    assert sum(map(len, states)) > 40_000_000
    assert sum(map(len, kept)) < 250_000, "200 texts of 1 kB of entropy, and a little for each"
    await owner.check()
    await owner.check(over(keeper_of(store)))


@pytest.mark.parametrize(
    "shape",
    [
        lambda texts, n: {"turn": n, "messages": texts[:n], "note": f"after {n}"},
        lambda texts, n: texts[max(0, n - 20) : n],
        lambda texts, n: texts[:n][::-1],
        lambda texts, n: {t[:10]: t for t in texts[:n]},
    ],
    ids=["counters around it", "a window that moves", "newest first", "an object"],
)
async def test_wherever_it_grows(shape):
    dice = random.Random(2)
    texts = [text(dice, 2000) for _ in range(60)]
    store = over(MemoryStore())
    owner = await Owner(store).take()
    for n in range(1, 61):
        await owner.write(msgspec.json.encode(shape(texts, n)), key=f":{n}.turn")
    assert sum(map(len, await raw(store))) < 60 * 1400
    await owner.check(over(keeper_of(store)))


async def test_each_of_many_conversations_of_a_run_follows_its_own():
    store = over(MemoryStore())
    owner = await Owner(store).take()
    talks = [growing(40, seed=n) for n in range(LANES)]
    for turn in range(40):
        for n, talk in enumerate(talks):
            await owner.write(talk[turn], key=f"/agent.{n}:{turn}.turn")
    assert sum(map(len, await raw(store))) < LANES * 40 * 1400
    await owner.check(over(keeper_of(store)))


async def test_many_small_changes_get_a_whole_payload_now_and_then():
    """So that reading one never reads more than about three times its size."""
    dice = random.Random(3)
    state = {text(dice, 20): text(dice, 60) for _ in range(100)}
    names = list(state)
    store = over(MemoryStore())
    owner = await Owner(store).take()
    for _ in range(1000):
        state[dice.choice(names)] = text(dice, 60)
        await owner.write(msgspec.json.encode(state))
    kept = await raw(store)
    size = len(owner.written[-1])
    roots = [n for n, data in enumerate(kept) if n and place_of(data) is None]
    assert 5 < len(roots) < 100
    for first, last in pairwise([*roots, len(kept)]):
        assert sum(map(len, kept[first:last])) < 2 * size
    await owner.check(over(keeper_of(store)))


async def test_payloads_that_have_nothing_in_common_are_whole():
    store = over(MemoryStore())
    owner = await Owner(store).take()
    dice = random.Random(4)
    for _ in range(20):
        await owner.write(dice.randbytes(3000).hex().encode())
    assert not any(place_of(data) for data in await raw(store))
    await owner.check()


async def test_small_payloads_are_not_touched():
    store = over(MemoryStore())
    await put(store.log, group := Group("run/a", [Event(16, 1, "k", b'"%s"' % (b"x" * 1000))]))
    [kept] = await keeper_of(store).log.read("run/a")
    assert kept.data is group.events[0].data


async def test_a_large_payload_is_kept_once_whoever_writes_it():
    store = over(MemoryStore())
    same = random.Random(5).randbytes(60_000).hex().encode()
    for n in range(5):
        owner = await Owner(store, f"run/{n}").take()
        await owner.write(same)
        await owner.check(over(keeper_of(store)))
    stats = await store.blobs.stats()
    assert (stats["blobs"], stats["references"]) == (1, 5)


# ---------------------------------------------------------------- what comes back

TEXTS = [text(random.Random(n), 700) for n in range(12)]
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.binary(min_size=1, max_size=3).map(lambda seed: random.Random(seed).randbytes(1500)),
    st.lists(st.sampled_from(TEXTS), min_size=1, max_size=120).map(msgspec.json.encode),
    st.tuples(st.integers(0, 12), st.integers(0, 99)).map(
        lambda pair: msgspec.json.encode({"turn": pair[1], "list": TEXTS[: pair[0]]})
    ),
)
DEEDS = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"),
            st.sampled_from([":1.a", ":2.a", "/x:1.b", "c", ""]),
            st.lists(PAYLOADS, max_size=3),
        ),
        st.tuples(st.sampled_from(["forget", "take", "elsewhere", "page", "begin anew", "scan"])),
        st.tuples(st.just("again"), st.integers(0, 3)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(deeds=DEEDS, sealed=st.booleans(), memory=st.sampled_from([0, 3000, 20_000, 64 << 20]))
def test_any_sequence_of_payloads_comes_back(deeds, sealed, memory):
    asyncio.run(act(deeds, RING if sealed else None, memory))


async def act(deeds, keys, memory):
    """Do what a random list says; whatever is remembered or forgotten between, what is read is what was written."""
    keeper = MemoryStore()
    store = over(keeper, keys, memory)
    owner = await Owner(store).take()
    for what, *how in deeds:
        if what == "write":
            await owner.write(*how[1], key=how[0])
        elif what == "again":  # the same once more, or what was there a few versions ago
            await owner.write(owner.written[-1 - min(how[0], len(owner.written) - 1)])
        elif what == "forget":
            store.log._bases.chains.clear()
            store.log._bases.size = 0
        elif what == "take":
            owner = await Owner(store).take()
        elif what == "elsewhere":
            owner = await Owner(over(keeper, keys, memory)).take()
        elif what == "begin anew":
            await owner.write(b"{}", kind=Kind.RUN_CONTINUED)
        elif what == "scan":
            assert [record.data for record in await store.log.scan()] == owner.written
        else:
            after = len(owner.written) // 2
            page = await store.log.read("run/a", after, 2)
            assert [record.data for record in page] == owner.written[after : after + 2]
    await owner.check(store)
    await owner.check(over(keeper, keys, memory))
    for n in range(len(owner.written)):
        [record] = await over(keeper, keys, 0).log.read("run/a", n, 1)
        assert record.data == owner.written[n]
    assert await store.verify() == []


async def test_what_is_scanned_is_unpacked_stream_by_stream():
    store = over(MemoryStore(), RING)
    owners = [await Owner(store, f"run/{n}").take() for n in range(3)]
    for n, state in enumerate(growing(30)):
        await owners[n % 3].write(state)
    fresh = over(keeper_of(store), RING)
    found, after = {}, 0
    while page := await fresh.log.scan(after, 7):
        for record in page:
            found.setdefault(record.stream, []).append(record.data)
            after = record.position
    assert found == {owner.stream: owner.written for owner in owners}


@pytest.mark.parametrize("data", [b"{}", growing(10)[-1]], ids=["small", "large"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["its owner goes on", "another goes on"])
async def test_what_stands_before_a_new_generation_is_not_needed_after_it(data, goes_on):
    keeper = MemoryStore()
    owner = await Owner(over(keeper)).take()
    states = growing(20)
    await owner.write(*states[:10])
    await owner.write(data, kind=Kind.RUN_CONTINUED)
    begun = owner.version
    if not goes_on:
        owner = await Owner(over(keeper)).take()  # has read what stood before
    await owner.write(*states[10:])
    await owner.check(over(keeper))
    places = {version: place_of(data) for version, data in enumerate(await raw(owner.store), 1)}
    assert places[begun - 1]
    assert places[owner.version]
    for version, place in places.items():
        assert version < begun or place is None or version - sum(place) >= begun


# ---------------------------------------------------------------- never the wrong one


async def test_a_refused_payload_is_no_base():
    """Here a twin of the owner, with the same token, was faster."""
    keeper = MemoryStore()
    owner = await Owner(over(keeper)).take()
    twin = Owner(over(keeper))
    twin.version, twin.token, twin.written = owner.version, owner.token, [*owner.written]
    first, second, third = growing(3, 4000)
    await twin.write(random.Random(11).randbytes(3000), key=":1.other")
    with pytest.raises(StaleVersion):
        await owner.write(first)
    owner.version, owner.written = twin.version, twin.written
    await owner.write(second)
    await owner.write(third)
    await owner.check(over(keeper))


async def test_streams_that_anybody_may_write_hold_no_differences():
    keeper = MemoryStore()
    states = growing(10)
    for n, state in enumerate(states):
        await put(over(keeper).log if n % 3 else keeper.log, Group("log/a", [Event(16, 1, "k", state)]))
    store = over(keeper)
    for state in states:
        await put(store.log, Group("log/a", [Event(16, 1, "k", state)]))
    assert [record.data for record in await over(keeper).log.read("log/a")] == states * 2
    assert not any(place_of(data) for data in await raw(store, "log/a"))


async def test_what_was_read_counts_only_for_who_takes_the_stream_there():
    """A stream of the same name, made anew by others and longer, is taken by one who read only the old one."""
    keeper = MemoryStore()
    late = over(keeper)
    old, new = growing(6, seed=6), growing(6, seed=7)
    await (await Owner(over(keeper)).take()).write(*old[:3])
    await late.log.read("run/a")
    await keeper.log.drop("run/a")
    owner = await Owner(over(keeper)).take()
    await owner.write(*new[:5])
    owner.store, owner.token = late, 2
    await owner.write(b"{}", takes=True)
    await owner.write(old[3])
    await owner.check(over(keeper))


async def test_what_is_remembered_of_a_stream_is_of_one_life():
    keeper = MemoryStore()
    late = over(keeper)
    old, new = growing(6, seed=6), growing(6, seed=7)
    owner = await Owner(over(keeper)).take()
    await owner.write(old[0], key=":1.a")
    await owner.write(old[1], key=":1.b")
    await late.log.read("run/a")
    await keeper.log.drop("run/a")
    await (await Owner(over(keeper)).take()).write(*new[:3], key=":1.a")
    owner = await Owner(late).take()
    await owner.write(old[2], key=":1.b")
    await owner.check(over(keeper))


async def test_a_stream_that_is_made_again_under_its_name_has_nothing_of_the_first():
    """Also where each of two processes remembers the first one's payloads, up to the very same version."""
    keeper = MemoryStore()
    one, two = over(keeper), over(keeper)
    old, new = growing(6, seed=6), growing(6, seed=7)
    owner = await Owner(one).take()
    for state in old:
        await owner.write(state)
    await two.log.read("run/a")
    await keeper.log.drop("run/a")
    owner = await Owner(over(keeper)).take()
    for state in new[:3]:
        await owner.write(state)
    await owner.check(two)
    for store in (two, one):
        owner = await Owner(store).take()
        await owner.write(*new[3:])
        for reader in (one, two, over(keeper)):
            await owner.check(reader)


async def test_who_was_succeeded_harms_nobody():
    keeper = MemoryStore()
    store = over(keeper)
    first = await Owner(store).take()
    states = growing(8)
    await first.write(*states[:4])
    second = await Owner(store).take()
    await second.write(states[4])
    first.version = second.version
    with pytest.raises(Exception, match="held under token 2"):
        await first.write(states[5])
    await second.write(*states[5:])
    await second.check(over(keeper))
    assert all(place_of(data) for data in (await raw(store))[-3:])


async def test_an_ended_stream_is_forgotten():
    store = over(MemoryStore())
    owner = await Owner(store).take()
    await owner.write(*growing(4))
    assert store.log._bases.size
    await owner.write(b"{}", closes=True)
    assert not store.log._bases.chains


def test_the_memory_is_bounded():
    bases = Bases(memory=10_000)

    for n in range(20):
        chain = Chain()
        chain.note("k", Base(1, 1, 1, bytes(3000)))
        bases.put("read", f"run/{n}", chain)
    assert (len(bases.chains), bases.size) == (3, 9000)
    chain = Chain()
    for n in range(100):
        chain.note(f"lane-{chr(65 + n)}", Base(n, n, 1, bytes(100)))
    assert (len(chain.lanes), chain.size) == (LANES, 100 * LANES)


def test_what_is_taken_out_and_put_in_again_takes_its_room_once():
    bases, chain = Bases(memory=10_000), Chain()
    chain.note("k", Base(1, 1, 1, bytes(3000)))
    for _ in range(5):
        bases.put("written", "run/a", chain)
        assert bases.take("written", "run/a") is chain
    assert bases.size == 0


@pytest.mark.parametrize(
    ("keys", "lane"),
    [
        ([":1.turn", ":12.turn"], ":turn"),
        (["/agent/turn:1", "/agent/turn.2:1", "/agent/turn.12:3"], "/agent/turn"),
        (["/v1.beta:1", "/v1.beta:2"], "/v1.beta"),
        (["turn-1", "turn-12"], "turn-"),
    ],
)
def test_calls_made_again_and_again_have_one_lane(keys, lane):
    assert {lane_of(key) for key in keys} == {lane}


def test_what_does_not_get_smaller_stays_as_it_is():
    data = b"[" + random.Random(1).randbytes(3000)
    assert folded(data) is data


def test_no_difference_is_made_over_longer_distances_than_every_reader_can_look_back():
    half = bytes(1 << 26)
    assert unfold(difference(half, half, 1, 0), half) == half
    assert difference(half, half + b"0", 1, 0) is None
    assert difference(b"1", b"2", 1 << 32, 0) is None
    assert difference(b"1", b"2", 1, 1 << 32) is None


async def test_an_epoch_of_what_packs_is_that_of_its_keeper():
    store = over(MemoryStore())
    assert await store.begin_epoch(5) == store.epoch == keeper_of(store).epoch == 6
    assert await store.schema() == (0, 0)


async def test_what_was_packed_is_counted():
    store = over(MemoryStore())
    owner = await Owner(store).take()
    await owner.write(*growing(3))
    kept = (await raw(store))[1:]
    counted = store.statistics()
    assert (counted["payloads_packed"], counted["differences"]) == (3, sum(map(bool, map(place_of, kept))))
    assert (counted["payload_bytes"], counted["packed_bytes"]) == (
        sum(map(len, owner.written[1:])),
        sum(map(len, kept)),
    )


async def test_a_blob_that_goes_while_it_is_read_is_no_damage():
    """The stream was dropped and its blobs collected between the two looks."""
    store = over(MemoryStore())
    owner = await Owner(store).take()
    await owner.write(random.Random(8).randbytes(50_000))
    keeper = keeper_of(store)
    get = keeper.blobs.get

    async def get_late(hashes):
        keeper.blobs.get = get
        await keeper.log.drop("run/a")
        await keeper.blobs.collect()
        return await get(hashes)

    keeper.blobs.get = get_late
    assert await store.log.read("run/a") == []


async def test_blobs_that_go_again_and_again_while_they_are_read_are_no_damage():
    """Each time another life of the stream has begun, with a blob of its own."""
    store = over(MemoryStore())
    keeper, lives = keeper_of(store), [random.Random(seed).randbytes(50_000) for seed in range(4)]
    get = keeper.blobs.get

    async def begin():
        owner = await Owner(over(keeper)).take()
        await owner.write(lives.pop())
        return owner

    async def get_late(hashes):
        if lives:
            await keeper.log.drop("run/a")
            await keeper.blobs.collect()
            owners.append(await begin())
        return await get(hashes)

    owners = [await begin()]
    keeper.blobs.get = get_late
    assert [record.data for record in await store.log.read("run/a")] == owners[-1].written
    assert len(owners) == 4


@pytest.mark.parametrize("is_made_again", [False, True], ids=["trimmed", "dropped and made again"])
async def test_what_a_payload_rests_upon_may_go_while_it_is_read(is_made_again):
    keeper = MemoryStore()
    states = growing(40)
    owner = await Owner(over(keeper)).take()
    await owner.write(*states[:20])
    begun = owner.version
    await owner.write(b"{}", kind=Kind.RUN_CONTINUED)
    await owner.write(*states[20:])
    expected = owner.written[begun : begun + 5]
    read = keeper.log.read

    async def read_late(*args):
        page = await read(*args)
        keeper.log.read = read
        if is_made_again:
            await keeper.log.drop("run/a")
            again = await Owner(over(keeper)).take()
            await again.write(*growing(20, seed=2))
            expected[:] = again.written[10:15]
        else:
            await keeper.log.trim("run/a", begun)
        return page

    keeper.log.read = read_late
    assert [record.data for record in await over(keeper).log.read("run/a", 10, 5)] == expected


# ---------------------------------------------------------------- damage


async def damaged(change, keys=None, version=-1):
    """Return a store in which a kept payload was changed behind its back."""
    store = over(MemoryStore(), keys)
    owner = await Owner(store).take()
    await owner.write(*growing(5, 30_000), random.Random(9).randbytes(80_000))
    rows = keeper_of(store).log._streams["run/a"]
    row = rows[version]
    rows[version] = msgspec.structs.replace(row, data=change(row.data))
    position = row.position - 1
    keeper_of(store).log._all[position] = rows[version]
    return over(keeper_of(store), keys)


def flip(data):
    changed = bytearray(data)
    changed[-3] ^= 4
    return bytes(changed)


DAMAGE = {
    "a bit of a whole payload": (flip, None, 2),
    "a bit of a difference": (flip, None, 4),
    "a bit of a sealed payload": (flip, RING, 2),
    "a bit of a sealed difference": (flip, RING, 4),
    "a bit of a blob's name": (flip, None, -1),
    "a first byte of no meaning": (lambda data: bytes((5,)) + data, None, 2),
    "a difference to a payload that is not there": (lambda data: data[:1] + b"\0\0\0\7" + data[5:], None, 4),
    "a payload that was cut": (lambda data: data[:20], None, 2),
}


@pytest.mark.parametrize(("change", "keys", "version"), DAMAGE.values(), ids=DAMAGE)
async def test_what_was_tampered_with_is_never_given_out(change, keys, version):
    store = await damaged(change, keys, version)
    with pytest.raises(StoreCorrupt, match="run/a, version"):
        await store.log.read("run/a")
    assert any("run/a, version" in problem for problem in await store.verify())


async def test_no_flipped_bit_gives_another_payload():
    """Even were the keeper's own checksums not there."""
    payload = msgspec.json.encode({"list": TEXTS, "zeros": "0" * 3000})
    for content, earlier in (
        (folded(payload), b""),
        (difference(payload, bytes(TEXTS[0], "utf-8"), 1, 0), TEXTS[0].encode()),
    ):
        assert unfold(content, earlier) == payload
        for bit in range(8 * (9 if earlier else 1), 8 * len(content), 7):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            try:
                assert unfold(bytes(changed), earlier) == payload
            except SpoiltError:
                pass


async def test_a_sealed_payload_cannot_be_moved_to_another_record():
    store = over(MemoryStore(), RING)
    owner = await Owner(store).take()
    await owner.write(b'"paid"', key="a")
    await owner.write(b'"not paid"', key="b")
    rows = keeper_of(store).log._streams["run/a"]
    rows[1], rows[2] = (
        msgspec.structs.replace(rows[1], data=rows[2].data),
        msgspec.structs.replace(rows[2], data=rows[1].data),
    )
    with pytest.raises(StoreCorrupt, match="moved from another place"):
        await store.log.read("run/a")


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("name", ["", "k" * 100, "é" * 50])
def test_the_name_of_a_key_stands_in_each_payload_and_is_short(name):
    with pytest.raises(ConfigurationError, match="cannot be the name of a key"):
        KeyRing({name: OLD}, name)
    assert KeyRing({"k" * 99: OLD}, "k" * 99)


async def test_sealed_payloads_show_nothing():
    store = over(MemoryStore(), RING)
    owner = await Owner(store).take()
    secret = b"the secret plan"
    large = msgspec.json.encode([secret.decode(), random.Random(10).randbytes(50_000).hex()])
    await owner.write(b'"%s"' % secret, large, msgspec.json.encode([*msgspec.json.decode(large), "x"]))
    kept = await raw(store)
    blobs = await store.blobs.get([hash for data in kept if (hash := referred(data))])
    assert all(data[0] in (SEALED, 2) for data in kept)
    assert len(blobs) == 1
    assert not any(secret in data for data in [*kept, *blobs.values()])
    await owner.check(over(keeper_of(store), RING))


async def test_equal_payloads_at_different_places_look_different():
    store = over(MemoryStore(), RING)
    owner = await Owner(store).take()
    await owner.write(b'"yes"', key="a")
    await owner.write(b'"yes"', key="b")
    kept = await raw(store)
    nonces = [data[len(b"#1k") + 4 :][:12] for data in kept[1:]]
    assert nonces[0] != nonces[1]


async def test_rotation_reads_the_old_and_writes_the_new():
    keeper = MemoryStore()
    states = growing(12, 10_000)
    await (await Owner(over(keeper, KeyRing({"2025": OLD}, "2025"))).take()).write(*states[:6])
    both = KeyRing({"2025": OLD, "2026": NEW}, "2026")
    owner = await Owner(over(keeper, both)).take()
    await owner.write(*states[6:])
    await owner.check(over(keeper, both))
    kept = await raw(over(keeper))
    named = [data[2:6] for data in kept if data[0] == SEALED]
    assert set(named) == {b"2025", b"2026"}
    assert b"2025" not in named[named.index(b"2026") :]
    with pytest.raises(
        KeyMissing, match=r"run/a, version 1 .*sealed with the key '2025'; the key ring has '2026'"
    ):
        await over(keeper, KeyRing({"2026": NEW}, "2026")).log.read("run/a")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (None, "sealed with the key 'k'; no key was given"),
        (KeyRing({"k": NEW}, "k"), "sealed with a key 'k' that is not the one of that name"),
        (KeyRing({"other": NEW}, "other"), "the key ring has 'other'"),
    ],
)
async def test_without_the_right_key_nothing_is_read_and_nothing_is_lost(keys, said):
    store = over(MemoryStore(), RING)
    owner = await Owner(store).take()
    await owner.write(*growing(5, 30_000))
    wrong = over(keeper_of(store), keys)
    with pytest.raises(KeyMissing, match=said):
        await wrong.log.read("run/a")
    assert any("key" in problem for problem in await wrong.verify())
    await owner.check(over(keeper_of(store), RING))


async def test_a_store_that_was_plain_is_sealed_from_then_on():
    keeper = MemoryStore()
    states = growing(6)
    await (await Owner(over(keeper)).take()).write(*states[:3])
    owner = await Owner(over(keeper, RING)).take()
    await owner.write(*states[3:])
    await owner.check(over(keeper, RING))
    kept = await raw(over(keeper))
    assert [data[0] == SEALED for data in kept] == [False] * 4 + [True] * 4
    assert not any(data[0] == DIFFERENCE for data in kept[4:])
