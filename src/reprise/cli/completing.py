"""What may stand where the cursor is: ids, names and the words of queries. It answers within a tenth of a second.

A shell gives its name and the line up to the cursor; the answer is one candidate a line, with the space that belongs
behind it. Whatever goes wrong, nothing is said. Ids and names are looked up in SQLite files only; of a server that would
take too long. Nothing here imports what commands need; only options are asked of the commands themselves.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from reprise.cli.locating import file_of, store_url
from reprise.stores.sqlite import glance

OPEN = (
    "pending",
    "running",
    "waiting",
    "paused",
    "cancelling",
    "compensating",
    "stranded",
    "needs_attention",
)
STATES = (*OPEN, "completed", "failed", "cancelled")
TAKES_ID = {
    "show": (),
    "events": (),
    "logs": (),
    "budget": OPEN,
    "effects": OPEN,
    "answer": OPEN,
    "query": OPEN,
    "stream": (),
    "update": OPEN,
    "signal": OPEN,
    "cancel": OPEN,
    "pause": ("pending", "running", "waiting", "cancelling"),
    "resume": OPEN,
    "retry": ("failed", "cancelled", "needs_attention"),
}
"""Commands that take ids of runs, and the states of runs for which they are meant; () = all."""
TAKES_TOOL = frozenset({"call", "show"})
MANY_IDS = frozenset({"cancel", "pause", "resume", "retry"})
TAKES_QUERY = frozenset({"ps", "prune"})
QUERY_OPTIONS = frozenset({"-q", "--query"})
FIELDS = (
    "age<", "build:", "created>", "due<", "error:", "id:", "idle>", "owner:none", "parent:", "status:", "updated>",
    "warning:", "workflow:",
)  # fmt: skip
GROUPS = ("build", "owner", "parent", "status", "workflow")
WORDS = {
    "-o": ("json", "jsonl", "table"),
    "--output": ("json", "jsonl", "table"),
    "--progress": ("auto", "live", "none", "plain"),
    "-t": ("agents", "hello", "saga"),
    "--template": ("agents", "hello", "saga"),
}
"""Options of which the values are known."""
ALONE = frozenset(
    """--again --all --color --debug --detach --dry-run --files --follow --fresh --full --help --no-color --origin --replace
    --steps --version --watch --yes -a -d -h -y""".split()
)
"""Options without a value; ``-f`` is one of events and logs."""
_SPECIAL = re.compile(r"""[^\w@%+=:,./~^-]""")


class Line(NamedTuple):
    """A line up to the cursor, taken apart."""

    words: list[str]
    """Words before the cursor that are complete, without ``reprise``."""
    word: str
    """The one that is being written, without quotes."""
    quote: str
    """The quote in which the cursor is, '' if in none."""


def main(arguments: Sequence[str]) -> None:
    """Answer a shell, with its name and a line as ``arguments``."""
    try:
        shell, line = arguments
        for answer in answers(shell, take_apart(line)):
            sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    except Exception:  # noqa: BLE001 (a terminal in which somebody types must see none of it)
        os._exit(0)


def take_apart(line: str) -> Line:
    """Split what was typed as a shell does.

    >>> take_apart("FOO=1 reprise ps 'status:failed wor")
    Line(words=['ps'], word='status:failed wor', quote="'")
    """
    words, word, quote, started = list[str](), "", "", False
    at = 0
    while at < len(line):
        c = line[at]
        if c == "\\" and quote != "'" and at + 1 < len(line):
            at += 1
            word, started = word + line[at], True
        elif quote:
            if c == quote:
                quote = ""
            else:
                word += c
        elif c in "'\"":
            quote, started = c, True
        elif c.isspace():
            words += [word] if word or started else []
            word, started = "", False
        else:
            word += c
        at += 1
    own = max((at for at, one in enumerate(words) if Path(one).name == "reprise"), default=0)
    return Line(words[own + 1 :], word, quote)


def answers(shell: str, line: Line) -> Iterable[str]:
    """Yield what a shell is to put in place of the word that is being written."""
    base, found = candidates(line)
    skip = 0
    if shell == "bash" and not line.quote:
        # It replaces only what stands after the last character at which it breaks words.
        breaks = os.environ.get("COMP_WORDBREAKS") or " \t\n\"'@><=;|&(:"
        skip = max((line.word.rfind(c) + 1 for c in breaks), default=0)
    for one in dict.fromkeys(found):
        whole = base + one
        goes_on = whole.endswith((":", "<", ">", "/", "="))
        shown = whole[skip:]
        if not line.quote and shell == "bash":
            shown = _SPECIAL.sub(lambda m: "\\" + m[0], shown)
        yield shown if goes_on or line.quote or shell != "bash" else f"{shown} "


def candidates(line: Line) -> tuple[str, list[str]]:
    """Return what stays of the word as it is, and what may follow that."""
    words, word = line.words, line.word
    command = next((one for one in words if not one.startswith("-")), "")
    before = words[-1] if words else ""
    if not command:
        return "", _starting(word, _commands())
    if before in WORDS:
        return "", _starting(word, WORDS[before])
    is_query = before in QUERY_OPTIONS or (command in TAKES_QUERY and not _is_value(before))
    if is_query and not word.startswith("-"):
        return _query(_store(words), word, both=command in TAKES_QUERY)
    if before in ("-c", "--count"):
        store = _store(words)
        return "", _starting(word, GROUPS) + (glance.tags(store, word) if store else [])
    if word.startswith("-"):
        return "", _starting(word, _options(words))
    after = words[words.index(command) + 1 :]
    if command in TAKES_ID and not _is_value(before):
        given = [
            one
            for at, one in enumerate(after)
            if not one.startswith("-") and not _is_value((command, *after)[at])
        ]
        if command in MANY_IDS or not given:
            return "", _ids(_store(words), word, TAKES_ID[command])
    if after and command == "tools" and after[0] in TAKES_TOOL and not _is_value(before):
        return "", _of_tools(after, word)
    return "", _starting(word, _subcommands(command)) if not after else []


def _is_value(before: str) -> bool:
    """Tell whether what stands after a word is the value of an option."""
    return before.startswith("-") and before not in ALONE and "=" not in before


def _starting(word: str, all: Iterable[str]) -> list[str]:
    return [one for one in all if one.startswith(word)]


# ---------------------------------------------------------------- from the store


def _store(words: Sequence[str]) -> Path | None:
    url = ""
    for at, one in enumerate(words[:-1]):
        if one in ("-s", "--store"):
            url = words[at + 1]
    path = file_of(url or store_url(Path.cwd(), os.environ))
    return path if path is not None and path.is_file() else None


def _ids(store: Path | None, word: str, states: Sequence[str]) -> list[str]:
    last = _starting(word, ["@last"]) if word else []
    return last + (glance.runs(store, word, states) if store else [])


def _query(store: Path | None, text: str, *, both: bool) -> tuple[str, list[str]]:
    """Complete the last condition of a query; ``both`` = conditions may be words of their own."""
    start = max(text.rfind(c) for c in " (") + 1
    base, condition = text[:start], text[start:]
    field, colon, value = condition.partition(":")
    if not colon:
        names = [f"{name}:" for name in glance.tags(store, condition)] if store else []
        return base, _starting(condition, (*FIELDS, *names, *(() if not both else ("not",))))
    *listed, last = value.split(",")
    base += ",".join([f"{field}:{listed[0]}", *listed[1:], ""]) if listed else f"{field}:"
    if field == "status":
        return base, _starting(last, ("open", "ended", *STATES))
    if store is None or field in ("build", "error", "owner", "warning"):
        return base, []
    if field == "workflow":
        return base, glance.workflows(store, last)
    if field in ("id", "parent"):
        return base, glance.runs(store, last)
    found = glance.tag_values(store, field.removeprefix("tag."), last)
    return base, [one if not re.search(r"[\s(),\"']", one) else f'"{one}"' for one in found]


# ---------------------------------------------------------------- from the tools


def _of_tools(after: Sequence[str], word: str) -> list[str]:
    """Return names of built-in tools, or what the one that is called takes and was not given yet."""
    given = [one for one in after[1:] if not one.startswith("-")]
    if not given:
        import msgspec  # noqa: PLC0415 - not for what is completed otherwise

        index = Path(__file__).parents[1] / "tools" / "library" / "index.json"
        return _starting(word, sorted(each["name"] for each in msgspec.json.decode(index.read_bytes())))
    if after[0] != "call":
        return []
    tools = import_module("reprise.tools.library").create_builtin_tools_library()
    takes = next((tool.parameters["properties"] for tool in tools if tool.name == given[0]), ())
    known = {one.partition("=")[0] for one in given[1:]}
    return _starting(word, [f"{name}=" for name in takes if name not in known])


# ---------------------------------------------------------------- from the commands


def _commands() -> list[str]:
    return sorted(import_module("reprise.cli.main").TABLE)


def _subcommands(command: str) -> list[str]:
    row = import_module("reprise.cli.main").TABLE.get(command)
    return sorted(getattr(row, "rows", ()))


def _options(words: Sequence[str]) -> list[str]:
    """Return the options of a command; its code is loaded for that."""
    place = import_module("reprise.cli.main")
    return place.options_of([one for one in words if not one.startswith("-")])
