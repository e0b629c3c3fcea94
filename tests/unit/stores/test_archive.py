"""An archive: whatever is changed in it is found, and what is written comes back byte for byte."""

import gzip
import io
import json
from hashlib import sha256
from itertools import pairwise, permutations
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from reprise.kernel.errors import ArchiveCorrupt, ConfigurationError, SchemaTooNew, StoreUnreachable
from reprise.kernel.events import Record
from reprise.stores.archive import (
    AnyLine,
    ArchiveWriter,
    CellLine,
    End,
    FamilyLine,
    Opening,
    RecordLine,
    RunLine,
    StreamLine,
    TaskLine,
    from_record,
    read_archive,
    reading,
    to_record,
    verify_archive,
)
from reprise.stores.archive.lines import FORMAT
from reprise.stores.archive.writing import with_hash
from reprise.stores.queue import Task
from reprise.stores.runs import RunRow

OPENING = Opening(format=FORMAT, source="memory://", made_at=1, epoch=0)


def record(version=1, data=b"{}", stream="run/a", append=0):
    return Record(0, stream, version, 16, 7, "k", data, 3, 4, append)


LINES = [
    OPENING,
    FamilyLine(root="a"),
    from_record(record(1, b'{"n": 1.50}', append=9)),
    from_record(record(2, b"\xff")),
    StreamLine(name="run/a", version=2, token=3, closed=True),
    RunLine(row=RunRow("a", "w", "completed", 1, 2, tags={"t": "v"})),
    TaskLine(task=Task("t", "q", b"\0")),
    CellLine(space="s", name="c", base64=b"\0", expires_at=7),
]


def write(path: Path, lines=LINES) -> str:
    with ArchiveWriter(path) as archive:
        archive.write(lines)
        return archive.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.jsonl"


@pytest.fixture
def whole(path):
    """The bytes of a sound archive."""
    write(path)
    return path.read_bytes()


class Held:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def is_sound(data: bytes) -> bool:
    try:
        verify_archive(Held(data))
    except (ArchiveCorrupt, SchemaTooNew):  # a flipped bit may make format 1 format 3
        return False
    return True


# ---------------------------------------------------------------- damage


def test_any_flipped_bit_is_found(path, whole):
    assert is_sound(whole)
    missed = []
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            if is_sound(bytes(damaged)):
                missed.append((place, bit))
    assert not missed


def test_any_line_removed_doubled_or_moved_is_found(path, whole):
    lines = whole.splitlines(keepends=True)
    for n in range(len(lines)):
        without = lines[:n] + lines[n + 1 :]
        assert not is_sound(b"".join(without)), f"line {n + 1} removed"
        assert not is_sound(b"".join([*lines[: n + 1], *lines[n:]])), f"line {n + 1} doubled"
        for to in range(len(lines)):
            moved = [*without[:to], lines[n], *without[to:]]
            if moved != lines:
                assert not is_sound(b"".join(moved)), f"line {n + 1} moved to {to + 1}"
    for order in permutations(range(1, 5)):
        mixed = [lines[0], *(lines[n] for n in order), *lines[5:]]
        assert (mixed == lines) is is_sound(b"".join(mixed))


def test_any_end_that_is_cut_off_and_anything_put_behind_is_found(path, whole):
    for end in range(len(whole)):
        assert not is_sound(whole[:end]), f"{end} bytes left"
    for more in (b"\n", b" ", b"{}\n", whole.splitlines(keepends=True)[-1], whole):
        assert not is_sound(whole + more)


@pytest.mark.parametrize("place", range(len(LINES) + 2))
def test_a_line_put_between_is_found(path, whole, place):
    lines = whole.splitlines(keepends=True)
    added = b'{"prev":"%b","line":"family","root":"b"}\n' % (
        sha256(lines[place - 1]).hexdigest().encode() if place else b"0" * 64
    )
    assert not is_sound(b"".join([*lines[:place], added, *lines[place:]]))


def test_a_lost_line_is_lost_even_if_those_after_it_are_linked_anew_but_for_the_last(path, whole):
    lines = whole.splitlines(keepends=True)
    kept = [*lines[:2], *lines[3:-1]]
    linked, last = [], "0" * 64
    for line in kept:
        linked.append(b'{"prev":"%b"' % last.encode() + line[len('{"prev":""') + 64 :])
        last = sha256(linked[-1]).hexdigest()
    old_end = lines[-1]
    body = (
        b'{"prev":"%b"' % last.encode()
        + old_end[len('{"prev":""') + 64 : -len(with_hash(b"", "0" * 64))]
        + b"}"
    )
    forged = [*linked, with_hash(body, sha256(body).hexdigest())]
    path.write_bytes(b"".join(forged))
    with pytest.raises(ArchiveCorrupt, match="counts other lines"):
        verify_archive(path)


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_damage_of_a_packed_archive_is_found_unless_it_changes_nothing(tmp_path, size):
    path = tmp_path / "a.jsonl.gz"
    write(path, [*LINES[:2], *(from_record(record(n, b"%d" % n)) for n in range(1, size + 1))])
    whole, plain = path.read_bytes(), gzip.decompress(path.read_bytes())
    assert len(whole) < len(plain)
    for place in range(0, len(whole), max(1, len(whole) // 100)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        if is_sound(bytes(damaged)):
            assert gzip.decompress(bytes(damaged)) == plain
    assert not is_sound(whole[: len(whole) // 2])


def test_the_damaged_line_is_named(path, whole):
    path.write_bytes(whole.replace(b'"root":"a"', b'"root":"b"'))
    with pytest.raises(ArchiveCorrupt, match=r"line 3 does not follow the one before it"):
        verify_archive(path)
    path.write_bytes(whole[: whole.index(b'"n": 1.50')])
    with pytest.raises(ArchiveCorrupt, match="line 3 cannot be read"):
        verify_archive(path)


# ---------------------------------------------------------------- what is written

texts = st.text(st.characters(exclude_categories=["Cs"]))
payloads = st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value, indent=1 if value else None).encode())


@given(data=payloads, key=texts, stream=texts, number=st.integers(0, 2**63 - 1))
def test_a_record_comes_back_byte_for_byte(data, key, stream, number):
    given_record = Record(0, stream, 1 + number // 2, 16, number, key, data, number, number, number)
    line = msgspec.json.encode(from_record(given_record))
    assert b"\n" not in line
    read = msgspec.json.decode(line, type=AnyLine)
    assert isinstance(read, RecordLine)
    assert to_record(read) == given_record


def test_json_stands_in_the_file_as_json(path, whole):
    lines = [json.loads(line) for line in whole.splitlines()]
    assert lines[2]["data"] == {"n": 1.5}
    assert "data" not in lines[3]
    assert [line["line"] for line in lines] == "archive family record record stream run task cell end".split()
    assert {key: lines[-1][key] for key in ("lines", "families", "runs", "records", "tasks", "cells")} == {
        "lines": 9,
        "families": 1,
        "runs": 1,
        "records": 2,
        "tasks": 1,
        "cells": 1,
    }


def test_the_chain_can_be_followed_without_us(path, whole):
    lines = whole.splitlines(keepends=True)
    for before, after in pairwise(lines):
        assert json.loads(after)["prev"] == sha256(before).hexdigest()


def test_the_same_runs_make_the_same_file(tmp_path):
    for suffix in (".jsonl", ".jsonl.gz"):
        first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
        assert write(first) == write(second) == verify_archive(first).hash
        assert first.read_bytes() == second.read_bytes()


def test_lines_come_back_as_they_were_written(path):
    write(path)
    *read, end = [msgspec.structs.replace(line, prev="") for line in read_archive(path)]
    assert [msgspec.json.encode(line) for line in read] == [msgspec.json.encode(line) for line in LINES]
    assert isinstance(end, End)


async def test_a_page_holds_few_bytes_also_where_records_are_large(path, monkeypatch):
    monkeypatch.setattr(reading, "_BYTES", 1000)
    write(path, [OPENING, *(from_record(record(n, b'"%s"' % (b"x" * 600))) for n in range(1, 7))])
    pages = [page async for page in reading.read_pages(path)]
    assert [sum(isinstance(line, RecordLine) for line in page) for page in pages] == [2, 2, 2, 0]
    write(path.with_name("b"), [OPENING, *(from_record(record(n, b"\xff" * 600)) for n in range(1, 7))])
    assert len([page async for page in reading.read_pages(path.with_name("b"))]) == 4


# ---------------------------------------------------------------- the file


def test_an_archive_is_never_written_over(path):
    write(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="exists already"):
        ArchiveWriter(path)
    assert path.read_bytes() == before


def test_an_error_on_the_way_leaves_nothing(path):
    with pytest.raises(TypeError), ArchiveWriter(path) as archive:
        archive.write([*LINES[:3], object()])
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_process_left_is_written_anew(path):
    part = path.with_name(path.name + ".part")
    part.write_bytes(b"x" * 100_000)
    write(path)
    verify_archive(path)
    assert not part.exists()


def test_two_do_not_write_one_archive(path):
    with ArchiveWriter(path) as first:
        first.write(LINES)
        with pytest.raises(ConfigurationError, match="Another process is writing"):
            ArchiveWriter(path)
        first.close()
    verify_archive(path)


def test_it_is_for_its_owner_alone(path):
    write(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_named(path):
    with pytest.raises(StoreUnreachable, match="nowhere"):
        ArchiveWriter(path.parent / "nowhere" / "a.jsonl")
    with pytest.raises(StoreUnreachable, match=r"none\.jsonl"):
        verify_archive(path.with_name("none.jsonl"))


def test_a_newer_format_is_refused_clearly(path):
    write(path, [Opening(format=FORMAT + 1, source="", made_at=1, epoch=0)])
    with pytest.raises(SchemaTooNew, match=f"has format {FORMAT + 1}; this Reprise knows {FORMAT}"):
        verify_archive(path)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}", b"hello\n", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"\0" * 100])
def test_what_is_no_archive_is_told(path, data):
    path.write_bytes(data)
    with pytest.raises(ArchiveCorrupt):
        verify_archive(path)
