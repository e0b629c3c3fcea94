"""Where in a body a call is made: the branch of tasks, and the keys that follow from it.

A key is the path of the branch (coroutine name and count in its parent, level by level) and an ordinal within it, with
the name of the step for people: ``:2.load`` is the second step of the body and calls ``load``, ``/one.3/fetch:1`` the
step ``fetch`` that the third task ``one`` started as a task. Keys never depend on arguments or on the order in which
branches happen to run.
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


class Branch:
    """One task of a body: what it has counted so far."""

    __slots__ = ("kids", "path", "sites", "steps", "timers")

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps = 0
        self.timers = 0
        self.sites = 0
        self.kids: dict[str, int] = {}

    def child(self, name: str) -> str:
        """Count a child branch of that coroutine name and return its path."""
        count = self.kids[name] = self.kids.get(name, 0) + 1
        return f"{self.path}/{name}.{count}" if count > 1 else f"{self.path}/{name}"

    def step(self, name: str) -> str:
        """Return the key of the next step here, which calls ``name``."""
        self.steps += 1
        return f"{self.path}:{self.steps}.{name}"

    def timer(self) -> str:
        """Return the key of the next timer here."""
        self.timers += 1
        return f"{self.path}@{self.timers}"

    def site(self) -> str:
        """Return the key of the next value derived from the call site (random, uuid)."""
        self.sites += 1
        return f"{self.path}#{self.sites}"


def name_in(key: str) -> str:
    """Return the name of the step that a key stands for; of an explicit key, the key itself.

    >>> name_in(":2.load"), name_in("/one.3/fetch.12:1"), name_in("front-page")
    ('load', 'fetch', 'front-page')
    """
    path, colon, ordinal = key.rpartition(":")
    if not colon:
        return key
    _, dot, name = ordinal.partition(".")
    if dot:
        return name
    last = path.rpartition("/")[2]
    stem, dot, count = last.rpartition(".")
    return stem if dot and count.isdigit() else last or key


def place_of(key: str) -> tuple[str, int] | None:
    """Return the path of the branch and the ordinal in it that a step's key names, None of an explicit key.

    >>> place_of(":2.load"), place_of("/one.3/fetch:1"), place_of("front-page")
    (('', 2), ('/one.3/fetch', 1), None)
    """
    path, colon, rest = key.rpartition(":")
    number = rest.partition(".")[0]
    if not colon or not number.isdigit() or (path and path[0] != "/"):
        return None
    return path, int(number)


def idempotency_key(scope: str, key: str) -> str:
    """Return by what a receiver knows the call of that key in a generation of a run, and no other call.

    >>> idempotency_key("order-7", ":1.charge")
    'd59e884f-b0bf-443c-a8d8-bf9ac84b820f'
    """
    digest = blake2b(f"{scope}\0{key}".encode(), digest_size=16)
    return str(uuid.UUID(bytes=digest.digest(), version=4))


BRANCH: ContextVar[Branch] = ContextVar("reprise_branch")
"""The branch of the running task of a body."""

RUN: ContextVar[Execution | None] = ContextVar("reprise_run", default=None)
"""The run whose body is running; None outside of bodies, also inside of steps."""
