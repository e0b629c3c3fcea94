"""Names to workflows: what this process can execute."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from reprise.kernel.errors import ConfigurationError, UnknownWorkflow
from reprise.runtime.workflow import Workflow


class Registry:
    """The workflows a worker knows, by name."""

    def __init__(self, workflows: Iterable[Workflow[..., Any]] = ()) -> None:
        self._workflows: dict[str, Workflow[..., Any]] = {}
        for workflow in workflows:
            self.add(workflow)

    def add(self, workflow: Workflow[..., Any]) -> None:
        """Make a workflow known; the same one twice is fine.

        Raises:
            ConfigurationError: another function has that name.
        """
        known = self._workflows.get(workflow.name)
        if known is not None and known.function is not workflow.function:
            raise ConfigurationError(
                f"Two workflows are called {workflow.name!r}: {known!r} and {workflow!r}.",
                hint="Give one of them a name: @workflow(name=…).",
            )
        self._workflows[workflow.name] = workflow

    def get(self, name: str) -> Workflow[..., Any] | None:
        """Return the workflow of that name, None if there is none here."""
        return self._workflows.get(name)

    def __getitem__(self, name: str) -> Workflow[..., Any]:
        found = self._workflows.get(name)
        if found is None:
            near = get_close_matches(name, self._workflows, n=1)
            raise UnknownWorkflow(
                f"No workflow {name!r} is known here.",
                hint=f"Did you mean {near[0]!r}?"
                if near
                else "Start a worker with the module that defines it.",
            )
        return found

    def names(self) -> list[str]:
        """Return the known names, sorted."""
        return sorted(self._workflows)
