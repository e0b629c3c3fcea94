"""Write docs/reference/ from the code: public names, errors, facts, settings, the schema of plans. A test compares what it writes.

`scripts/reference.py` writes the pages, `scripts/reference.py --check` says which are behind.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import msgspec

import reprise

ROLE = re.compile(r":\w+:`~?\.?([\w.]+)`")
FOLDER = Path(__file__).parents[1] / "docs" / "reference"


def first_line(value: object) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


def signature(value: object) -> str:
    """Return how something is called, without types: those are in the editor."""
    try:
        parameters = inspect.signature(value).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    shown: list[str] = []
    for parameter in parameters:
        name = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(
            parameter.kind, ""
        ) + parameter.name
        if (
            parameter.kind is parameter.KEYWORD_ONLY
            and "*" not in shown
            and not any(s[0] == "*" for s in shown)
        ):
            shown.append("*")
        shown.append(name if parameter.default is parameter.empty else f"{name}=…")
    return f"({', '.join(shown)})"


def methods(cls: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods that a class itself defines."""
    for name, member in vars(cls).items():
        if not name.startswith("_") and inspect.isfunction(member) and member.__doc__:
            yield name, member


def api() -> str:
    """Return the page of public names by module."""
    lines = [
        "# Public names",
        "",
        "Everything here is importable from `reprise`. Errors have [a page of their own](errors.md).",
        "",
    ]
    table: dict[str, list[str]] = {}
    for name, module in reprise._EXPORTS.items():
        if module != "reprise.kernel.errors":
            table.setdefault(module, []).append(name)
    for module in sorted(table):
        lines += [f"## {module.removeprefix('reprise.')}", "", first_line(import_module(module)), ""]
        for name in sorted(table[module]):
            value = getattr(reprise, name)
            call = signature(value) if inspect.isfunction(value) else ""
            lines.append(f"- **`{name}{call}`**: {first_line(value)}")
            if inspect.isclass(value) and module.startswith(("reprise.app", "reprise.runtime")):
                lines += [
                    f"  - `{key}{signature(member).replace('(self, ', '(').replace('(self)', '()')}`: "
                    f"{first_line(member)}"
                    for key, member in methods(value)
                ]
        lines.append("")
    return "\n".join(lines)


def errors() -> str:
    """Return the page of errors: the tree that stands at the top of the module."""
    module = import_module("reprise.kernel.errors")
    head, _, tree = (inspect.getdoc(module) or "").partition("\n\n")
    return f"# Errors\n\n{head}\n\n~~~text\n{tree.rstrip()}\n~~~\n"


def events() -> str:
    """Return the page of facts: kinds with what their data is."""
    module = import_module("reprise.kernel.events")
    lines = [
        "# Facts",
        "",
        "What a log holds. The number is what is written to disk; it is never used for anything else.",
        "",
    ]
    source = ast.parse(inspect.getsource(module.Kind)).body[0]
    assert isinstance(source, ast.ClassDef)
    lines += ["| kind | number | data |", "|---|---|---|"]
    for node, after in zip(source.body, [*source.body[1:], None], strict=True):
        if isinstance(node, ast.Assign):
            name, number = ast.unparse(node.targets[0]), ast.literal_eval(node.value)
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            lines.append(f"| `{name}` | {number} | {text.replace('``', '`')} |")
    return "\n".join([*lines, ""])


def settings() -> str:
    """Return the page of settings: sections, keys and defaults."""
    module = import_module("reprise.kernel.settings")
    lines = ["# Settings", "", first_line(module), ""]
    for section in msgspec.structs.fields(module.Settings):
        lines += [f"## {section.name}", "", first_line(section.type), "", "| key | default |", "|---|---|"]
        for field in msgspec.structs.fields(section.type):
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            lines.append(f"| `{field.name}` | `{default!r}` |")
        lines.append("")
    return "\n".join(lines)


def plan_schema() -> str:
    """Return the JSON Schema of definitions."""
    schema = import_module("reprise.workflows.definitions").plan_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False)


PAGES = {
    "api.md": api,
    "errors.md": errors,
    "events.md": events,
    "settings.md": settings,
    "plan.schema.json": plan_schema,
}


def main() -> None:
    """Write the pages, or say which are behind."""
    behind: list[str] = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        text = ROLE.sub(r"`\1`", page()).replace("``", "`").rstrip() + "\n"
        file = FOLDER / name
        if not file.exists() or file.read_text() != text:
            behind.append(name)
            if "--check" not in sys.argv:
                file.write_text(text)
    if "--check" in sys.argv and behind:
        raise SystemExit(f"run scripts/reference.py: {', '.join(behind)} behind the code")


if __name__ == "__main__":
    main()
