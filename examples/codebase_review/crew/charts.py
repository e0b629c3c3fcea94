"""Draw the pictures of the report as SVG by hand: no script, no library, readable in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta

from .facts import Concern, History, Profile
from .markup import Markup, el, join
from .squares import Box, Folder, grow, has_header, place

STEPS = (12, 18, 24, 30, 36, 44)
"""Risks from which on the next warmer colour is used."""
MOST_DOTS = 1_500
MOST_SQUARES = 1_200
CROWDED = 100
"""Dots from which on they are drawn smaller, and labels may cover those that have no name."""


def shade(risk: int) -> str:
    """Return the style class of a risk of 0 to 100.

    >>> shade(0), shade(30), shade(99)
    ('k0', 'k4', 'k6')
    """
    return f"k{sum(risk >= step for step in STEPS)}"


def short(path: str) -> str:
    """Return the file name of a path; an ``__init__`` keeps its folder."""
    *folders, name = path.split("/")
    return f"{folders[-1]}/{name}" if folders and name.startswith("__init__") else name


def svg(width: float, height: float, *children: Markup | list[Markup] | None, label: str) -> Markup:
    """Make a picture that fills the width it is given."""
    return el(
        "svg", *children, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, class_="chart"
    )


# -- the map ------------------------------------------------------------------------------------------------


def treemap(
    profiles: list[Profile], concerns: list[Concern], width: float = 1120, height: float = 470
) -> Markup:
    """Draw every file as a square: the area is lines of code, the colour is the risk."""
    risks = {concern.path: concern.risk for concern in concerns}
    known = {p.findings.path: p for p in sorted(profiles, key=lambda p: -p.findings.code)[:MOST_SQUARES]}
    tree: Folder = grow({path: float(max(1, p.findings.code)) for path, p in known.items()})
    drawn: list[Markup] = []
    for name, is_leaf, box in place(tree, Box(0, 0, width, height)):
        if box.width < 0.5 or box.height < 0.5:
            continue
        drawn.append(_square(known[name], risks.get(name, 0), box) if is_leaf else _folder(name, box))
    return svg(width, height, drawn, label="Treemap of the code: area is size, colour is risk")


def _folder(name: str, box: Box) -> Markup:
    frame = el("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=3, class_="folder")
    if not has_header(box):
        return frame
    title = el("text", _fit(name, box.width - 8, 6.4), x=box.x + 5, y=box.y + 11, class_="folder-name")
    return join(frame, title)


def _square(profile: Profile, risk: int, box: Box) -> Markup:
    found = profile.findings
    tip = f"{found.path}\u2003risk {risk}\u2003{found.code:,} lines of code, {found.complexity:,} paths"
    width, height = max(0.5, box.width - 1.2), max(0.5, box.height - 1.2)
    parts = [
        el("title", tip),
        el(
            "rect",
            x=box.x,
            y=box.y,
            width=width,
            height=height,
            rx=min(3.0, width / 4, height / 4),
            class_=shade(risk),
        ),
    ]
    size = min(15.0, max(9.0, math.sqrt(width * height) / 9))
    name = _fit(short(found.path), width - 10, size * 0.58)
    if len(name) > 3 and height > size + 7:
        parts.append(
            el("text", name, x=box.x + 6, y=box.y + size + 4, class_=f"on-{shade(risk)}", font_size=size)
        )
        if height > 2.5 * size + 10 and width > 62:
            more = f"{found.code:,} lines · risk {risk}"
            y = box.y + 2.2 * size + 6
            parts.append(
                el(
                    "text",
                    _fit(more, width - 8, 5.9),
                    x=box.x + 6,
                    y=y,
                    class_=f"on-{shade(risk)} dim",
                    font_size=10.5,
                )
            )
    return el("g", parts)


def _fit(name: str, room: float, letter: float) -> str:
    most = int(room / letter)
    return name if len(name) <= most else f"{name[: most - 1]}…" if most > 3 else ""


# -- the scatter --------------------------------------------------------------------------------------------


class _Scale:
    """A logarithmic axis around the values, with ticks at 1, 2 and 5 times the powers of ten."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self._start, self._end = start, end
        self.low = max(1.0, min(values, default=1.0) / 1.3)
        self.high = max(2.0 * self.low, max(values, default=1.0) * 1.25)

    def at(self, value: float) -> float:
        share = math.log(max(self.low, value) / self.low) / math.log(self.high / self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[int]:
        values = [base * 10**power for power in range(7) for base in (1, 2, 5)]
        return [value for value in values if self.low <= value <= self.high]


def scatter(
    profiles: list[Profile],
    concerns: list[Concern],
    named: list[str],
    width: float = 700,
    height: float = 540,
) -> Markup:
    """Draw how often files change (or, without history, their size) against their hardest function."""
    risks = {concern.path: concern.risk for concern in concerns}
    has_past = any(profile.history for profile in profiles)
    dots = [p for p in profiles if p.findings.functions]
    dots = sorted(dots, key=lambda p: -risks.get(p.findings.path, 0))[:MOST_DOTS]
    across = _Scale([_across(p, has_past) for p in dots], 64, width - 18)
    up = _Scale([float(p.findings.functions[0].complexity) for p in dots], height - 56, 14)
    placed = [
        (
            p,
            across.at(_across(p, has_past)),
            up.at(p.findings.functions[0].complexity),
            _radius(p, has_past, len(dots)),
        )
        for p in dots
    ]
    return svg(
        width,
        height,
        _frame(across, up, width, height, has_past),
        [_dot(p, risks.get(p.findings.path, 0), x, y, r) for p, x, y, r in reversed(placed)],
        _labels(placed, named, width, height),
        label="Hotspots: the files to the upper right are worth a look first",
    )


def _across(profile: Profile, has_past: bool) -> float:
    return (
        float(profile.history.commits if profile.history else 1)
        if has_past
        else float(max(1, profile.findings.code))
    )


def _radius(profile: Profile, has_past: bool, crowd: int) -> float:
    size = profile.findings.code if has_past else 14 * profile.used_by
    return (4.0 + min(16.0, math.sqrt(size) / 1.8)) * (0.65 if crowd >= CROWDED else 1.0)


def _frame(across: _Scale, up: _Scale, width: float, height: float, has_past: bool) -> Markup:
    bottom, right = height - 56, width - 18
    parts = [
        el("defs", el(
            "radialGradient",
            el("stop", offset="0", class_="glow-in"), el("stop", offset="1", class_="glow-out"),
            id="glow", cx="1", cy="0", r="0.95",
        )),
        el("rect", x=64, y=14, width=right - 64, height=bottom - 14, fill="url(#glow)"),
    ]  # fmt: skip
    for tick in across.ticks():
        x = across.at(tick)
        parts.append(el("line", x1=x, x2=x, y1=14, y2=bottom, class_="grid"))
        parts.append(el("text", f"{tick:,}", x=x, y=bottom + 18, class_="tick", text_anchor="middle"))
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(el("line", x1=64, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(el("text", f"{tick:,}", x=56, y=y + 4, class_="tick", text_anchor="end"))
    what = "commits that touched the file →" if has_past else "lines of code →"
    parts.append(el("text", what, x=right, y=height - 14, class_="axis", text_anchor="end"))
    turned = f"translate(16 {14:g}) rotate(-90)"
    parts.append(
        el("text", "paths through the hardest function →", transform=turned, class_="axis", text_anchor="end")
    )
    return el("g", parts)


def _dot(profile: Profile, risk: int, x: float, y: float, radius: float) -> Markup:
    found, hardest = profile.findings, profile.findings.functions[0]
    tip = f"{found.path}\u2003risk {risk}\u2003{hardest.name}: {hardest.complexity} paths, {found.code:,} lines in the file"
    return el("circle", el("title", tip), cx=x, cy=y, r=radius, class_=f"dot {shade(risk)}")


def _labels(
    placed: list[tuple[Profile, float, float, float]], named: list[str], width: float, height: float
) -> list[Markup]:
    """Name the most important dots where a label covers neither another label nor a named dot."""
    by_path = {p.findings.path: (x, y, r) for p, x, y, r in placed}
    wanted = [path for path in named if path in by_path]
    taken = [Box(x - r, y - r, 2 * r, 2 * r) for x, y, r in (by_path[path] for path in wanted)]
    if len(placed) < CROWDED:
        taken += [Box(x - r, y - r, 2 * r, 2 * r) for _, x, y, r in placed]
    labels: list[Markup] = []
    for path in wanted:
        x, y, r = by_path[path]
        name = short(path)
        long = 7.3 * len(name)
        for left, middle in _spots(x, y, r, long):
            box = Box(left, middle - 7, long, 14)
            if left > 66 and left + long < width - 6 and 8 < middle < height - 58 and not _hits(box, taken):
                taken.append(box)
                labels.append(el("text", name, x=left, y=middle + 4, class_="label"))
                break
    return labels


def _spots(x: float, y: float, r: float, long: float) -> Iterator[tuple[float, float]]:
    """Yield where a label may begin, the best first: beside its dot, above, below, at the corners, farther out."""
    for far in (4.0, 14.0, 26.0):
        yield from ((x + r + far, y), (x - r - far - long, y))
        yield from ((x - long / 2, y - r - far - 5), (x - long / 2, y + r + far + 6))
        for side in (y - r - far, y + r + far):
            yield from ((x + r * 0.7 + 2, side), (x - r * 0.7 - 2 - long, side))


def _hits(box: Box, others: Iterable[Box]) -> bool:
    return any(
        box.x < o.x + o.width
        and o.x < box.x + box.width
        and box.y < o.y + o.height
        and o.y < box.y + box.height
        for o in others
    )


# -- the timeline -------------------------------------------------------------------------------------------


def timeline(history: History, width: float = 1120, height: float = 190) -> Markup:
    """Draw commits upwards and changed files downwards, one bar each for every period of the history."""
    bars = history.periods
    left, right, middle = 44.0, width - 8, height * 0.58
    step = (right - left) / max(1, len(bars))
    tallest = max((bar.commits for bar in bars), default=1)
    deepest = max((bar.changes for bar in bars), default=1) or 1
    parts: list[Markup] = []
    labelled = -100.0
    for place_, bar in enumerate(bars):
        x = left + place_ * step
        wide = max(1.0, min(26.0, step - 1.5))
        up = (middle - 22) * bar.commits / tallest
        down = (height - middle - 34) * bar.changes / deepest
        end = bar.start + timedelta(days=history.period_days - 1)
        span = f"{bar.start.day} {bar.start:%b %Y}" + (
            f" to {end.day} {end:%b %Y}" if history.period_days > 1 else ""
        )
        tip = f"{span}\u2003{bar.commits:,} commits\u2003{bar.changes:,} files changed"
        parts.append(
            el(
                "g",
                el("title", tip),
                el("rect", x=x, y=14, width=step, height=height - 32, class_="ghost"),
                el("rect", x=x, y=middle - 1 - up, width=wide, height=up, rx=1.5, class_="commits"),
                el("rect", x=x, y=middle + 1, width=wide, height=down, rx=1.5, class_="changes"),
            )
        )
        if x - labelled > 78:
            labelled = x
            parts.append(el("text", f"{bar.start:%b %Y}", x=x, y=height - 6, class_="tick"))
    parts += [
        el("line", x1=left, x2=right, y1=middle, y2=middle, class_="rule"),
        el("text", f"{tallest:,}", x=left - 6, y=26, class_="tick", text_anchor="end"),
        el("text", f"{deepest:,}", x=left - 6, y=height - 36, class_="tick", text_anchor="end"),
    ]
    return svg(width, height, parts, label="Timeline: commits above the line, changed files below")
