"""Archives that strangers made: what is in them is read as a stream, counted, and nothing else than files and folders.

The modules for archives take longer to load than all tools together; they are loaded where an archive is opened.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, cast

from reprise.kernel.errors import ToolError
from reprise.tools.guards.names import segments

if TYPE_CHECKING:
    import tarfile
    import zipfile

Format = Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]

ENTRIES = 10_000
"""Files and folders in an archive."""
RATIO = 200
"""How many times its own size an archive may become, where that is more than ``SMALL``."""
SMALL = 1 << 20
DIRECTORY = 4 << 20
"""Bytes of a zip's directory, which is read at once."""
HEADER = 1 << 16
"""Bytes of a header in a tar that tells of the next one, such as a long name; each is read at once."""
HEADERS = 32 << 20
"""Bytes in which a packed tar may say what is in it, beside what is in it."""
CHAIN = 8
"""Headers behind each other that all tell of the next one."""
MEMORY = 128 << 20
"""Bytes that unpacking xz may use; its strongest setting takes 65 MiB."""
_BLOCK = 1 << 16
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.bz2"),
    (b"\xfd7zXZ\x00", "tar.xz"),
)
_EXTENDING = frozenset((b"x", b"g", b"X", b"L", b"K"))
"""Types of headers in a tar that tell of the next one: of pax, and of long names."""
Count = Callable[[int], None]
"""Told how many bytes were unpacked; raises when that is enough."""


class Entry(NamedTuple):
    """A file or folder in an archive."""

    names: tuple[str, ...]
    is_folder: bool
    size: int
    """Bytes, as the archive says."""
    executable: bool
    data: Iterator[bytes]
    """What is in it; to be taken before the next entry is asked for."""

    @property
    def path(self) -> str:
        """Its path in the archive."""
        return "/".join(self.names)


def format_of(file: IO[bytes]) -> Format:
    """Return what an archive is, by how it begins; what begins as nothing else is a tar."""
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return "tar"


def entries(file: IO[bytes], path: str, most: int, count: Count = lambda size: None) -> Iterator[Entry]:
    """Yield what is in an archive, checked; at most ``most`` bytes in all.

    ``path`` is how callers are told of it. Owners, times, and all permissions but ``executable`` are left out.

    Raises ``ToolError``: ``permission_denied`` for links, devices and the like; ``invalid_input`` for names that lead out,
    come twice, or cannot be, and for what cannot be read; ``too_large`` for too many entries, bytes, or bytes for its size.
    """
    form = format_of(file)
    size = file.seek(0, 2)
    file.seek(0)
    gate = _Gate(path, size, most, count)
    with _readable(path):
        yield from _zipped(file, gate) if form == "zip" else _tarred(file, form, gate)


class _Gate:
    """What every entry of an archive passes."""

    def __init__(self, path: str, size: int, most: int, count: Count) -> None:
        self.path, self._size, self.most, self._count = path, size, most, count
        self._files: set[tuple[str, ...]] = set()
        self._folders: set[tuple[str, ...]] = set()
        self._bytes = self._entries = 0

    def refuse(self, why: str, code: str = "permission_denied") -> ToolError:
        return ToolError(code, f"{self.path}: {why}.", field="$.path")

    def name(self, name: str, *, is_folder: bool) -> tuple[str, ...]:
        """Return the names of an entry's path."""
        self._entries += 1
        if self._entries > ENTRIES:
            raise self.refuse(f"it has more than {ENTRIES:,} entries", "too_large")
        self._count(0)
        try:
            names = tuple(segments(name))
        except ToolError as error:
            raise self.refuse(f"in it is {error.what.rstrip('.')}", error.code) from None
        if not names and is_folder:
            return names
        if not names:
            raise self.refuse("in it is a file without a name", "invalid_input")
        above = {names[:at] for at in range(1, len(names))}
        taken = names in self._files or (names in self._folders and not is_folder)
        if taken or above & self._files:
            raise self.refuse(f"in it is {name[:200]!r} twice, or as file and folder", "invalid_input")
        (self._folders if is_folder else self._files).add(names)
        self._folders |= above
        return names

    def expect(self, size: int) -> None:
        """Check how large an entry says that it is."""
        if size < 0:
            raise self.refuse("in it is a file of less than nothing", "invalid_input")
        self._check(self._bytes + size)

    def took(self, size: int) -> None:
        """Count what was unpacked."""
        self._bytes += size
        self._check(self._bytes)
        self._count(size)

    def _check(self, total: int) -> None:
        if total > self.most:
            raise self.refuse(f"unpacked it would be more than {self.most:,} bytes", "too_large")
        if total > max(SMALL, RATIO * self._size):
            raise self.refuse(f"unpacked it would be more than {RATIO} times its size", "too_large")


@contextmanager
def _readable(path: str) -> Generator[None]:
    """Make one error of all that readers raise for archives that are broken, cut short, or made to break them."""
    from lzma import LZMAError
    from tarfile import TarError
    from zipfile import BadZipFile

    broken = (BadZipFile, TarError, zlib.error, LZMAError, struct.error, EOFError, OSError)
    try:
        yield
    except (*broken, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ToolError(
            "invalid_input",
            f"{path} is no archive that can be read: {str(error).rstrip('.') or type(error).__name__}.",
            hint="It may be zip, tar, tar.gz, tar.bz2 or tar.xz.",
            field="$.path",
        ) from error


# ---------------------------------------------------------------- zip


class _Careful:
    """A file of which no one reads much at once: a zip's directory is taken to be as large as the zip says."""

    def __init__(self, file: IO[bytes], gate: _Gate) -> None:
        self._file, self._gate = file, gate
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(DIRECTORY + 1 if size < 0 or size > DIRECTORY else size)
        if len(data) > DIRECTORY:
            raise self._gate.refuse(f"its directory is more than {DIRECTORY:,} bytes", "too_large")
        return data


def _zipped(file: IO[bytes], gate: _Gate) -> Iterator[Entry]:
    import zipfile

    with zipfile.ZipFile(cast("IO[bytes]", _Careful(file, gate))) as archive:
        infos = archive.infolist()
        gate.expect(sum(info.file_size for info in infos))
        for info in infos:
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            is_folder = info.filename.endswith("/") or kind == stat.S_IFDIR
            # What comes behind a NUL is cut off from the name, and not from what it was.
            names = gate.name(
                info.orig_filename if "\0" in info.orig_filename else info.filename, is_folder=is_folder
            )
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise gate.refuse(f"in it is {info.filename!r}, a link or a device")
            if info.flag_bits & 0x1:
                raise gate.refuse(f"in it is {info.filename!r}, which is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise gate.refuse(
                    f"in it is {info.filename!r}, packed by method {info.compress_type}, not by deflate",
                    "invalid_input",
                )
            data = iter(()) if is_folder else _unzipped(archive, info, gate)
            yield Entry(names, is_folder, info.file_size, bool(mode & 0o100), data)


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, gate: _Gate) -> Iterator[bytes]:
    left = info.file_size
    with _readable(gate.path), archive.open(info) as file:
        while block := file.read(_BLOCK):
            gate.took(len(block))
            left -= len(block)
            yield block
    if left:
        raise gate.refuse(f"{info.filename!r} is not as long as it says", "invalid_input")


# ---------------------------------------------------------------- tar


class _Engine(Protocol):
    """What unpacks one stream: as bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Gzip:
    """The same of gzip."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._engine.decompress(self._engine.unconsumed_tail + data, max_length)
        self.needs_input = not self._engine.unconsumed_tail and len(out) < max_length
        return out


def _engine(form: Format) -> _Engine:
    """Return what unpacks a stream."""
    if form == "tar.gz":
        return _Gzip()
    if form == "tar.bz2":
        from bz2 import BZ2Decompressor

        return BZ2Decompressor()
    from lzma import FORMAT_XZ, LZMADecompressor

    return LZMADecompressor(FORMAT_XZ, memlimit=MEMORY)


class _Unpacked:
    """What a packed file is unpacked, a piece at a time; it may be several streams, one behind the other."""

    def __init__(self, file: IO[bytes], form: Format, gate: _Gate) -> None:
        self._file, self._gate = file, gate
        self._form: Format = form
        self._engine = _engine(form)
        self._left = gate.most + HEADERS

    def read(self, size: int) -> bytes:
        """Return at most so many bytes, none at the end."""
        while True:
            data = b""
            if self._engine.eof:
                data = self._following()
                if not data:
                    return b""
                self._engine = _engine(self._form)
            elif self._engine.needs_input and not (data := self._file.read(_BLOCK)):
                raise EOFError("it is cut short")
            if out := self._engine.decompress(data, size):
                self._left -= len(out)
                if self._left < 0:
                    raise self._gate.refuse("it says too much of what is in it", "too_large")
                return out
            self._gate.took(0)

    def _following(self) -> bytes:
        """Return how the next stream begins; between them may be zeros."""
        rest = self._engine.unused_data
        while not (rest := rest.lstrip(b"\0")):
            rest = self._file.read(_BLOCK)
            self._gate.took(0)
            if not rest:
                break
        return rest


def _tarred(file: IO[bytes], form: Format, gate: _Gate) -> Iterator[Entry]:
    import tarfile

    raw: Any = file if form == "tar" else _Unpacked(file, form, gate)
    with tarfile.open(fileobj=raw, mode="r|", tarinfo=_header(gate), encoding="utf-8") as archive:
        for member in archive:
            is_folder = member.isdir()
            names = gate.name(member.name, is_folder=is_folder)
            if not (is_folder or member.isreg()) or member.issparse():
                raise gate.refuse(f"in it is {member.name!r}, {_kind(member)}")
            gate.expect(0 if is_folder else member.size)
            data = iter(()) if is_folder else _untarred(archive, member, gate)
            yield Entry(names, is_folder, member.size, bool(member.mode & 0o100), data)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a {'symbolic' if member.issym() else 'hard'} link to {member.linkname!r}"
    if member.isdev():
        return "a FIFO" if member.isfifo() else "a device"
    return "a file with holes" if member.isreg() else f"of the unknown type {member.type!r}"


def _untarred(archive: tarfile.TarFile, member: tarfile.TarInfo, gate: _Gate) -> Iterator[bytes]:
    with _readable(gate.path):
        file = archive.extractfile(member)
        assert file is not None
        while block := file.read(_BLOCK):
            gate.took(len(block))
            yield block


def _header(gate: _Gate) -> type[tarfile.TarInfo]:
    """Return a class for what is said of entries; it passes none that is read whole, whatever its size, or without an end."""
    import tarfile

    extending = headers = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal extending, headers
            headers += 1
            try:
                found = super().frombuf(buf, encoding, errors)
            except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
                raise
            except tarfile.HeaderError as error:
                if headers == 1:
                    raise
                raise gate.refuse(f"what it says of an entry is broken: {error}", "invalid_input") from None
            extending = extending + 1 if found.type in _EXTENDING else 0
            if found.size < 0 or (extending and found.size > HEADER) or extending > CHAIN:
                raise gate.refuse("what it says of an entry is too long, or has no end", "too_large")
            return found

    return Header
