"""Write what follows from the door's table: the block for type checkers and the recorded surface.

Run it after a line of ``_EXPORTS`` in ``src/reprise/__init__.py`` changed; the tests compare all three.
"""

import ast
import subprocess
import sys
from itertools import groupby
from pathlib import Path

DOOR = Path("src/reprise/__init__.py")
SURFACE = Path("tests/unit/surface.txt")


def table(source: str) -> dict[str, str]:
    """Return the table as the door's source has it."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_EXPORTS" and node.value:
            return ast.literal_eval(node.value)
    raise SystemExit(f"{DOOR} has no _EXPORTS")


def main() -> None:
    """Rewrite both files in place."""
    source = DOOR.read_text()
    exports = table(source)
    pairs = sorted((module, name) for name, module in exports.items())
    rows = "".join(f'    "{name}": "{module}",\n' for module, name in pairs)
    head, _, rest = source.partition("_EXPORTS: dict[str, str] = {\n")
    source = f"{head}_EXPORTS: dict[str, str] = {{\n{rows}{rest[rest.index('}') :]}"
    lines = ["if TYPE_CHECKING:\n"]
    for module, names in groupby(pairs, key=lambda pair: pair[0]):
        lines.append(f"    from {module} import {', '.join(f'{name} as {name}' for _, name in names)}\n")
    start, end = source.index("if TYPE_CHECKING:\n"), source.index("else:  # out of a type checker's sight")
    DOOR.write_text(source[:start] + "".join(lines) + "\n" + source[end:])
    SURFACE.write_text("".join(f"{name}\n" for name in sorted(exports)))
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(DOOR)], check=True)


if __name__ == "__main__":
    main()
