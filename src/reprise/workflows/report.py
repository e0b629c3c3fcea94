"""What is known of the run of a face once it ended: the part that all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from reprise.kernel.events import ErrorValue, Finished
from reprise.runtime.handle import outcome_error


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run ended. ``workflow_id`` and ``execution_id`` are other words for its id."""

    run_id: str
    status: str
    """completed; partial: something failed, and the definition says how to go on without it; failed; cancelled."""
    errors: dict[str, str] = field(default_factory=dict[str, str])
    """What failed, by name."""
    failure: ErrorValue | None = None
    """What ended the run, if it failed."""

    @property
    def workflow_id(self) -> str:
        """Id of the run."""
        return self.run_id

    @property
    def execution_id(self) -> str:
        """Id of the run."""
        return self.run_id

    def raise_for_status(self) -> Self:
        """Return this report of a run that has a result, be it partial.

        Raises:
            the error of the run: it failed; RunCancelled; RunNeedsAttention and the like where it rests.
        """
        if self.status in ("completed", "partial"):
            return self
        raise outcome_error(self.run_id, Finished(self.status, error=self.failure))
