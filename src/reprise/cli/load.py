"""From ``FILE.py:workflow``, ``package.module:workflow`` or the file of a plan to the workflow."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from reprise.app.reprise import Reprise
from reprise.cli.session import AGENTS_TAG, FILE_TAG, WORKFLOW_TAG
from reprise.coordination.hands import Handlers
from reprise.kernel.errors import ConfigurationError, RepriseError, UnknownAgent, UnknownWorkflow, nearest
from reprise.runtime.workflow import Workflow
from reprise.workflows.files import load_plan
from reprise.workflows.orchestrator import WorkflowOrchestrator
from reprise.workflows.performers import AgentExecutor
from reprise.workflows.plan import Plan

AnyWorkflow = Workflow[..., Any]
Agents = AgentExecutor | Mapping[str, Any]
PLANS = (".yaml", ".yml", ".json")
"""How the names of files end that are plans."""

_files: dict[str, tuple[Path, ModuleType]] = {}
"""Files that were imported, by their names without the ending, and the modules that were made of them."""


class Target(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Where code is: a file or a module, and the name of a workflow in it ('' = the only one)."""

    place: str
    name: str = ""
    agents: Target | None = None
    """Where those are who do the steps, if it is a plan; None = in installed packages."""

    @property
    def is_plan(self) -> bool:
        """Tell a plan in a file from code."""
        return self.place.endswith(PLANS)

    @property
    def is_file(self) -> bool:
        """Tell a file from a dotted module name."""
        return self.is_plan or self.place.endswith(".py") or os.sep in self.place

    @property
    def flags(self) -> str:
        """What commands are given that execute it."""
        return f"{self.place} --agents {self.agents}" if self.agents is not None else self.place

    def tags(self, workflow: AnyWorkflow) -> dict[str, str]:
        """Return the tags by which a run knows where its code is."""
        tags = {FILE_TAG: self.tag, WORKFLOW_TAG: workflow.name}
        if (agents := self.agents) is not None:
            tags[AGENTS_TAG] = str(Target(agents.tag, agents.name))
        return tags

    def __str__(self) -> str:
        return f"{self.place}:{self.name}" if self.name else self.place

    @property
    def tag(self) -> str:
        """What a run remembers of it: a file below the working folder by its relative path."""
        if not self.is_file:
            return self.place
        path = Path(self.place).resolve()
        here = Path.cwd().resolve()
        return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)


class Loaded(msgspec.Struct, frozen=True):
    """The workflows of one file or module: its own, and those that it imports from others."""

    target: Target
    own: dict[str, AnyWorkflow]
    imported: dict[str, AnyWorkflow]

    @property
    def all(self) -> list[AnyWorkflow]:
        """Every workflow once."""
        return list({id(each): each for each in (*self.own.values(), *self.imported.values())}.values())

    def pick(self, name: str = "") -> AnyWorkflow:
        """Return the workflow of that name (that of the variable, or the one in the log), or the only one.

        Raises:
            ConfigurationError: there is none, or there are several and no name was given.
        """
        offered = self.own or self.imported
        place = self.target.place
        if not offered:
            raise ConfigurationError(
                f"{place} defines no workflow.",
                hint="Decorate an async function with @workflow, or keep the flow of a plan in a variable of the "
                "module: flow = orchestrator.flow(agents).",
            )
        if not name:
            if len(offered) == 1:
                return next(iter(offered.values()))
            raise ConfigurationError(
                f"{place} defines {len(offered)} workflows: {', '.join(offered)}.",
                hint=f"Say which: {place}:{next(iter(offered))}",
            )
        known = self.imported | self.own
        for variable, workflow in known.items():
            if name in (variable, workflow.name):
                return workflow
        near = nearest(name, known)
        raise ConfigurationError(
            f"{place} defines no workflow {name!r}.",
            hint=f"Did you mean {near!r}?" if near else f"It defines {', '.join(known)}.",
        )


def parse_target(text: str, agents: str = "") -> Target:
    """Split ``FILE.py:workflow`` or ``package.module:workflow``; ``agents`` are those of a plan.

    >>> parse_target("flows/review.py:review"), parse_target("shop.flows").name
    (Target(place='flows/review.py', name='review'), '')
    """
    place, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        # No name at all, or the colon belongs to the path (a drive letter).
        place, name = text.removesuffix(":"), ""
    return Target(place, name, parse_target(agents) if agents else None)


def load(target: Target, *, executes: bool = True) -> Loaded:
    """Import a file or a module, or read a plan, and find its workflows.

    The folder of a file comes first on the path, so that it can import its neighbours; for a module the working
    folder does. Without ``executes`` nobody needs to be known who does the steps of a plan.

    Raises:
        ConfigurationError: there is no such file or module, or it cannot be imported.
        PlanInvalid, UnknownAgent, UnknownWorkflow: it is a plan, with faults, or with steps that nobody does here.
    """
    if target.is_plan:
        return _load_plan(target, executes)
    module = import_code(target)
    own: dict[str, AnyWorkflow] = {}
    imported: dict[str, AnyWorkflow] = {}
    for name, value in vars(module).items():
        if isinstance(value, Workflow):
            each = cast("AnyWorkflow", value)
            (own if each.function.__module__ == module.__name__ else imported)[name] = each
    return Loaded(target, _once(own), _once(imported))


def import_code(target: Target) -> ModuleType:
    """Import a file or a module. Raises ``ConfigurationError`` when there is none, or it cannot be imported."""
    try:
        return _load_file(Path(target.place)) if target.is_file else _load_module(target.place)
    except RepriseError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{target.place} cannot be imported: {type(error).__name__}: {error}{_line_of(error)}.",
            hint="--debug shows the whole traceback.",
        ) from error


def _line_of(error: Exception) -> str:
    """Return where code that is neither Python's nor ours raised, as far as is known."""
    if isinstance(error, SyntaxError):
        return ""  # its message says it
    ours = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<"))
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def load_function(text: str) -> tuple[Callable[..., Any], list[AnyWorkflow]]:
    """Return the function that ``FILE.py:name`` or ``package.module:name`` means, and the workflows of its module.

    Raises:
        ConfigurationError: there is no such file, module or function.
    """
    target = parse_target(text)
    module = import_code(target)
    known = {name: each for name, each in vars(module).items() if inspect.isfunction(each)}
    return named(target, known, "function"), load(target).all


def named(target: Target, known: Mapping[str, Any], what: str) -> Any:
    """Return what a target names among what is known there. Raises ``ConfigurationError`` with the nearest name."""
    if target.name in known:
        return known[target.name]
    near = nearest(target.name, known) if target.name else ""
    hint = f"Did you mean {near!r}?" if near else f"Give its name: {target.place}:NAME"
    raise ConfigurationError(f"{target.place} has no {what} {target.name!r}.", hint=hint)


def load_all(targets: Sequence[str], agents: str = "", *, executes: bool = True) -> list[AnyWorkflow]:
    """Return the workflows of several files and modules; of one with a name, that one and what it may call.

    ``agents`` do the steps of plans; ``executes`` as of :func:`load`.
    """
    workflows: dict[int, AnyWorkflow] = {}
    for text in targets:
        target = parse_target(text, agents)
        loaded = load(target, executes=executes)
        loaded.pick(target.name or next(iter(loaded.own or loaded.imported), ""))
        workflows |= {id(each): each for each in loaded.all}
    return list(workflows.values())


# ---------------------------------------------------------------- plans


def _load_plan(target: Target, executes: bool) -> Loaded:
    """Read a plan, the workflows of those who do its steps, and the plans beside it that its steps name."""
    plan = load_plan(target.place)
    agents = _agents(target.agents) if target.agents is not None else None
    others = {} if target.agents is None else {each.name: each for each in load(target.agents).all}
    plans = {plan.name: plan}
    for each in (left := [plan]):
        for step in each.steps:
            if not step.workflow or step.workflow in others or step.workflow in plans:
                continue
            if (found := _beside(target, step.workflow)) is not None:
                plans[found.name] = found
                left.append(found)
            elif executes:
                raise _unknown(each, step.workflow, [*others, *plans])
    flows = {name: _flow(each, agents if executes else _nobody) for name, each in plans.items()}
    return Loaded(target, {plan.name: flows.pop(plan.name)}, others | flows)


def _flow(plan: Plan, agents: Agents | None) -> AnyWorkflow:
    try:
        return WorkflowOrchestrator.of(plan).flow(agents)
    except UnknownAgent as error:
        hint = error.hint if error.hint.startswith("Did you") else "Say who does it: --agents FILE.py"
        raise UnknownAgent(f"Plan {plan.name!r}: {error.what}", hint=hint) from error


def _beside(target: Target, name: str) -> Plan | None:
    """Return the plan of that name in the folder of the one that names it, None if there is none."""
    folder = Path(target.place).parent
    files = [folder / f"{name}{end}" for end in PLANS] if name == Path(name).name else []
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    plan = load_plan(file)
    if plan.name != name:
        raise ConfigurationError(
            f"The plan in {file} is called {plan.name!r}.",
            hint=f"A step means it: call it {name!r}, as its file.",
        )
    return plan


def _unknown(plan: Plan, name: str, known: Sequence[str]) -> UnknownWorkflow:
    near = nearest(name, known)
    otherwise = f"Put it beside the plan as {name}.yaml, or where the agents are: --agents FILE.py"
    return UnknownWorkflow(
        f"Plan {plan.name!r}: no workflow {name!r} is known here.",
        hint=f"Did you mean {near!r}?" if near else otherwise,
    )


def _nobody(agent_type: str, task: Any) -> Any:
    raise UnknownAgent(f"No agent {agent_type!r} is known here: nothing was to be executed.")


def load_handlers(text: str) -> Handlers:
    """Return who does the tasks of a queue: what is named, else ``handlers``, else the functions by their names.

    Raises:
        ConfigurationError: there is no such file or module, or nobody in it.
    """
    target = parse_target(text)
    module = import_code(target)
    known = vars(module)
    found = named(target, known, "handlers") if target.name else known.get("handlers", _functions(module))
    if callable(found) or (isinstance(found, Mapping) and found):
        return cast("Handlers", found)
    raise ConfigurationError(
        f"{target} says nobody who does a task.",
        hint="Give a function of (task), or a mapping of task types to such functions.",
    )


def _functions(module: ModuleType) -> dict[str, Any]:
    return {
        name: each
        for name, each in vars(module).items()
        if inspect.isfunction(each) and each.__module__ == module.__name__ and not name.startswith("_")
    }


def _agents(target: Target) -> Agents:
    """Return who does the steps: what is named, else ``agents`` or ``agent_executor``, else the functions by their names."""
    module = import_code(target)
    known = vars(module)
    found = (
        named(target, known, "agents") if target.name else known.get("agents", known.get("agent_executor"))
    )
    if found is None:
        found = _functions(module)
    if isinstance(found, Reprise):
        return found.agents
    if callable(found) or (isinstance(found, Mapping) and found):
        return cast("Agents", found)
    raise ConfigurationError(
        f"{target} says nobody who does a step.",
        hint="Give a function of (agent_type, task, context), or a mapping of names to functions of (task, context).",
    )


def _once(found: dict[str, AnyWorkflow]) -> dict[str, AnyWorkflow]:
    """Drop second names of one workflow."""
    first: dict[int, str] = {}
    for name, each in found.items():
        first.setdefault(id(each), name)
    return {name: found[name] for name in first.values()}


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise ConfigurationError(
            f"There is no file {path.name!r} in {path.parent}.",
            hint="Give the path of a Python file, or a module: package.module",
        )
    name = path.stem
    if name in _files:
        known, module = _files[name]
        if known == path:
            return module
        raise ConfigurationError(
            f"Two files are called {path.name}: {known} and {path}.",
            hint="Rename one, give them as modules, or serve them from two processes.",
        )
    if not name.isidentifier() or name in sys.modules or name in sys.stdlib_module_names:
        # Its own name is taken (json.py) or cannot be one (my-flow.py): the module's name must still not change.
        name = f"reprise_flow_{''.join(c if c.isalnum() else '_' for c in name)}"
    _put_first(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError) and "relative import" in str(error):
            raise ConfigurationError(
                f"{path.name} is part of a package: {error}.",
                hint="Give it as a module: package.module:workflow",
            ) from error
        raise
    _files[path.stem] = path, module
    return module


def _load_module(name: str) -> ModuleType:
    _put_first(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise ConfigurationError(
            f"There is no module {name!r}.",
            hint=f"Did you mean the file {name}.py?"
            if Path(f"{name}.py").exists()
            else "Give a file: FILE.py",
        ) from error


def _put_first(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
