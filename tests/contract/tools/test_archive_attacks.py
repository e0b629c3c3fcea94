"""Attacks by archives: each class beside a control, which shows that it works on who unpacks what there is.

A case is an archive that must be refused when it is unpacked, and when it is looked into. Nothing of it is left then, neither inside
of the root nor outside.
"""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprise import FileRoots, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.guards import archives

TOOLS = create_builtin_tools_library()
MOST = 8 << 20
"""Bytes that the root takes."""
Build = Callable[[], bytes]

# ---------------------------------------------------------------- how they are made


def zipped(*entries: tuple[str, bytes], **attributes: Any) -> bytes:
    """Return a zip; ``attributes`` are set on each entry."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # names that come twice
        for name, data in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.writestr(info, data)
    return out.getvalue()


def member(name: str, data: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, data


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=to)


def block(name: str, kind: bytes, size: int, rest: bytes = b"") -> bytes:
    """Return a header of a tar that says what it likes, and what comes behind it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, 0
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + rest


def overlapping(files: int, size: int) -> bytes:
    """Return a zip whose entries are all the same bytes: a bomb without being packed twice."""
    data = zlib.compress(b"\0" * size, 9)[2:-4]
    crc = zlib.crc32(b"\0" * size)
    fields = struct.pack("<HHHHHLLLHH", 20, 0, 8, 0, 33, crc, len(data), size, 1, 0)
    local = b"PK\3\4" + fields + b"a" + data
    directory = b"".join(
        b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + b"a"
        for _ in range(files)
    )
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, files, files, len(directory), len(local), 0)
    return local + directory + end


def patched(data: bytes, old: bytes, new: bytes, times: int = -1) -> bytes:
    assert old in data
    return data.replace(old, new, times)


def said(size: int, data: bytes = b"a" * 100) -> bytes:
    """Return a zip that says another size than it has."""
    made = zipped(("a", data))
    return patched(made, struct.pack("<L", len(data)), struct.pack("<L", size))


def wide() -> bytes:
    """Return xz whose header asks for a dictionary of 1.5 GiB, with its check made right."""
    data = bytearray(lzma.compress(tarred(member("a", b"x")), format=lzma.FORMAT_XZ))
    head = data[12 : 12 + (data[12] + 1) * 4]
    at = bytes(head).index(b"\x21\x01") + 2
    head[at] = 37
    head[-4:] = struct.pack("<L", zlib.crc32(bytes(head[:-4])))
    data[12 : 12 + len(head)] = head
    return bytes(data)


# ---------------------------------------------------------------- the cases

OUT = [
    "../evil", "../../evil", "a/../../evil", "/tmp/evil", "//evil", "..\\evil", "a\\..\\..\\evil", "C:\\evil", "..", "a/..", "./../evil", "",
    "a\nb", "a\x1b[2J", "gpj\u202e.exe", "a\u2028b",
]  # fmt: skip
LONG = ["a" * 256, "é" * 128, "a/" * 65 + "a", "a/" * 3000 + "a"]
ZERO = b"\0" * (MOST + 1)

CASES: dict[str, list[tuple[str, Build]]] = {
    "names that lead out, zip": [(repr(name)[:30], lambda name=name: zipped((name, b"evil"))) for name in OUT],
    "names that lead out, tar": [(repr(name)[:30], lambda name=name: tarred(member(name, b"evil"))) for name in OUT],
    "names that lead out, packed": [
        (kind, lambda pack=pack: pack(tarred(member("ok", b"ok"), member("../evil", b"evil"))))
        for kind, pack in {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "gz twice": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:])}.items()
    ],
    "names behind a NUL": [
        ("zip", lambda: patched(zipped(("a.txt?../x", b"evil")), b"a.txt?", b"a.txt\0")),
        ("tar", lambda: tarred(member("ok", pax_headers={"path": "a\0b"}))),
        ("only", lambda: patched(zipped(("?", b"evil")), b"?", b"\0")),
    ],
    "overlong and overdeep names": [(f"{kind} {len(name)}", lambda name=name, kind=kind: zipped((name, b"")) if kind == "zip" else tarred(member(name))) for name in LONG for kind in ("zip", "tar")],
    "symbolic links": [
        ("tar absolute", lambda: tarred(link("a", "/etc/passwd"))),
        ("tar upwards", lambda: tarred(link("a", "../../secret"))),
        ("tar inside", lambda: tarred(member("b", b""), link("a", "b"))),
        ("tar written through", lambda: tarred(link("a", "../outside"), member("a/evil", b"evil"))),
        ("tar in two steps", lambda: tarred(link("a", "."), link("a/b", ".."), member("a/b/evil", b"evil"))),
        ("tar of a folder", lambda: tarred(member("d", type=tarfile.DIRTYPE), link("d/e", "/tmp"))),
        ("zip absolute", lambda: zipped(("a", b"/etc/passwd"), external_attr=(stat.S_IFLNK | 0o777) << 16)),
        ("zip upwards", lambda: zipped(("a", b"../../secret"), external_attr=(stat.S_IFLNK | 0o777) << 16)),
        ("zip with a slash", lambda: zipped(("a/", b"/tmp"), external_attr=(stat.S_IFLNK | 0o777) << 16)),
    ],
    "hard links": [
        ("outside", lambda: tarred(link("a", "../secret", tarfile.LNKTYPE))),
        ("absolute", lambda: tarred(link("a", "/etc/passwd", tarfile.LNKTYPE))),
        ("inside", lambda: tarred(member("b", b"x"), link("a", "b", tarfile.LNKTYPE))),
        ("then written", lambda: tarred(link("a", "../secret", tarfile.LNKTYPE), member("a", b"evil"))),
        ("to a link", lambda: tarred(link("l", "../secret"), link("a", "l", tarfile.LNKTYPE))),
    ],
    "devices, FIFOs and the like": [
        *((name, lambda kind=kind: tarred(member("a", type=kind, devmajor=1, devminor=5))) for name, kind in {"character": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "FIFO": tarfile.FIFOTYPE, "unknown": b"Z"}.items()),
        *((name, lambda kind=kind: zipped(("a", b""), external_attr=(kind | 0o666) << 16)) for name, kind in {"zip FIFO": stat.S_IFIFO, "zip device": stat.S_IFCHR, "zip socket": stat.S_IFSOCK, "zip block": stat.S_IFBLK}.items()),
    ],
    "bombs by ratio": [
        ("zip", lambda: zipped(("a", ZERO[: MOST // 2]))),
        ("tar.gz", lambda: gzip.compress(tarred(member("a", ZERO[: MOST // 2])))),
        ("tar.bz2", lambda: bz2.compress(tarred(member("a", ZERO[: MOST // 2])))),
        ("tar.xz", lambda: lzma.compress(tarred(member("a", ZERO[: MOST // 2])))),
    ],
    "bombs by size": [
        ("zip", lambda: zipped(("a", ZERO))),
        ("zip of many", lambda: zipped(*((f"{n}", ZERO[: MOST // 16]) for n in range(17)))),
        ("zip overlapping", lambda: overlapping(500, 1 << 20)),
        ("tar", lambda: tarred(member("a", ZERO))),
        ("tar of many", lambda: tarred(*(member(f"{n}", ZERO[: MOST // 16]) for n in range(17)))),
        ("tar.gz", lambda: gzip.compress(tarred(member("a", ZERO)))),
        ("tar.bz2", lambda: bz2.compress(tarred(member("a", ZERO)))),
        ("tar.xz", lambda: lzma.compress(tarred(member("a", ZERO)))),
        ("after a small one", lambda: gzip.compress(tarred(member("a", b"ok"), member("b", ZERO)))),
    ],
    "bombs by number": [
        ("zip", lambda: zipped(*((f"{n}", b"") for n in range(201)))),
        ("tar", lambda: tarred(*(member(f"{n}") for n in range(201)))),
        ("tar.gz of folders", lambda: gzip.compress(tarred(*(member(f"{n}", type=tarfile.DIRTYPE) for n in range(201))))),
        ("the same folder", lambda: gzip.compress(tarred(*(member("d", type=tarfile.DIRTYPE) for n in range(201))))),
    ],
    "sizes that are not true": [
        ("zip says less", lambda: said(10)),
        ("zip says more", lambda: said(1000)),
        ("zip says very much", lambda: said(0xFFFFFFF0)),
        ("tar says very much", lambda: block("a", tarfile.REGTYPE, 8**11)),
        ("tar says less than nothing", lambda: block("a", tarfile.REGTYPE, -512)),
        ("tar says nothing in pax", lambda: tarred(member("a", b"x" * 600, pax_headers={"size": "-1"}))),
        ("tar says words in pax", lambda: tarred(member("a", b"x" * 600, pax_headers={"size": "many"}))),
        ("a file with holes", lambda: block("a", tarfile.GNUTYPE_SPARSE, 512, b"\0" * 512)),
        ("a file with holes in pax", lambda: tarred(member("a", b"1\n0\n1\n" + b"\0" * 506, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}))),
    ],
    "what is said of entries": [
        ("a pax header of a gigabyte", lambda: gzip.compress(block("a", tarfile.XHDTYPE, 1 << 30, b"\0" * MOST))),
        ("a global header of a gigabyte", lambda: gzip.compress(block("a", tarfile.XGLTYPE, 1 << 30, b"\0" * MOST))),
        ("a long name of a gigabyte", lambda: gzip.compress(block("a", tarfile.GNUTYPE_LONGNAME, 1 << 30, b"a" * MOST))),
        ("a long link of a gigabyte", lambda: bz2.compress(block("a", tarfile.GNUTYPE_LONGLINK, 1 << 30, b"a" * MOST))),
        ("long names of long names", lambda: gzip.compress(block("a", tarfile.GNUTYPE_LONGNAME, 1, b"a" + b"\0" * 511) * 5000)),
        ("pax of pax", lambda: gzip.compress(block("a", tarfile.XHDTYPE, 12, b"12 path=abc\n".ljust(512, b"\0")) * 5000)),
        ("a zip's directory of megabytes", lambda: zipped(*((f"{n:0200}", b"") for n in range(20_000)))),
        ("xz that wants gigabytes", wide),
        ("gz with a name of megabytes", lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"a" * (4 << 20)),
        ("gz of nothing, very often", lambda: gzip.compress(b"") * 200),
    ],
    "names that come twice": [
        ("zip", lambda: zipped(("a", b"good"), ("a", b"evil"))),
        ("tar", lambda: tarred(member("a", b"good"), member("a", b"evil"))),
        ("with a dot", lambda: tarred(member("a", b"good"), member("./a", b"evil"))),
        ("with two slashes", lambda: zipped(("d/a", b"good"), ("d//a", b"evil"))),
        ("file, then folder", lambda: tarred(member("a", b""), member("a/b", b"evil"))),
        ("folder, then file", lambda: zipped(("a/b", b""), ("a", b"evil"))),
        ("a folder that is a file", lambda: zipped(("a/", b""), ("a", b"evil"))),
    ],
    "what cannot be read": [
        ("nothing", lambda: b""),
        ("words", lambda: b"this is no archive at all\n" * 100),
        ("a zip cut short", lambda: zipped(("a", b"x" * 1000))[:-30]),
        ("a zip with another check", lambda: patched(zipped(("a", b"evil" * 9)), struct.pack("<L", zlib.crc32(b"evil" * 9)), b"\1\2\3\4")),
        ("a zip with other names in it", lambda: patched(zipped(("good", b"x")), b"good", b"evil", 1)),
        ("a gz cut short", lambda: gzip.compress(tarred(member("a", os.urandom(90_000))))[:-5000]),
        ("a bz2 that is none", lambda: b"BZh9" + b"evil" * 100),
        ("an xz that is none", lambda: b"\xfd7zXZ\0" + b"evil" * 100),
        ("a gz that is none", lambda: b"\x1f\x8b" + b"evil" * 100),
        ("a tar cut in a file", lambda: tarred(member("a", b"x" * 5000))[:2000]),
        ("a tar whose second header is broken", lambda: tarred(member("a", b"x"))[:1024] + b"evil" * 128),
        ("a zip that is encrypted", lambda: patched(zipped(("a", b"x"), flag_bits=0), b"\0\0\x08\0", b"\1\0\x08\0")),
        ("a zip packed by lzma", lambda: zipped(("a", b"x"), compress_type=zipfile.ZIP_LZMA)),
        ("a zip packed by bzip2", lambda: zipped(("a", b"x"), compress_type=zipfile.ZIP_BZIP2)),
        ("a zip packed by nobody", lambda: patched(zipped(("a", b"x")), b"\0\0\x08\0", b"\0\0\x63\0")),
        ("a zip whose directory is elsewhere", lambda: zipped(("a", b"x"))[:-6] + b"\xff\xff\xff\x7f\0\0"),
    ],
}  # fmt: skip


TABLE = [pytest.param(build, id=f"{kind}: {case}") for kind, cases in CASES.items() for case, build in cases]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    return tmp_path


def use(home: Path, action: str, data: bytes, **options: Any) -> Any:
    (home / "root/archive").write_bytes(data)
    registry = ToolRegistry(TOOLS)
    arguments = {
        "action": action,
        "path": "archive",
        **({"to": "out"} if action == "extract" else {}),
        **options,
    }
    with FileRoots(home / "root", max_bytes=MOST) as roots:
        registry.provide(roots)
        return run(lambda: registry.execute_tool("file_archive", arguments), seed=1)


@pytest.mark.parametrize("build", TABLE)
def test_an_archive_is_refused_whole_and_leaves_nothing(home, monkeypatch, build):
    monkeypatch.setattr(archives, "ENTRIES", 200)
    data = build()
    for action in ("extract", "list"):
        with pytest.raises(ToolError) as caught:
            use(home, action, data)
        assert caught.value.code in ("permission_denied", "invalid_input", "too_large"), caught.value
        assert caught.value.field == "$.path"
        assert str(home) not in str(caught.value)
        assert os.listdir(home / "root") == ["archive"]
        assert sorted(os.listdir(home)) == ["root", "secret"]
        assert (home / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        (
            "what is said of entries",
            "a zip's directory of megabytes",
            "its directory is more than 4,194,304 bytes",
        ),
        ("what is said of entries", "long names of long names", "too long, or has no end"),
        ("what is said of entries", "pax of pax", "too long, or has no end"),
        ("what is said of entries", "xz that wants gigabytes", "Memory usage limit"),
        ("bombs by size", "zip overlapping", "more than 8,388,608 bytes"),
        ("sizes that are not true", "zip says more", "not as long as it says"),
        ("sizes that are not true", "tar says nothing in pax", "less than nothing"),
        ("what cannot be read", "words", "no archive that can be read"),
        ("what cannot be read", "a tar whose second header is broken", "is broken"),
        ("what cannot be read", "a zip that is encrypted", "encrypted"),
    ],
)
def test_it_is_refused_for_what_is_wrong_with_it(home, kind, name, says):
    with pytest.raises(ToolError, match=says):
        use(home, "extract", case(kind, name))


# ---------------------------------------------------------------- the controls: each class works on somebody


def unzip(home: Path, data: bytes) -> None:
    """Unpack a zip as many do."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            to = home / "root" / info.filename
            if info.external_attr >> 16 and stat.S_ISLNK(info.external_attr >> 16):
                to.symlink_to(archive.read(info).decode())
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(archive.read(info))


def untar(home: Path, data: bytes, **options: Any) -> None:
    """Unpack a tar as it was done before there were filters."""
    with tarfile.open(fileobj=io.BytesIO(data), **options) as archive:
        archive.extractall(home / "root", filter="fully_trusted")


def case(kind: str, name: str) -> bytes:
    return next(build for each, build in CASES[kind] if each == name)()


def test_control_names_lead_out(home):
    unzip(home, case("names that lead out, zip", "'../evil'"))
    assert (home / "evil").read_bytes() == b"evil"
    (home / "evil").unlink()
    untar(home, case("names that lead out, tar", "'../evil'"))
    (home / "evil").unlink()
    for name in ("gz", "bz2", "xz", "gz twice"):
        untar(home, case("names that lead out, packed", name))
        (home / "evil").unlink()


def test_control_a_name_ends_at_a_nul(home):
    unzip(home, case("names behind a NUL", "zip"))
    assert os.listdir(home / "root") == ["a.txt"]


def test_control_names_too_long_fail_in_the_middle(home):
    with pytest.raises(OSError, match="too long"):
        unzip(home, zipped(("first", b"left behind"), ("a" * 256, b"")))
    assert os.listdir(home / "root") == ["first"]


def test_control_links_lead_out(home):
    (home / "outside").mkdir()
    untar(home, case("symbolic links", "tar written through"))
    assert (home / "outside/evil").read_bytes() == b"evil"
    (home / "root/a").unlink()
    unzip(home, case("symbolic links", "zip upwards"))
    assert os.readlink(home / "root/a") == "../../secret"


def test_control_hard_links_lead_out(home):
    untar(home, case("hard links", "then written"))
    assert (home / "secret").stat().st_nlink == 1 or (home / "secret").read_bytes() == b"evil"
    untar(home, case("hard links", "outside"))
    assert (home / "secret").stat().st_nlink == 2


def test_control_a_tar_makes_fifos(home):
    untar(home, case("devices, FIFOs and the like", "FIFO"))
    assert stat.S_ISFIFO((home / "root/a").stat().st_mode)


@pytest.mark.parametrize("name", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_control_bombs_become_large(home, name):
    data = case("bombs by size", name)
    (unzip if name == "zip" else untar)(home, data)
    assert (home / "root/a").stat().st_size > max(MOST, 200 * len(data))


def test_control_a_bomb_need_not_be_packed_twice(home):
    data = case("bombs by size", "zip overlapping")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sum(info.file_size for info in archive.infolist()) > 10_000 * len(data)


def test_control_ten_thousands_of_entries_are_made(home):
    untar(home, case("bombs by number", "tar"))
    assert len(os.listdir(home / "root")) == 201


@pytest.mark.parametrize("name", ["a file with holes in pax", "tar says nothing in pax"])
def test_control_a_tar_says_what_it_likes_of_its_sizes(name):
    with tarfile.open(fileobj=io.BytesIO(case("sizes that are not true", name))) as archive:
        assert archive.next().size in (1 << 50, -1)


def test_control_what_is_said_of_an_entry_is_read_whole():
    data = case("what is said of entries", "a long name of a gigabyte")
    peaks = []
    for read in (
        lambda: tarfile.open(fileobj=io.BytesIO(data)).close(),
        lambda: list(archives.entries(io.BytesIO(data), "a", MOST)),
    ):
        tracemalloc.start()
        with pytest.raises((tarfile.TarError, ToolError)):
            read()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > MOST
    assert peaks[1] < 1 << 20


def test_control_headers_of_headers_have_no_end():
    with pytest.raises(RecursionError):
        tarfile.open(fileobj=io.BytesIO(case("what is said of entries", "long names of long names"))).close()


def test_control_the_last_of_two_files_stays(home):
    untar(home, case("names that come twice", "tar"))
    assert (home / "root/a").read_bytes() == b"evil"


def test_control_half_of_an_archive_is_left_behind(home):
    with pytest.raises((tarfile.TarError, EOFError, zlib.error)):
        untar(home, gzip.compress(tarred(member("a", b"x"), member("b", os.urandom(90_000))))[:-5000])
    assert "a" in os.listdir(home / "root")
    untar(home, case("what cannot be read", "a tar whose second header is broken"))  # and says nothing of it


def test_what_pythons_own_filter_refuses_is_refused(home):
    refused = 0
    for kind, cases in CASES.items():
        for name, build in cases:
            try:
                with tarfile.open(fileobj=io.BytesIO(build())) as archive:
                    for each in archive:
                        tarfile.data_filter(each, str(home / "root"))
            except tarfile.FilterError:
                refused += 1
                with pytest.raises(ToolError):
                    list(archives.entries(io.BytesIO(build()), f"{kind}: {name}", MOST))
            except Exception:  # noqa: BLE001 - what it cannot read
                continue
    assert refused > 15


def test_the_table_is_as_large_as_it_says():
    assert len(CASES) >= 14
    assert len(TABLE) >= 120
