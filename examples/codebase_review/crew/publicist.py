"""The publicist: put the review into one HTML page and one JSON file, each complete or not there at all."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from .facts import Review, Summary
from .page import page


def publish(review: Review) -> Summary:
    """Write ``report.html`` and ``report.json``; repeating it writes the same bytes again."""
    out = review.places.out
    out.mkdir(parents=True, exist_ok=True)
    facts = asdict(review)
    for profile in facts["dossier"]["profiles"]:
        profile["path"] = profile.pop("findings")["path"]  # they stand under "findings" already
    data = json.dumps(facts, default=str, indent=1, sort_keys=True)
    return Summary(
        report=_write(out / "report.html", page(review)),
        data=_write(out / "report.json", data + "\n"),
        files=len(review.inventory.files),
        lines=sum(found.lines for found in review.findings),
        functions=sum(found.function_count for found in review.findings),
        risky=sum(risk.severity > 1 for found in review.findings for risk in found.risks),
        untested=sum(not tie.tests for tie in review.coverage.ties),
        top=review.settlement.order,
        notes=[note for note in (*review.inventory.notes, review.history.note) if note],
    )


def _write(target: Path, text: str) -> Path:
    """Write beside the target and rename, so that no reader, and no crash, ever meets half a file."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return target
