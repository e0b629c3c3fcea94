"""A tool that puts what is at an address into a file."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import IO, Annotated, Any, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import Answer, Fetched, network, too_large
from reprise.tools.guards.paths import FileRoots, roots_of
from reprise.tools.library.web.reading import Url, must_be_good
from reprise.tools.tool import Example, tool

_TIMEOUT = 3_600
_PIECE = 1 << 20
"""Bytes that are collected before they are written."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Downloaded(TypedDict):
    """A file that is there now."""

    path: str
    url: str
    """After redirects."""
    bytes: int
    sha256: str
    content_type: str
    resumed_at: int
    """Bytes that were there from an earlier attempt."""


@tool(
    effects="network",
    tags=["web", "file"],
    extra="web",
    timeout=_TIMEOUT,
    examples=[Example({"url": "https://example.org/data.csv", "path": "work/data.csv"})],
)
async def web_download(
    ctx: ToolContext,
    url: Url,
    path: Annotated[str, Meta(min_length=1, max_length=4_000), "A file in the roots, such as work/data.csv."],
    sha256: Annotated[
        str, Meta(pattern="^([0-9a-fA-F]{64})?$"), "What it must be, in hexadecimal; '' = anything."
    ] = "",
    overwrite: bool = False,
    resume: Annotated[
        bool, "Keep what arrived when it breaks off, and go on from there the next time."
    ] = False,
    max_bytes: Annotated[
        Annotated[int, Meta(ge=1)] | None, "Refuse more; none = as many as files may have."
    ] = None,
    timeout: Annotated[float, Meta(gt=0, le=3_600), "Seconds in all."] = 300,
) -> Downloaded:
    """Download a file. Others see all of it or nothing; with a sha256 that is not the file's, nothing is left."""
    roots = roots_of(ctx)
    job = _Job(ctx, roots, url, path, sha256.lower(), overwrite=overwrite, timeout=timeout)
    job.limit = min(roots.max_bytes, network(ctx).max_bytes, max_bytes or roots.max_bytes)
    if not overwrite:
        await asyncio.to_thread(job.must_be_new)
    if resume and (begun := await job.begun()):
        return await job.go_on(*begun)
    return await job.at_once(keep=resume)


class _Job:
    """One download."""

    limit = 0

    def __init__(
        self,
        ctx: ToolContext,
        roots: FileRoots,
        url: str,
        path: str,
        sha256: str,
        *,
        overwrite: bool,
        timeout: float,
    ) -> None:
        self._ctx, self._roots, self._url, self._path = ctx, roots, url, path
        self._sha256, self._overwrite = sha256, overwrite
        self._until = ctx.clock.monotonic() + timeout

    def must_be_new(self) -> None:
        """Raise ``ToolError`` with code ``conflict`` when there is a file already."""
        with self._roots.place(self._path, make=True, inside=True) as (folder, name):
            if folder.has(name):
                raise ToolError(
                    "conflict",
                    f"{self._path} is there already.",
                    hint="overwrite=True replaces it.",
                    field="$.path",
                )

    async def at_once(self, *, keep: bool) -> Downloaded:
        """Download all of it; ``keep`` what arrived where it can be gone on with."""
        async with self._asked() as answer:
            part = _part(self._path, self._url, answer.headers) if keep else ""
            self._must_fit(answer, 0)
            if part:
                await asyncio.to_thread(self._remove, part)
                async with _in_thread(self._roots.writing(part, "append", make=True)) as file:
                    size, digest = await self._take(answer, file, hashlib.sha256(), 0)
                return await self._finished(answer, part, size, digest, 0)
            mode = "overwrite" if self._overwrite else "create"
            async with _in_thread(self._roots.writing(self._path, mode, limit=self.limit, make=True)) as file:
                size, digest = await self._take(answer, file, hashlib.sha256(), 0)
                self._must_be(digest)
            return self._told(answer, size, digest, 0)

    async def begun(self) -> tuple[str, str] | None:
        """Return what is left of an earlier attempt at the same version, and that version; None if there is nothing."""
        async with self._asked() as answer:
            part = _part(self._path, self._url, answer.headers)
            version = _version(answer.headers)
        return (part, version) if part and await asyncio.to_thread(self._has, part) else None

    async def go_on(self, part: str, version: str) -> Downloaded:
        """Download what is missing; all of it where the receiver does not do that."""
        size, digest = await asyncio.to_thread(self._read, part)
        async with self._asked({"range": f"bytes={size}-", "if-range": version}) as answer:
            begins = _RANGE.match(answer.headers.get("content-range", ""))
            if answer.status == 416 and answer.headers.get("content-range", "") == f"bytes */{size}":
                return await self._finished(answer, part, size, digest, size)
            if answer.status == 206 and begins and int(begins[1]) == size:
                self._must_fit(answer, size)
                async with _in_thread(self._roots.writing(part, "append")) as file:
                    total, digest = await self._take(answer, file, digest, size)
                return await self._finished(answer, part, total, digest, size)
        await asyncio.to_thread(self._remove, part)
        return await self.at_once(keep=True)

    # ------------------------------------------------------------ the network

    @asynccontextmanager
    async def _asked(self, headers: Mapping[str, str] | None = None) -> AsyncGenerator[Answer]:
        left = max(0.001, self._until - self._ctx.clock.monotonic())
        # As it is: a part that is compressed could not be gone on with, and has another length than what is written.
        asked = {"accept-encoding": "identity", **(headers or {})}
        async with network(self._ctx).stream("GET", self._url, headers=asked, timeout=left) as answer:
            if answer.status != 416 or not headers:
                must_be_good(self._ctx, Fetched(answer.status, answer.headers, b"", answer.url))
            yield answer

    async def _take(self, answer: Answer, file: IO[bytes], digest: Any, size: int) -> tuple[int, Any]:
        pieces = bytearray()
        async for piece in answer:
            size += len(piece)
            if size > self.limit:
                raise too_large(self.limit)
            pieces += piece
            if len(pieces) >= _PIECE:
                await asyncio.to_thread(_write, file, digest, bytes(pieces))
                pieces.clear()
        await asyncio.to_thread(_write, file, digest, bytes(pieces))
        return size, digest

    def _must_fit(self, answer: Answer, size: int) -> None:
        announced = answer.headers.get("content-length", "")
        if announced.isdecimal() and size + int(announced) > self.limit:
            raise too_large(self.limit)

    # ------------------------------------------------------------ the file

    def _must_be(self, digest: Any) -> None:
        if self._sha256 and digest.hexdigest() != self._sha256:
            raise ToolError(
                "upstream",
                f"What came from {self._url} has the SHA-256 {digest.hexdigest()}.",
                hint=f"It should be {self._sha256}; nothing was written.",
                field="$.sha256",
            )

    async def _finished(
        self, answer: Answer, part: str, size: int, digest: Any, resumed_at: int
    ) -> Downloaded:
        try:
            self._must_be(digest)
        except ToolError:
            await asyncio.to_thread(self._remove, part)
            raise
        await asyncio.to_thread(self._rename, part)
        return self._told(answer, size, digest, resumed_at)

    def _told(self, answer: Answer, size: int, digest: Any, resumed_at: int) -> Downloaded:
        return {
            "path": self._path,
            "url": answer.url,
            "bytes": size,
            "sha256": digest.hexdigest(),
            "content_type": answer.headers.get("content-type", ""),
            "resumed_at": resumed_at,
        }

    def _has(self, part: str) -> bool:
        with self._roots.place(part, make=True, inside=True) as (folder, name):
            return folder.has(name)

    def _read(self, part: str) -> tuple[int, Any]:
        digest, size = hashlib.sha256(), 0
        with self._roots.reading(part) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        return size, digest

    def _remove(self, part: str) -> None:
        with self._roots.place(part, make=True, inside=True) as (folder, name):
            if folder.has(name):
                folder.remove(name)

    def _rename(self, part: str) -> None:
        with (
            self._roots.place(part, inside=True) as (folder, name),
            self._roots.place(self._path, inside=True) as (to, new),
        ):
            folder.rename(name, to, new, replace=self._overwrite)


def _version(headers: Mapping[str, str]) -> str:
    """Return what a receiver calls this version of the content, '' = nothing that can be relied on."""
    tag = headers.get("etag", "")
    return headers.get("last-modified", "") if not tag or tag.startswith("W/") else tag


def _part(path: str, url: str, headers: Mapping[str, str]) -> str:
    """Return the name of what there is of a file: another one for each version, so that no two are put together."""
    if not _version(headers) or headers.get("content-encoding"):
        return ""
    mark = hashlib.sha256(f"{url}\n{_version(headers)}".encode()).hexdigest()[:12]
    return f"{path}.{mark}.part"


def _write(file: IO[bytes], digest: Any, data: bytes) -> None:
    file.write(data)
    digest.update(data)


@asynccontextmanager
async def _in_thread(manager: AbstractContextManager[IO[bytes]]) -> AsyncGenerator[IO[bytes]]:
    """Enter and leave where waiting for a disk holds up nobody."""
    file = await asyncio.to_thread(manager.__enter__)
    try:
        yield file
    except BaseException as error:
        await asyncio.to_thread(manager.__exit__, type(error), error, error.__traceback__)
        raise
    await asyncio.to_thread(manager.__exit__, None, None, None)
