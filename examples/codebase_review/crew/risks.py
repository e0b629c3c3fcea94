"""Find risky constructs: in Python by the syntax tree, in other languages by a few well-known calls.

A finding is a place to look, not a verdict. Literals that look like secrets are never copied into a finding.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .facts import Risk
from .outline import dotted

HIGH, MEDIUM, LOW = 3, 2, 1
MOST = 60
"""Findings kept of one file, the gravest first."""

_CALLS: dict[str, tuple[str, int, str]] = {
    "eval": ("eval", HIGH, "runs text as code"),
    "exec": ("exec", HIGH, "runs text as code"),
    "os.system": ("shell", HIGH, "passes text to a shell"),
    "os.popen": ("shell", HIGH, "passes text to a shell"),
    "subprocess.getoutput": ("shell", HIGH, "passes text to a shell"),
    "subprocess.getstatusoutput": ("shell", HIGH, "passes text to a shell"),
    "asyncio.create_subprocess_shell": ("shell", HIGH, "passes text to a shell"),
    "pickle.load": ("pickle", HIGH, "loading a pickle can run any code"),
    "pickle.loads": ("pickle", HIGH, "loading a pickle can run any code"),
    "pickle.Unpickler": ("pickle", HIGH, "loading a pickle can run any code"),
    "cloudpickle.loads": ("pickle", HIGH, "loading a pickle can run any code"),
    "dill.loads": ("pickle", HIGH, "loading a pickle can run any code"),
    "joblib.load": ("pickle", HIGH, "loads a pickle, which can run any code"),
    "shelve.open": ("pickle", MEDIUM, "a shelf holds pickles, which can run any code"),
    "marshal.load": ("marshal", MEDIUM, "trusts its input blindly"),
    "marshal.loads": ("marshal", MEDIUM, "trusts its input blindly"),
    "tempfile.mktemp": ("mktemp", MEDIUM, "another process can take the name first"),
    "ssl._create_unverified_context": ("tls", HIGH, "accepts any certificate"),
    "hashlib.md5": ("weak hash", LOW, "no protection against forgery"),
    "hashlib.sha1": ("weak hash", LOW, "no protection against forgery"),
}
_UNTIMED = frozenset(
    f"requests.{verb}" for verb in ("get", "post", "put", "patch", "delete", "head", "request")
)
_SECRET = re.compile(
    r"(?i)(^|_)(password|passwd|pwd|secret|token|api_?key|access_?key|private_?key|credentials?)$"
)
_HARMLESS_VALUE = re.compile(
    r"(?i)^$|\s|^[<{$%*.x-]|^(none|null|true|false|test|example|change_?me|your|dummy|fake)"
)
_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{36}\b")
_MASKED = "… (masked)"


@dataclass(frozen=True, slots=True)
class _Hit:
    rule: str
    severity: int
    line: int
    says: str
    masked: bool = False


def python_risks(tree: ast.Module, names: dict[str, str], lines: list[str], *, is_test: bool) -> list[Risk]:
    """Return the risky constructs of a Python file, the gravest first; ``names`` says what its imports stand for."""
    hits: list[_Hit] = list(_key_blocks(lines))
    for node in ast.walk(tree):
        for look in _LOOKS.get(type(node), ()):
            hits.extend(look(node, names))
        if isinstance(node, ast.Assert) and not is_test:
            hits.append(_Hit("assert", LOW, node.lineno, "vanishes under python -O"))
    return _report(hits, lines)


def text_risks(lines: list[str], language: str) -> list[Risk]:
    """Return the risky calls that a line by line look finds in another language."""
    patterns = [
        (re.compile(pattern), rule, grade, says)
        for languages, pattern, rule, grade, says in _PATTERNS
        if language in languages.split("|")
    ]
    hits = list(_key_blocks(lines))
    for number, line in enumerate(lines, 1):
        if not line.lstrip().startswith(("//", "#", "*", "/*", "--")):
            hits += [_Hit(rule, grade, number, says) for p, rule, grade, says in patterns if p.search(line)]
    return _report(hits, lines)


_PATTERNS: tuple[tuple[str, str, str, int, str], ...] = (
    ("C|C++|Objective-C", r"\bgets\s*\(", "gets", HIGH, "cannot know the size of its buffer"),
    ("C|C++|Objective-C", r"\b(strcpy|strcat|sprintf|vsprintf)\s*\(", "unbounded copy", MEDIUM, "writes without a bound"),
    ("C|C++|Objective-C|PHP|Perl|Ruby|Lua", r"\b(system|popen)\s*\(", "shell", HIGH, "passes text to a shell"),
    ("JavaScript|TypeScript|Vue|PHP|Perl|Ruby|Lua|R", r"(?<![\w.$])eval\s*\(", "eval", HIGH, "runs text as code"),
    ("JavaScript|TypeScript|Vue", r"\bnew Function\s*\(", "eval", HIGH, "runs text as code"),
    ("JavaScript|TypeScript|Vue", r"\.(inner|outer)HTML\s*=|dangerouslySetInnerHTML|document\.write\(", "raw HTML",
     MEDIUM, "puts text into the page as markup"),
    ("Shell", r"(^|[;&|]\s*)eval\s", "eval", HIGH, "runs text as code"),
    ("Shell", r"\b(curl|wget)\b.*\|\s*(ba|z)?sh\b", "piped install", HIGH, "runs what the network sends"),
    ("Java|Kotlin|Scala", r"\bnew ObjectInputStream\b", "deserialise", HIGH, "can build any object"),
    ("Rust", r"\bunsafe\s*\{", "unsafe", LOW, "the compiler does not check this block"),
    ("Go", r"\bInsecureSkipVerify:\s*true", "tls", HIGH, "accepts any certificate"),
)  # fmt: skip


def _report(hits: list[_Hit], lines: list[str]) -> list[Risk]:
    hits.sort(key=lambda hit: (-hit.severity, hit.line, hit.rule))
    return [
        Risk(hit.rule, hit.severity, hit.line, hit.says, _snippet(lines, hit))
        for hit in dict.fromkeys(hits[:MOST])
    ]


def _snippet(lines: list[str], hit: _Hit) -> str:
    if not 0 < hit.line <= len(lines):
        return ""
    text = " ".join(lines[hit.line - 1].split())
    if hit.masked:
        text = re.split(r"[=:(]", text, maxsplit=1)[0].rstrip() if "=" in text else ""
        return f"{text[:60]} {_MASKED}".lstrip()
    return text if len(text) <= 110 else text[:109] + "…"


def _key_blocks(lines: list[str]) -> Iterator[_Hit]:
    for number, line in enumerate(lines, 1):
        if _KEY_BLOCK.search(line):
            yield _Hit("secret", HIGH, number, "looks like a private key", masked=True)


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _call(node: ast.Call, names: dict[str, str]) -> Iterator[_Hit]:
    name = dotted(node.func, names).removeprefix("builtins.")
    if name in _CALLS and not _is(_keyword(node, "usedforsecurity"), value=False):
        rule, severity, says = _CALLS[name]
        yield _Hit(rule, severity, node.lineno, f"{name.rpartition('.')[2]}: {says}")
    if _is(_keyword(node, "shell"), value=True):
        yield _Hit("shell", HIGH, node.lineno, "shell=True: passes text to a shell")
    if _is(_keyword(node, "verify"), value=False):
        yield _Hit("tls", HIGH, node.lineno, "verify=False: accepts any certificate")
    if name == "yaml.load" and not any("Safe" in ast.unparse(given) for given in _given(node)):
        yield _Hit("yaml", HIGH, node.lineno, "yaml.load without a safe loader can build any object")
    if (
        name in _UNTIMED
        and _keyword(node, "timeout") is None
        and not any(k.arg is None for k in node.keywords)
    ):
        yield _Hit("no timeout", LOW, node.lineno, "waits for ever on a silent server")
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if method == "extractall" and _keyword(node, "filter") is None and "tarfile" in names.values():
        yield _Hit("extractall", MEDIUM, node.lineno, "an archive can write outside the folder")
    if method in {"execute", "executemany", "executescript"} and node.args and _is_built(node.args[0]):
        yield _Hit("sql", HIGH, node.lineno, "a query put together from text")
    for keyword in node.keywords:
        if keyword.arg and _looks_secret(keyword.arg, keyword.value):
            yield _Hit("secret", MEDIUM, keyword.value.lineno, f"a literal for {keyword.arg}", masked=True)


def _is_built(node: ast.expr) -> bool:
    """Tell whether a text is put together from parts that are not all literals."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        return any(
            isinstance(side, ast.Constant | ast.JoinedStr) for side in (node.left, node.right)
        ) and not (isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"


def _looks_secret(name: str, value: ast.expr) -> bool:
    if not (isinstance(value, ast.Constant) and isinstance(value.value, str) and _SECRET.search(name)):
        return False
    return len(value.value) >= 6 and not _HARMLESS_VALUE.search(value.value)


def _assignment(node: ast.Assign | ast.AnnAssign, names: dict[str, str]) -> Iterator[_Hit]:
    del names
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        name = (
            target.id
            if isinstance(target, ast.Name)
            else target.attr
            if isinstance(target, ast.Attribute)
            else ""
        )
        if node.value and _looks_secret(name, node.value):
            yield _Hit("secret", HIGH, node.lineno, f"a literal in {name}", masked=True)


def _handler(node: ast.ExceptHandler, names: dict[str, str]) -> Iterator[_Hit]:
    silent = all(isinstance(line, ast.Pass) or _is_ellipsis(line) for line in node.body)
    raises = any(isinstance(part, ast.Raise) for line in node.body for part in ast.walk(line))
    if node.type is None and not raises:
        yield _Hit("bare except", MEDIUM, node.lineno, "catches even the wish to stop")
    elif silent and node.type and dotted(node.type, names) in {"Exception", "BaseException"}:
        yield _Hit("swallowed", MEDIUM, node.lineno, "every error is dropped in silence")


def _is_ellipsis(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and line.value.value is ...


def _function(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, names: dict[str, str]
) -> Iterator[_Hit]:
    for default in [*node.args.defaults, *(value for value in node.args.kw_defaults if value)]:
        made = isinstance(default, ast.Call) and dotted(default.func, names) in {"list", "dict", "set"}
        if made or isinstance(default, ast.List | ast.Dict | ast.Set):
            yield _Hit("mutable default", MEDIUM, default.lineno, "one value shared by all calls")


_LOOKS: dict[type[ast.AST], tuple[Callable[..., Iterator[_Hit]], ...]] = {
    ast.Call: (_call,),
    ast.Assign: (_assignment,),
    ast.AnnAssign: (_assignment,),
    ast.ExceptHandler: (_handler,),
    ast.FunctionDef: (_function,),
    ast.AsyncFunctionDef: (_function,),
    ast.Lambda: (_function,),
}
