"""Review a codebase with a crew of agents: a durable run without any model or network.

    reprise run examples/codebase_review/flow.py -i path=src

Kill it at any moment and start it again: finished steps are not repeated.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from crew import clones, coder, dossier, history, publicist, researcher, reviewers, tester, vote
from crew.facts import (
    CODE,
    TEST,
    Clones,
    CoverageMap,
    Dossier,
    Findings,
    History,
    Inventory,
    Measured,
    Opinion,
    Places,
    Profile,
    Review,
    Settlement,
    SourceFile,
    Summary,
    Traces,
)
from reprise import progress, step, workflow

CODERS = 4
"""Files measured at the same time. Measuring is work for the processor: more would only finish together, later."""


@step
def locate(path: Path, out: Path, tests: Path | None) -> Places:
    """Pin down the folders, and the time that the report shows."""
    return researcher.locate(path, out, tests, datetime.now(UTC))


@step
def take_inventory(places: Places) -> Inventory:
    """The researcher lists what is there."""
    return researcher.take_inventory(places, progress)


@step
def read_history(root: Path) -> History:
    """The researcher asks git how it came to be."""
    return history.read_history(root)


@step
def measure(root: Path, file: SourceFile) -> Measured:
    """A coder measures one file."""
    return coder.measure(root, file)


@step(pure=True)
def find_clones(traces: list[Traces]) -> Clones:
    """The coders lay their fingerprints side by side."""
    return clones.find_clones(traces)


@step(pure=True)
def map_tests(folder: str, files: list[SourceFile], traces: list[Traces]) -> CoverageMap:
    """The tester ties tests to code."""
    return tester.map_tests(folder, files, traces)


@step(pure=True)
def compile_dossier(
    files: list[SourceFile], findings: list[Findings], past: History, twins: Clones, coverage: CoverageMap
) -> Dossier:
    """The facts about each file come together, and the candidates are nominated."""
    return dossier.compile_dossier(files, findings, past, twins, coverage)


@step(pure=True)
def rank(reviewer: str, candidates: list[Profile]) -> Opinion:
    """A reviewer puts the candidates in order."""
    return reviewers.rank(reviewer, candidates)


@step(pure=True)
def settle(opinions: list[Opinion]) -> Settlement:
    """The reviewers vote."""
    return vote.settle(opinions)


@step
def publish(review_: Review) -> Summary:
    """The publicist writes the report."""
    return publicist.publish(review_)


@workflow
async def review(
    path: Path = Path(asyncio.__file__).parent, out: Path = Path("report"), tests: Path | None = None
) -> Summary:
    """Review the code in ``path`` (by default a package of the standard library) and write the report to ``out``.

    ``tests`` names a folder of tests that lies outside ``path``.
    """
    places = await locate(path, out, tests)
    inventory, past = await asyncio.gather(take_inventory(places), read_history(places.root))

    files = [file for file in inventory.files if file.kind in {CODE, TEST}]
    coders = asyncio.Semaphore(CODERS)  # plain asyncio: the run remembers who went first

    async def code(file: SourceFile) -> Measured:
        async with coders:
            return await measure(places.root, file)

    measured = await asyncio.gather(*map(code, files))
    findings = [each.findings for each in measured]
    traces = [each.traces for each in measured]

    twins, coverage = await asyncio.gather(
        find_clones(traces), map_tests(places.root.name, inventory.files, traces)
    )
    case = await compile_dossier(inventory.files, findings, past, twins, coverage)
    candidates = [profile for profile in case.profiles if profile.findings.path in set(case.candidates)]
    opinions = await asyncio.gather(*(rank(reviewer.name, candidates) for reviewer in reviewers.REVIEWERS))
    settlement = await settle(opinions)

    return await publish(
        Review(places, inventory, past, findings, twins, coverage, case, list(opinions), settlement)
    )
