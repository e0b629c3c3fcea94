"""Keys: what payloads are sealed with.

AES-256-GCM. The nonce is a keyed hash of what is sealed and of its place, so it never meets another content (as in the
synthetic nonces of RFC 5297 and RFC 8452), and a blob that is sealed twice is the same blob. Four keys are derived
from each key that is given: for sealing, for nonces, for names that follow from a content, and for the mark by which a
payload finds its key again.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from reprise.kernel.errors import ConfigurationError, KeyMissing, MissingExtra, StoreCorrupt
from reprise.stores.packing.envelope import SEALED

KEY_BYTES = 32
DIGEST_BYTES = 20
_MARK, _NONCE = 4, 12


class KeyRing:
    """Keys by name: the ``current`` one seals, all of them open.

    A key is 32 random bytes, or their base64 text. To rotate, add a key and make it the current one; keep the others as
    long as payloads sealed with them are to be read.

    >>> ring = KeyRing({"2025": bytes(32), "2026": bytes(range(32))}, current="2026")
    >>> ring.open(ring.seal(b"secret", b"here"), b"here"), ring
    (b'secret', KeyRing('2026' seals; '2025' only opens))

    Raises:
        ConfigurationError: no key, a key of another length, or ``current`` is none of them.
        MissingExtra: the package ``cryptography`` is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes | str], current: str) -> None:
        if current not in keys:
            raise ConfigurationError(
                f"The current key {current!r} is not among the keys {sorted(keys)}.", hint="Name one of them."
            )
        self.current = current
        self._keys = {name: _Key(name, _bytes_of(name, key)) for name, key in keys.items()}
        self._by_mark = {key.mark: key for key in self._keys.values()}

    @property
    def names(self) -> list[str]:
        """Names of the keys."""
        return list(self._keys)

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Return data that only who has the current key can read, and only at this place."""
        return self._keys[self.current].seal(data, place)

    def open(self, data: bytes, place: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            KeyMissing: it was sealed with a key that is not in the ring.
            StoreCorrupt: it was changed, or moved here from another place.
        """
        name, mark, rest = _parts(data)
        key = self._by_mark.get(mark)
        if key is None:
            raise _missing(name, self._keys)
        return key.open(rest, place)

    def digest(self, data: bytes) -> str:
        """Return a name for data that nobody can tell, or find again, who has not the current key."""
        return self._keys[self.current].digest(data)

    def __repr__(self) -> str:
        others = "".join(f"; {name!r} only opens" for name in self._keys if name != self.current)
        return f"KeyRing({self.current!r} seals{others})"

    def __reduce__(self) -> str:
        raise TypeError("A key ring is not written anywhere.")


class _Key:
    """One key and what is derived from it."""

    def __init__(self, name: str, key: bytes) -> None:
        self.mark = _derived(key, b"mark", _MARK)
        self._nonces = _derived(key, b"nonce", 32)
        self._names = _derived(key, b"name", 32)
        self._cipher: Any = _aes_gcm(_derived(key, b"seal", 32))
        text = name.encode()
        self._head = bytes((SEALED, len(text))) + text + self.mark

    def digest(self, data: bytes) -> str:
        return blake2b(data, digest_size=DIGEST_BYTES, key=self._names).hexdigest()

    def seal(self, data: bytes, place: bytes) -> bytes:
        hashed = blake2b(place, digest_size=_NONCE, key=self._nonces, salt=len(place).to_bytes(4, "big"))
        hashed.update(data)
        nonce = hashed.digest()
        return self._head + nonce + self._cipher.encrypt(nonce, data, place)

    def open(self, rest: bytes, place: bytes) -> bytes:
        try:
            return self._cipher.decrypt(rest[:_NONCE], rest[_NONCE:], place)
        except Exception as error:
            raise StoreCorrupt(
                "A sealed payload was changed, or moved from another place.",
                hint="It was tampered with outside of Reprise: restore a backup.",
            ) from error


def key_missing(data: bytes) -> KeyMissing:
    """Return the error for a sealed payload where there are no keys at all."""
    return _missing(_parts(data)[0], ())


def _parts(data: bytes) -> tuple[str, bytes, bytes]:
    """Return the name of the key, its mark, and nonce and sealed data."""
    end = 2 + data[1]
    return data[2:end].decode("utf-8", "replace"), data[end : end + _MARK], data[end + _MARK :]


def _missing(name: str, known: Mapping[str, Any] | tuple[()]) -> KeyMissing:
    if name in known:
        what = f"A payload is sealed with a key {name!r} that is not the one of that name in the key ring."
    else:
        has = f"the key ring has {', '.join(map(repr, known))}" if known else "no key was given"
        what = f"A payload is sealed with the key {name!r}; {has}."
    return KeyMissing(
        what, hint="Give the key (settings payloads.keys, or keys=KeyRing(…)); nothing is lost."
    )


def _bytes_of(name: str, key: bytes | str) -> bytes:
    if not name or len(name.encode()) > 99:
        raise ConfigurationError(f"{name!r} cannot be the name of a key.", hint="Use 1 to 99 bytes.")
    if isinstance(key, str):
        try:
            key = b64decode(key.strip().translate({45: 43, 95: 47}), validate=True)
        except ValueError:
            raise ConfigurationError(f"The key {name!r} is not base64.", hint=_MAKE) from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"The key {name!r} has {len(key)} bytes, not {KEY_BYTES}.", hint=_MAKE)
    return bytes(key)


_MAKE = "Make one: openssl rand -base64 32"


def _derived(key: bytes, purpose: bytes, size: int) -> bytes:
    return blake2b(digest_size=size, key=key, person=b"reprise " + purpose).digest()


def _aes_gcm(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MissingExtra(
            "Sealing payloads needs the package cryptography, which is not installed.",
            hint="Run: pip install 'reprise-agents[encryption]'",
        ) from error
    return AESGCM(key)
