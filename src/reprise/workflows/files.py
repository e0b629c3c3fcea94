"""Plans in files: YAML or JSON, each fault with its line and column."""

from __future__ import annotations

from pathlib import Path

from reprise.kernel.errors import ConfigurationError
from reprise.workflows.definitions import SPELLINGS, faults_of, read_definition
from reprise.workflows.documents import read_document
from reprise.workflows.findings import invalid
from reprise.workflows.plan import Plan


def load_plan(source: str | Path) -> Plan:
    r"""Return the plan of a file, or of a text of several lines or one that begins with ``{``.

    Raises:
        PlanInvalid: it has faults; names all of them with file, line and column.
        ConfigurationError: the file cannot be read.
        MissingExtra: it is YAML, or has expressions, and what reads those is not installed.

    >>> load_plan('{"name": "greet", "steps": [{"name": "hello", "agent": "greeter"}]}').levels()
    [['hello']]
    """
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{")):
        return parse_plan(source, "the text")
    path = Path(source)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The plan {str(path)!r} cannot be read ({error}).", hint="Give the path of a YAML or JSON file."
        ) from error
    return parse_plan(text, str(path))


def parse_plan(text: str, source: str) -> Plan:
    """Return the plan of a text; ``source`` is what it is called in errors.

    Raises:
        PlanInvalid: it has faults; names all of them with line and column.
        MissingExtra: what reads it is not installed.
    """
    data, spot = read_document(text, source)
    draft, faults = read_definition(data)
    if faults := faults_of(draft, faults):
        at = sorted((*spot.find(fault.place, SPELLINGS, fault.at), fault.line) for fault in faults)
        raise invalid(draft.name, faults, [f"{source}:{line}:{column}: {what}" for line, column, what in at])
    return Plan(**draft.fields())
