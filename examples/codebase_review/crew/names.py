"""What a file's name tells: its language, whether it is a test, and how to write it down safely."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

_LANGUAGES = {
    "Python": "py pyi",
    "C": "c h",
    "C++": "cc cpp cxx hh hpp",
    "C#": "cs",
    "Erlang": "erl hrl",
    "Fortran": "f f90 f95 f03 f08",
    "Go": "go",
    "Java": "java",
    "JavaScript": "js mjs cjs jsx",
    "Kotlin": "kt kts",
    "Lua": "lua",
    "Objective-C": "m mm",
    "Perl": "pl pm",
    "PHP": "php",
    "R": "r",
    "Ruby": "rb",
    "Rust": "rs",
    "Scala": "scala",
    "Shell": "sh bash zsh",
    "Solidity": "sol",
    "SQL": "sql",
    "Swift": "swift",
    "TypeScript": "ts tsx",
    "Vue": "vue",
    "Zig": "zig",
}
_TEXTS = {
    "Markdown": "md markdown",
    "reStructuredText": "rst",
    "HTML": "html htm",
    "CSS": "css scss less",
    "JSON": "json jsonl",
    "YAML": "yml yaml",
    "TOML": "toml",
    "XML": "xml svg",
    "Text": "txt",
    "Config": "ini cfg conf",
}


def _by_suffix(table: dict[str, str]) -> dict[str, str]:
    return {suffix: language for language, suffixes in table.items() for suffix in suffixes.split()}


_CODE_SUFFIX = _by_suffix(_LANGUAGES)
_TEXT_SUFFIX = _by_suffix(_TEXTS)
_TEST_FOLDER = re.compile(r"(^|/)(tests?|__tests__|specs?|test_[^/]*|[^/]*_tests?)/")
_TEST_NAME = re.compile(r"^(test_.*|.*_test|tests?|conftest|.*\.(test|spec)|.*Tests?)$")
_ESCAPED = re.compile(r"\\(\\|x[0-9a-f]{2})")


def spell(name: str) -> str:
    r"""Write a file name as valid Unicode: bytes that are no UTF-8 become ``\xNN``, a backslash is doubled.

    Names on disk are bytes, JSON is Unicode; :func:`unspell` goes back without loss.

    >>> spell("plain/ünï.py"), spell(os.fsdecode(b"bad\xff.py"))
    ('plain/ünï.py', 'bad\\xff.py')
    """
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unspell(text: str) -> str:
    r"""Return the name that the file system knows for what :func:`spell` wrote.

    >>> unspell(spell("back\\slash")) == "back\\slash"
    True
    """
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPED.finditer(text):
        parts.append(text[at : match.start()].encode())
        parts.append(b"\\" if match[1] == "\\" else bytes.fromhex(match[1][1:]))
        at = match.end()
    return os.fsdecode(b"".join(parts) + text[at:].encode())


def language_of(path: str) -> tuple[str, bool]:
    """Return the language of a file by its suffix, and whether it is code; ``("", False)`` when unknown.

    >>> language_of("a/b.py"), language_of("README.md"), language_of("Makefile")
    (('Python', True), ('Markdown', False), ('', False))
    """
    suffix = PurePosixPath(path).suffix[1:].lower()
    if suffix in _CODE_SUFFIX:
        return _CODE_SUFFIX[suffix], True
    return _TEXT_SUFFIX.get(suffix, ""), False


def is_test(path: str) -> bool:
    """Tell whether a code file is a test, by the names that the languages' test runners look for.

    >>> [is_test(p) for p in ("tests/util.py", "test_x.py", "x_test.go", "a.spec.ts", "contest.py", "latest/a.py")]
    [True, True, True, True, False, False]
    """
    return bool(_TEST_FOLDER.search(path) or _TEST_NAME.match(PurePosixPath(path).stem))


def subject_of(path: str) -> str:
    """Return the stem of the file that a test is named after, or an empty text.

    >>> [subject_of(p) for p in ("tests/test_queue.py", "queue_test.go", "queue.spec.ts", "tests/util.py")]
    ['queue', 'queue', 'queue', '']
    """
    stem = PurePosixPath(path).stem
    for pattern in (r"test_(.+)", r"(.+)_test", r"(.+)\.(?:test|spec)", r"(.+)Tests?"):
        if match := re.fullmatch(pattern, stem):
            return match[1]
    return ""
