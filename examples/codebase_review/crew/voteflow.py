"""Draw how the votes went: one ribbon for each reviewer, from candidate to candidate through the rounds."""

from __future__ import annotations

from itertools import pairwise

from .charts import short, svg
from .facts import Contest, Opinion
from .markup import Markup, el

COLUMN = 13.0
ROOM = 17.0
"""Height of one vote; a candidate is as high as its votes."""
BETWEEN = 30.0


def choices(opinions: list[Opinion], contest: Contest) -> list[dict[str, str]]:
    """Return for each round whom each reviewer's vote counted for: the best ranked that still stood."""
    rounds: list[dict[str, str]] = []
    for each in contest.rounds:
        standing = set(each.votes)
        rounds.append(
            {
                opinion.reviewer: next(place.path for place in opinion.ranking if place.path in standing)
                for opinion in opinions
                if any(place.path in standing for place in opinion.ranking)
            }
        )
    return rounds


def flow(opinions: list[Opinion], contest: Contest, prize: str, width: float = 1120) -> Markup:
    """Draw the rounds of the run-off from left to right; who leaves passes the votes on."""
    rounds = choices(opinions, contest)
    named = {path for each in rounds for path in each.values()}
    order = sorted(
        named, key=lambda path: (-sum(path in each.values() for each in rounds), path != contest.winner, path)
    )
    left, right = 150.0, width - 190.0
    gap = (right - left) / max(1, len(rounds))
    columns = [_stack([o.reviewer for o in opinions], {o.reviewer: o.reviewer for o in opinions})]
    columns += [_stack(order, each) for each in rounds]
    height = max(_height(column) for column in columns) + 42
    parts: list[Markup] = []
    for at, (before, after) in enumerate(pairwise(columns)):
        for number, opinion in enumerate(opinions):
            start, end = before.get(opinion.reviewer), after.get(opinion.reviewer)
            if start is not None and end is not None:
                x1, x2 = left + at * gap + (COLUMN if at else 0), left + (at + 1) * gap
                parts.append(_ribbon(x1, start, x2, end, number, opinion.reviewer))
    for number, opinion in enumerate(opinions):
        y = columns[0][opinion.reviewer] + ROOM / 2 + 4
        parts.append(
            el("text", opinion.reviewer, x=left - 10, y=y, class_=f"voter v{number}", text_anchor="end")
        )
    for at, each in enumerate(rounds, 1):
        parts += _candidates(each, columns[at], left + at * gap, contest, prize, at, gap)
    return svg(width, height, parts, label=f"The rounds of the vote for the {prize}")


def _stack(order: list[str], votes: dict[str, str]) -> dict[str, float]:
    """Return where each voter's ribbon begins in a column in which candidates stand one below the other."""
    tops: dict[str, float] = {}
    y = 42.0
    for candidate in order:
        voters = [voter for voter, choice in votes.items() if choice == candidate]
        for voter in voters:
            tops[voter] = y
            y += ROOM
        y += BETWEEN if voters else 0
    return tops


def _height(column: dict[str, float]) -> float:
    return max(column.values(), default=0.0)


def _ribbon(x1: float, y1: float, x2: float, y2: float, number: int, voter: str) -> Markup:
    bend = (x2 - x1) * 0.5
    y1, y2, thick = y1 + 1, y2 + 1, ROOM - 2
    path = (
        f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        f"v{thick:g}C{x2 - bend:.1f} {y2 + thick:.1f} {x1 + bend:.1f} {y1 + thick:.1f} {x1:.1f} {y1 + thick:.1f}Z"
    )
    return el("path", el("title", voter), d=path, class_=f"ribbon f{number}")


def _candidates(
    votes: dict[str, str], tops: dict[str, float], x: float, contest: Contest, prize: str, at: int, gap: float
) -> list[Markup]:
    is_last = at == len(contest.rounds)
    left = contest.rounds[at - 1].left
    drawn = [el("text", f"Round {contest.rounds[at - 1].number}", x=x, y=16, class_="tick")]
    for candidate in dict.fromkeys(votes.values()):
        own = [tops[voter] for voter, choice in votes.items() if choice == candidate]
        wins = is_last and candidate == contest.winner
        state = "wins" if wins else "leaves" if candidate in left else "stays"
        top, high = min(own), max(own) + ROOM - min(own)
        count = f"{len(own)} {'vote' if len(own) == 1 else 'votes'}"
        note = f"{count}: {prize}" if wins else f"{count}, leaves" if state == "leaves" else count
        room = int((gap - COLUMN - 14) / 6.6) if not is_last else 28
        name = short(candidate)
        drawn += [
            el("rect", x=x, y=top, width=COLUMN, height=high, rx=3, class_=f"node {state}"),
            el(
                "text",
                name if len(name) <= room else name[: room - 1] + "…",
                x=x,
                y=top - 5,
                class_=f"stand {state}",
            ),
            el("text", note, x=x + COLUMN + 6, y=top + high / 2 + 4, class_="count")
            if is_last
            else _tip(note, x, top),
        ]
    return drawn


def _tip(note: str, x: float, y: float) -> Markup:
    return el("g", el("title", note), el("rect", x=x, y=y, width=COLUMN, height=ROOM, class_="ghost"))
