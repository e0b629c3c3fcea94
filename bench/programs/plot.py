"""Draw steps per second of ours, of peers and of the limit: `plot FILE.json [FILE.png]`.

Runs by an interpreter that has matplotlib, so it imports nothing of Reprise. The file is one that the bench `peers` wrote.
"""
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

try:
    import matplotlib as mpl
except ModuleNotFoundError:
    sys.exit("plot needs matplotlib: make bench-peers installs it beside the peers (REPRISE_PEERS_PYTHON)")

mpl.use("Agg")
from matplotlib import pyplot
from PIL import Image

STORES = {"full": "SQLite, synchronous=FULL", "postgres": "PostgreSQL", "memory": "in memory"}
JOBS = {
    "J1": "chain\nof 100",
    "P100": "pure chain\nof 100",
    "P10000": "pure chain\nof 10,000",
    "J2": "1,000 at once\n(100 abreast)",
    "J3": "1,000 runs\nof 3",
}
COLORS = {"reprise": "#1b6ca8", "dbos": "#d98032", "langgraph": "#7a9a4d"}
NAMES = {"reprise": "Reprise", "dbos": "DBOS", "langgraph": "LangGraph (sync)"}
WIDTH = 0.27
STRICT = "J1"
"""The job whose limit is the disk: a step is durable before the next begins."""

Rates = dict[tuple[str, str, str], float]
"""By store, job and engine."""


def main(source: Path, target: Path) -> None:
    """Draw a file of results to a PNG."""
    found = json.loads(source.read_text())
    each: dict[tuple[str, str, str], list[float]] = {}
    syncs: dict[str, list[float]] = {}
    for one in found["series"]:
        if one["job"] in JOBS and one["bench"] == "peers":
            each.setdefault((one["store"], one["job"], one["engine"]), []).extend(one["steps_per_second"])
            syncs.setdefault(one["store"], []).append(one["bare_sync_us"])
    if not each:
        sys.exit(f"{source} holds no figures of the bench peers")
    rates = {key: median(values) for key, values in each.items()}
    stores = [store for store in STORES if any(key[0] == store for key in rates)]
    jobs = {store: [job for job in JOBS if any(key[:2] == (store, job) for key in rates)] for store in stores}
    figure, all_axes = pyplot.subplots(
        1,
        len(stores),
        figsize=(13, 5.4),
        sharey=True,
        squeeze=False,
        width_ratios=[len(jobs[store]) for store in stores],
    )
    task = 1e6 / found["limits"]["before"]["task_us"]
    for axes, store in zip(all_axes[0], stores, strict=True):
        disk = task if store == "memory" else 1e6 / median(syncs[store])
        _panel(axes, store, jobs[store], rates, {STRICT: disk}, task)
    _explain(figure, all_axes[0], found)
    figure.savefig(target, dpi=100)
    with Image.open(target) as image:  # a few colours are enough, and a third of the bytes
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=48).save(target, optimize=True)
    print(target)


def _panel(
    axes: Any, store: str, jobs: list[str], rates: Rates, limits: dict[str, float], task: float
) -> None:
    for place, job in enumerate(jobs):
        engines = [engine for engine in NAMES if (store, job, engine) in rates]
        ours = rates[store, job, "reprise"]
        for number, engine in enumerate(engines):
            rate = rates[store, job, engine]
            at = place + (number - (len(engines) - 1) / 2) * WIDTH
            axes.bar(at, rate, WIDTH * 0.92, color=COLORS[engine])
            said = _short(rate) if engine == "reprise" else f"{_short(rate)}\n÷{ours / rate:,.0f}"
            axes.text(at, rate * 1.06, said, ha="center", va="bottom", fontsize=8)
        limit = limits.get(job, task)
        axes.plot([place - 0.46, place + 0.46], [limit, limit], color="black", linewidth=2)
        axes.text(place + 0.46, limit * 1.05, _short(limit), ha="right", va="bottom", fontsize=8)
    axes.set_yscale("log")
    axes.set_title(STORES[store], fontsize=11)
    axes.set_xticks(range(len(jobs)), [JOBS[job] for job in jobs], fontsize=9)
    axes.set_xlim(-0.6, len(jobs) - 0.4)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _explain(figure: Any, all_axes: Any, found: dict[str, Any]) -> None:
    low, high = all_axes[0].get_ylim()
    all_axes[0].set_ylim(low / 1.5, high * 1.6)
    all_axes[0].set_ylabel("steps per second (log)")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in NAMES]
    handles.append(pyplot.Line2D([0], [0], color="black", linewidth=2))
    limit = "limit of this machine: a bare fdatasync a step in the durable chain of 100, an asyncio task a step elsewhere"
    figure.legend(handles, [*NAMES.values(), limit], loc="upper center", ncols=4, frameon=False, fontsize=9)
    versions, machine = found["versions"], found["machine"]
    peers = versions["peers"] or {}
    told = "NO MEASUREMENTS (--once). " if found["once"] else ""
    told += (
        f"Reprise {versions['Reprise']} ({versions['commit']}), DBOS {peers.get('dbos')}, LangGraph {peers.get('langgraph')};"
        f" {versions['Python']}, SQLite {versions['SQLite']}, PostgreSQL {versions['PostgreSQL']};"
        f" {machine['processors']} × {machine['processor']}, Linux {machine['kernel']}."
        " ÷ = how many times fewer than Reprise."
    )
    figure.text(0.5, 0.012, told, ha="center", fontsize=8, color="#444444")
    figure.tight_layout(rect=(0, 0.03, 1, 0.94))


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate < 1000 else f"{rate / 1000:,.1f}k"


if __name__ == "__main__":
    read = Path(sys.argv[1])
    main(read, Path(sys.argv[2]) if len(sys.argv) > 2 else read.with_suffix(".png"))
