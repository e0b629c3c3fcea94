"""Steps in processes and threads that have effects, cost something, write streams. A process imports them."""

import os
import signal
import time
from pathlib import Path

from tests.contract.executors.crossing import say_pid

from reprise import NOT_DONE, Cost, Done, Intent, Retry, Undo, current_step, set_undo, spend, step, stream

TEN = Cost(tokens=10)
AGAIN = Retry(5, backoff=0.01)


def act(path: Path) -> int:
    """Act at the receiver, which is a file: a line with the key; return how many lines there are."""
    with path.open("a") as file:
        file.write(f"{current_step().idempotency_key}\n")
    return len(path.read_text().splitlines())


def acts(path: Path) -> list[str]:
    """Return the keys of what was done."""
    return path.read_text().splitlines() if path.exists() else []


def die() -> None:
    """End this process as if its machine had lost power."""
    os.kill(os.getpid(), signal.SIGKILL)


def find(intent: Intent) -> object:
    """Look at the receiver."""
    path = intent.args[0]
    with path.with_suffix(".asked").open("a") as file:
        file.write(f"{intent.key}\n")
    return Done(-1) if intent.key in acts(path) else NOT_DONE


@step(executor="process", effect="charge", reconcile=find, timeout=0.6)
def found(path: Path) -> int:
    """Act, and die at once."""
    act(path)
    die()
    return 0


@step(executor="process", effect="charge", reconcile=find, timeout=0.6, retry=AGAIN)
def died_before(path: Path) -> int:
    """Die before acting, the first time."""
    if not (mark := path.with_suffix(".mark")).exists():
        mark.touch()
        die()
    return act(path)


@step(executor="process", effect="charge", key="order", retry=AGAIN)
def keyed(path: Path) -> int:
    """Act and die, the first time; the receiver is told the same key again."""
    if act(path) == 1:
        die()
    return len(acts(path))


@step(executor="process", effect="charge")
def bare(path: Path) -> int:
    """Act and die; nobody can tell."""
    act(path)
    die()
    return 0


@step(executor="process")
def give_back(undo: Undo) -> None:
    """Undo in a process, too."""
    with Path(undo.args[0]).with_suffix(".undone").open("a") as file:
        file.write(f"{undo.happened} {undo.kwargs.get('receipt')}\n")


@step(executor="process", undo=give_back, timeout=4)
def lends_for_long(file: str) -> None:
    """Act, say what to undo, and stay busy until killed."""
    act(path := Path(file))
    set_undo(file, receipt=7)
    say_pid(path.with_suffix(".pid"))
    while True:
        time.sleep(0.01)


@step(executor="process", costs=TEN, idempotent=True, retry=AGAIN)
def spends_and_dies(path: Path) -> None:
    """Spend more than was reserved, and die."""
    act(path)
    spend(tokens=12)
    die()


@step(executor="process", costs=TEN)
def spends_for_long(path: Path) -> None:
    """Be busy until killed."""
    say_pid(path.with_suffix(".pid"))
    while True:
        time.sleep(0.01)


@step(executor="process", costs=TEN)
def spends(n: int) -> int:
    """Spend less than was reserved."""
    spend(tokens=5)
    return n


@step(executor="process", idempotent=True, retry=AGAIN)
def speaks_and_dies(path: Path) -> int:
    """Write chunks; the first time, die after two of them."""
    words = stream("words")
    for n in range(4):
        words.write(n)
        if n == 1 and act(path) == 1:
            die()
    return 4


@step(executor="process")
def takes_its_time(path: Path, n: int) -> int:
    """Wait for a file."""
    say_pid(path.with_suffix(".pid"))
    while not path.exists():
        time.sleep(0.005)
    return n
