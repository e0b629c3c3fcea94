"""The documents are true: their programs run, their commands exit 0, their links lead somewhere.

In README.md, CONTRIBUTING.md, docs/ and the examples' own README files, a block marked

    python title="x.py"    is written to x.py in a folder made for the page
    python                 is one part of the page's program: all such parts, in order, are run once
    console                its lines that start with `$ ` are run in that folder, after the program
    … norun: <reason>      is left alone

Warnings are errors there too.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("examples/**/*.md")),
]
FENCE = re.compile(r"^```(?P<language>\w+) *(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class Block(NamedTuple):
    """One fenced block and the line of its first line of code."""

    language: str
    info: str
    code: str
    line: int


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page that are to be run or written."""
    found = [
        Block(match["language"], match["info"], match["code"], text.count("\n", 0, match.start("code")) + 1)
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if not re.search(r"norun: \S", block.info)]


def run(command: list[str], folder: Path, what: str) -> str:
    """Run in the page's folder with this environment's commands; fail with what was printed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{what}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def try_page(name: str, text: str, folder: Path) -> str:
    """Do what a page shows, in a folder of its own; return what its programs and commands print."""
    program: list[str] = []
    commands: list[str] = []
    for block in blocks(text):
        title = re.search(r'title="([\w./-]+)"', block.info)
        if block.language == "python" and title:
            (folder / title[1]).write_text(block.code)
        elif block.language == "python":
            # Blank lines up to the block: a traceback's line numbers are the page's.
            program += [""] * (block.line - len(program) - 1) + block.code.splitlines()
        elif block.language == "console":
            commands += [line[2:] for line in block.code.splitlines() if line.startswith("$ ")]
    printed = ""
    if program:
        (folder / "page.py").write_text("\n".join(program) + "\n")
        printed += run([sys.executable, "-W", "error", "page.py"], folder, f"the program of {name}")
    for command in commands:
        printed += run(["bash", "-c", command], folder, f"{name}: $ {command}")
    return printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_does_what_it_shows(page, tmp_path):
    try_page(page.name, page.read_text(), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = (match["target"].partition("#")[0] for match in LINK.finditer(page.read_text()))
    assert not [
        target for target in targets if target and "://" not in target and not (page.parent / target).exists()
    ]


PAGE = """
# A page
```python title="part.py"
WORD = "written"
```
```python
import part
```
Text.
```python
print(part.WORD, "and run")
```
```console
$ cat part.py | wc -l
```
```python norun: needs a key
raise SystemExit("must not run")
```
"""


def test_files_programs_and_commands_of_a_page_are_tried(tmp_path):
    assert try_page("PAGE", PAGE, tmp_path).split() == ["written", "and", "run", "1"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (("part.WORD", "part.WORLD"), 'page.py", line 11'),
        (("cat part.py", "set -o pipefail; cat gone.py"), "gone.py"),
        (("norun: needs a key", "norun:"), "must not run"),
        (("import part", "import part, warnings; warnings.warn('old')"), "UserWarning: old"),
    ],
)
def test_a_page_that_is_wrong_fails(tmp_path, break_it, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        try_page("PAGE", PAGE.replace(*break_it), tmp_path)


def test_the_reference_says_what_the_code_says():
    subprocess.run([sys.executable, ROOT / "scripts" / "reference.py", "--check"], check=True)
