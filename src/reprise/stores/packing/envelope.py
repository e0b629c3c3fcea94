"""What stands in the place of a payload: compressed, the difference to an earlier one, or as it is.

JSON never begins with a byte below 9, so the first byte tells. A difference is a zstd frame made with the earlier
payload as its dictionary: whatever the two have in common, wherever it stands, costs next to nothing, be it a list that
grew, a window that moved on, or a counter in front of everything. Frames carry a checksum of what they unfold to, so a
difference is never applied to the wrong payload unnoticed.
"""

from __future__ import annotations

import struct
import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LITERAL, COMPRESSED, DIFFERENCE, SEALED = 0, 1, 3, 4
"""First bytes; that of a reference to a blob is ``stores.blobs.REFERENCE``."""

FIRST_PLAIN = 9
"""The lowest byte with which a payload that is not packed may begin: JSON allows a tab."""

SMALL = 1024
"""Bytes below which a payload is left as it is, and no difference to it is made."""

SpoiltError = zstd.ZstdError
"""What :func:`unfold` raises for a frame that is damaged, or whose earlier payload was another."""

_QUICK = 1 << 20
"""Bytes from which speed counts for more than size."""
_MOST_TOGETHER = 1 << 27
"""Bytes of two payloads beyond which no difference is made: the longest distance that every zstd can look back."""
_PLACE = struct.Struct(">BII")

_Parameter = zstd.CompressionParameter


def is_packed(data: bytes) -> bool:
    """Tell whether a payload is anything but what was handed in."""
    return bool(data) and data[0] < FIRST_PLAIN


def folded(data: bytes) -> bytes:
    """Return a payload compressed, or as it is where that saves less than an eighth.

    >>> folded(b"[1]"), folded(bytes(2000))[0] == COMPRESSED, folded(bytes(3)) == bytes(4)
    (b'[1]', True, True)
    """
    if len(data) >= SMALL:
        level = 3 if len(data) < _QUICK else 1
        options: dict[int, int] = {_Parameter.compression_level: level, _Parameter.checksum_flag: 1}
        frame = zstd.compress(data, options=options)
        if len(frame) < len(data) - len(data) // 8:
            return b"%c%b" % (COMPRESSED, frame)
    return b"%c%b" % (LITERAL, data) if is_packed(data) else data


def difference(data: bytes, earlier: bytes, back: int, root: int) -> bytes | None:
    """Return a payload as the difference to an earlier one of the same stream, None where that cannot be.

    ``back`` is how many versions ago that was; ``root`` how many versions before that one the last payload stands that
    is whole, where reading has to begin.
    """
    together = len(data) + len(earlier)
    if together > _MOST_TOGETHER or back >> 32 or root >> 32:
        return None
    options: dict[int, int] = {
        _Parameter.compression_level: 1,
        # The fastest search, with a table large enough to find all of the earlier payload.
        _Parameter.strategy: zstd.Strategy.fast,
        _Parameter.hash_log: min(max(together.bit_length(), 12), 20),
        _Parameter.window_log: max((together - 1).bit_length(), 10),
        _Parameter.checksum_flag: 1,
    }
    frame = zstd.compress(data, options=options, zstd_dict=zstd.ZstdDict(earlier, is_raw=True).as_prefix)
    return _PLACE.pack(DIFFERENCE, back, root) + frame


def place_of(data: bytes) -> tuple[int, int] | None:
    """Return ``back`` and ``root`` of a difference, None if the payload is none."""
    if data[:1] != b"%c" % DIFFERENCE:
        return None
    _, back, root = _PLACE.unpack_from(data)
    return back, root


def unfold(data: bytes, earlier: bytes = b"") -> bytes:
    """Return what was folded; of a difference, ``earlier`` is the payload that it was made to.

    Raises :data:`SpoiltError`.

    >>> unfold(folded(bytes(2000))) == bytes(2000), unfold(difference(b"b" * 99 + b"a" * 2000, b"a" * 2000, 1, 0), b"a" * 2000)[:2]
    (True, b'bb')
    """
    if not is_packed(data):
        return data
    if data[0] == LITERAL:
        return data[1:]
    if data[0] == COMPRESSED:
        return zstd.decompress(data[1:])
    if data[0] != DIFFERENCE:
        raise SpoiltError(f"no packed payload begins with byte {data[0]}")
    return zstd.decompress(data[_PLACE.size :], zstd_dict=zstd.ZstdDict(earlier, is_raw=True).as_prefix)
