"""Write what follows from the tables of the doors: the blocks for type checkers and the recorded surface.

Run it after a line of ``_EXPORTS`` in ``src/reprise/__init__.py`` or ``src/reprise/testing/__init__.py`` changed; the tests
compare them.
"""

import ast
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from textwrap import fill

DOOR = Path("src/reprise/__init__.py")
TESTING = Path("src/reprise/testing/__init__.py")
SURFACE = Path("tests/unit/surface.txt")
WIDTH = 110


def table(source: str) -> dict[str, str]:
    """Return the table as the door's source has it."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_EXPORTS" and node.value:
            return ast.literal_eval(node.value)
    raise SystemExit("there is no _EXPORTS")


def block(pairs: list[tuple[str, str]]) -> str:
    """Return the imports that a type checker sees, from sorted pairs of module and name: as many on a line as fit."""
    lines = ["if TYPE_CHECKING:\n", "    # fmt: off\n", "    # isort: off\n"]
    for module, found in groupby(pairs, key=lambda pair: pair[0]):
        names = ", ".join(f"{name} as {name}" for _, name in found)
        line = f"    from {module} import {names}\n"
        if len(line) > WIDTH:
            whole = names.replace(" as ", "~as~")  # a line ends between two names
            inner = fill(whole, WIDTH - 2, initial_indent=" " * 8, subsequent_indent=" " * 8).replace(
                "~", " "
            )
            line = f"    from {module} import (\n{inner},\n    )\n"
        lines.append(line)
    return "".join([*lines, "    # isort: on\n", "    # fmt: on\n"])


def rewrite(door: Path) -> list[str]:
    """Rewrite a door in place: its table in order, and the block that follows from it; return the names."""
    source = door.read_text()
    exports = table(source)
    pairs = sorted((module, name) for name, module in exports.items())
    rows = "".join(f'    "{name}": "{module}",\n' for module, name in pairs)
    head, _, rest = source.partition("_EXPORTS: dict[str, str] = {\n")
    source = f"{head}_EXPORTS: dict[str, str] = {{\n{rows}{rest[rest.index('}') :]}"
    start, end = source.index("if TYPE_CHECKING:\n"), source.index("else:  # out of a type checker's sight")
    door.write_text(f"{source[:start]}{block(pairs)}\n{source[end:]}")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(door)], check=True)
    return sorted(exports)


def main() -> None:
    """Rewrite both doors and the surface."""
    rewrite(TESTING)
    SURFACE.write_text("".join(f"{name}\n" for name in rewrite(DOOR)))


if __name__ == "__main__":
    main()
