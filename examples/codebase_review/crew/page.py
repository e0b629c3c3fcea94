"""Write the sections of the report page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .charts import STEPS, scatter, shade, timeline, treemap
from .facts import CODE, TEST, Concern, Findings, Profile, Review, Risk
from .markup import Child, Markup, el, join, style
from .reviewers import REVIEWERS
from .voteflow import flow

LISTED = 15
_GRADES = {3: "high", 2: "medium", 1: "low"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if something slipped in, the browser would neither run nor fetch it."""


def page(review: Review) -> str:
    """Return the whole report as one HTML document that needs no network and no script."""
    name = review.places.root.name or str(review.places.root)
    has_code = bool(review.settlement.order)
    body = el(
        "main",
        _head(review, name),
        _verdict(review) if has_code else _nothing(),
        _tiles(review),
        join(_ranking(review), _map(review), _hotspots(review), _timeline(review), _vote(review))
        if has_code
        else None,
        _functions(review),
        _risks(review),
        el("div", _untested(review), _clones(review), class_="two even"),
        _notes(review),
        _foot(),
    )
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Review of {name}"),
        style(css),
    )
    return "<!doctype html>\n" + el("html", head, el("body", body), lang="en") + "\n"


# -- small pieces -------------------------------------------------------------------------------------------


def _card(title: str, lede: str, *children: Child, class_: str = "card") -> Markup:
    return el(
        "section", el("h2", title), el("p", lede, class_="lede") if lede else None, *children, class_=class_
    )


def _path(path: str, line: int = 0) -> Markup:
    folder, slash, name = path.rpartition("/")
    where = f":{line}" if line else ""
    return el(
        "span",
        el("span", folder + slash, class_="folder-part") if slash else None,
        name + where,
        class_="path",
    )


def _table(heads: list[tuple[str, str]], rows: list[Markup]) -> Markup:
    head = el("tr", [el("th", text, class_=kind or None) for text, kind in heads])
    return el("div", el("table", el("thead", head), el("tbody", rows)), class_="scroll")


def _number(value: int) -> Markup:
    return el("td", f"{value:,}", class_="n")


def _badge(risk: int) -> Markup:
    return el("span", risk, class_=f"badge {shade(risk)}")


def _plural(count: int, one: str) -> str:
    return f"{count:,} {one if count == 1 else one + 's'}"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3)):,} kB"


def _folded(rows: list[Markup], heads: list[tuple[str, str]], more: str) -> Markup:
    """Show the first rows and keep the rest behind a line to click."""
    shown = _table(heads, rows[:LISTED])
    if len(rows) <= LISTED:
        return shown
    return join(shown, el("details", el("summary", more), _table(heads, rows[LISTED : 10 * LISTED])))


def _code_findings(review: Review) -> list[Findings]:
    kinds = {file.path: file.kind for file in review.inventory.files}
    return [found for found in review.findings if kinds.get(found.path) == CODE]


# -- the sections -------------------------------------------------------------------------------------------


def _head(review: Review, name: str) -> Markup:
    opened = review.places.opened
    when = f"{opened.day} {opened:%B %Y}, {opened:%H:%M} UTC"
    return join(
        el("h1", f"Code review of {name}"),
        el("div", el("span", str(review.places.root), class_="path"), f" · {when}", class_="where"),
    )


def _nothing() -> Markup:
    return _card(
        "Nothing to review", "There is no code here that the reviewers could rank.", class_="card verdict"
    )


def _verdict(review: Review) -> Markup:
    first = review.settlement.order[0]
    best = [(o.reviewer, p.reason) for o in review.opinions for p in o.ranking[:3] if p.path == first]
    return el(
        "section",
        el("div", "Look here first", class_="eyebrow"),
        el("div", first, class_="first"),
        [el("div", el("b", f"{who}: "), why, class_="why") for who, why in best],
        class_="card verdict",
    )


def _tiles(review: Review) -> Markup:
    code = _code_findings(review)
    kinds = Counter(file.kind for file in review.inventory.files)
    tested = sum(bool(tie.tests) for tie in review.coverage.ties)
    grave = sum(risk.severity > 1 for found in code for risk in found.risks)
    repeated = sum(review.clones.repeated.get(found.path, 0) for found in code)
    lines = sum(found.lines for found in code)
    tiles = [
        (f"{kinds[CODE]:,}", f"code files · {kinds[TEST]:,} tests"),
        (f"{sum(found.code for found in code):,}", "lines of code"),
        (f"{sum(found.function_count for found in code):,}", "functions"),
        (f"{sum(found.hard for found in code):,}", "of them hard (15 paths or more)"),
        (f"{grave:,}", "risky construct" if grave == 1 else "risky constructs"),
        (f"{repeated / max(1, lines):.0%}", "of lines stand twice"),
        (f"{tested / max(1, len(review.coverage.ties)):.0%}", "of files tied to a test"),
    ]
    if review.history.commits:
        tiles.append(
            (f"{review.history.commits:,}", f"commits by {_plural(review.history.authors, 'author')}")
        )
    return el(
        "div",
        [el("div", el("b", value), el("span", what), class_="tile") for value, what in tiles],
        class_="tiles",
    )


def _ranking(review: Review) -> Markup:
    concerns = {concern.path: concern for concern in review.dossier.concerns}
    places = {o.reviewer: {p.path: at for at, p in enumerate(o.ranking, 1)} for o in review.opinions}
    heads = [("", ""), ("file, and why", ""), ("risk", "n"), *((r.name, "cell") for r in REVIEWERS)]
    rows = [
        _ranked(review, path, at, concerns[path], places)
        for at, path in enumerate(review.settlement.order, 1)
    ]
    return _card(
        "The ranking",
        "Five reviewers ranked the same candidates by different priorities; a ranked-choice vote settled the order. "
        "The numbers on the right are each reviewer's own place for the file.",
        _table(heads, rows),
        class_="card ranking",
    )


def _ranked(
    review: Review, path: str, at: int, concern: Concern, places: dict[str, dict[str, int]]
) -> Markup:
    most = len(review.dossier.candidates)
    keenest = min(review.opinions, key=lambda opinion: places[opinion.reviewer].get(path, most))
    why = next(place.reason for place in keenest.ranking if place.path == path)
    cells: list[Markup] = []
    for reviewer in REVIEWERS:
        place = places[reviewer.name].get(path, most)
        warmth = f"k{round(6 * (1 - (place - 1) / max(1, most - 1)))}"
        cells.append(el("td", el("span", place, class_=warmth), class_="cell"))
    return el(
        "tr",
        el("td", at, class_="place"),
        el("td", _path(path), el("div", el("b", f"{keenest.reviewer}: "), why, class_="why")),
        el("td", _badge(concern.risk), class_="n"),
        cells,
    )


def _legend() -> Markup:
    steps = [el("span", el("i", class_=f"k{at}"), f"from {low}") for at, low in enumerate((0, *STEPS))]
    return el("div", el("span", "risk"), steps, class_="legend")


def _map(review: Review) -> Markup:
    return _card(
        "The map",
        "Every code file as a square: the area is its lines of code, the colour its risk, the mean worry of the five "
        "reviewers. Tests are left out.",
        treemap(review.dossier.profiles, review.dossier.concerns),
        _legend(),
    )


def _hotspots(review: Review) -> Markup:
    has_past = bool(review.history.commits)
    lede = (
        "What changes often and is hard to read costs most: look to the upper right. A dot's size is the file's size."
        if has_past
        else "Without history the size stands for change: look to the upper right. A dot grows with the files that import it."
    )
    picture = scatter(review.dossier.profiles, review.dossier.concerns, review.settlement.order)
    return el(
        "div",
        _card("Hotspots", lede, picture),
        el("section", el("h2", "What there is"), _languages(review), class_="card"),
        class_="two",
    )


def _languages(review: Review) -> Markup:
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for file in review.inventory.files:
        label = f"{file.language} tests" if file.kind == TEST else file.language
        sizes[label] += file.size
        counts[label] += 1
    most = max(sizes.values(), default=0) or 1
    bars = [
        _bar(label, size / most, f"{_plural(counts[label], 'file')}, {_bytes(size)}")
        for label, size in sizes.most_common(9)
    ]
    encodings = Counter(file.encoding for file in review.inventory.files if file.encoding)
    chips = [el("span", f"{name} {count:,}", class_="chip") for name, count in encodings.most_common(6)]
    return join(
        el("div", bars, class_="bars"),
        el("h3", "Encodings"),
        el("div", chips),
        _riskiest_folders(review),
        _leaned_on(review),
    )


def _riskiest_folders(review: Review) -> Markup | None:
    worst: dict[str, list[int]] = {}
    for concern in review.dossier.concerns:
        folder = concern.path.rpartition("/")[0]
        worst.setdefault(folder or ".", []).append(concern.risk)
    if len(worst) < 2:
        return _spread(review)
    means = sorted(((sum(r) / len(r), len(r), name) for name, r in worst.items()), reverse=True)[:6]
    rows = [
        el("tr", el("td", _path(name)), _number(count), el("td", _badge(round(mean)), class_="n"))
        for mean, count, name in means
    ]
    return join(
        el("h3", "Folders by mean risk"), _table([("folder", ""), ("files", "n"), ("risk", "n")], rows)
    )


def _leaned_on(review: Review) -> Markup | None:
    ties = sorted(
        (tie for tie in review.coverage.ties if tie.used_by), key=lambda tie: (-tie.used_by, tie.path)
    )[:6]
    bars = [
        _bar(_path(tie.path), tie.used_by / ties[0].used_by, _plural(tie.used_by, "file")) for tie in ties
    ]
    return join(el("h3", "Most depended on"), el("div", bars, class_="bars")) if bars else None


def _bar(label: Child, share: float, note: str, class_: str | None = None) -> Markup:
    track = el("span", el("i", class_=class_, style=f"width:{100 * share:.1f}%"), class_="track")
    return join(el("span", label), track, el("span", note, class_="n"))


def _spread(review: Review) -> Markup:
    """Show how many files have which risk: a small picture for projects of one folder."""
    counts = Counter(shade(concern.risk) for concern in review.dossier.concerns)
    most = max(counts.values(), default=1)
    bounds = [0, *STEPS, 101]
    rows = [
        _bar(
            f"{bounds[at]}–{bounds[at + 1] - 1}",
            counts[f"k{at}"] / most,
            _plural(counts[f"k{at}"], "file"),
            f"k{at}",
        )
        for at in range(len(STEPS), -1, -1)
        if counts[f"k{at}"]
    ]
    return join(el("h3", "Files by risk"), el("div", rows, class_="bars"))


def _timeline(review: Review) -> Markup | None:
    past = review.history
    if not past.commits or not past.first or not past.last:
        return None
    span = f"{past.first.day} {past.first:%b %Y} to {past.last.day} {past.last:%b %Y}"
    per = "day" if past.period_days == 1 else f"{past.period_days} days"
    lede = (
        f"{_plural(past.commits, 'commit')} by {_plural(past.authors, 'author')}, {span}; one bar per {per}. "
    )
    return _card(
        "The timeline", lede + "Commits above the line, changed files below. " + past.note, timeline(past)
    )


def _vote(review: Review) -> Markup:
    contests = review.settlement.contests
    hardest = max(range(len(contests)), key=lambda at: (len(contests[at].rounds), -at))
    pictures = [_contest(review, at) for at in sorted({0, hardest})]
    cards = [
        el(
            "div",
            el("h3", opinion.reviewer),
            el("div", next(r.asks for r in REVIEWERS if r.name == opinion.reviewer), class_="why"),
            el("div", f"confidence {opinion.confidence:.0%}", class_="mute"),
            el(
                "ol",
                [el("li", _path(p.path), el("div", p.reason, class_="why")) for p in opinion.ranking[:5]],
            ),
            class_=f"reviewer b{number}",
        )
        for number, opinion in enumerate(review.opinions)
    ]
    return _card(
        "The vote",
        "Each ribbon is one reviewer. In every round a vote counts for the best ranked file still standing; without a "
        "majority the weakest leaves and its votes move on. The winner takes the place, and the next place is voted for.",
        pictures,
        el("details", el("summary", "All places, round by round"), _rounds(review)),
        el("div", cards, class_="reviewers"),
    )


def _contest(review: Review, at: int) -> Markup:
    contest = review.settlement.contests[at]
    prize = "first place" if not at else f"place {at + 1}"
    note = "" if not at else ", the most contested"
    title = f"The vote for the {prize}" if not at else f"The vote for {prize}"
    return el(
        "div",
        el("h3", title, el("span", note, class_="mute")),
        el("div", contest.reason, class_="why"),
        flow(review.opinions, contest, prize),
        class_="contest",
    )


def _rounds(review: Review) -> Markup:
    rows = [
        el(
            "tr",
            el("td", place, class_="n"),
            _number(each.number),
            el("td", _standing(each.votes)),
            el("td", ", ".join(each.left)),
        )
        for place, contest in enumerate(review.settlement.contests, 1)
        for each in contest.rounds
    ]
    return _table([("place", "n"), ("round", "n"), ("votes", ""), ("leaves", "")], rows)


def _standing(votes: dict[str, float]) -> str:
    ranked = sorted(
        ((path, count) for path, count in votes.items() if count), key=lambda item: (-item[1], item[0])
    )
    return ", ".join(f"{path} {count:g}" for path, count in ranked)


def _functions(review: Review) -> Markup | None:
    found = [(f, file.path) for file in _code_findings(review) for f in file.functions]
    found.sort(key=lambda item: (-item[0].complexity, -item[0].lines, item[1], item[0].line))
    heads = [
        ("function", ""),
        ("where", ""),
        ("paths", "n"),
        ("lines", "n"),
        ("nesting", "n"),
        ("parameters", "n"),
    ]
    rows = [
        el("tr", el("td", el("code", f.name)), el("td", _path(path, f.line)), _number(f.complexity), _number(f.lines),
           _number(f.nesting), _number(f.parameters))
        for f, path in found[: 10 * LISTED]
    ]  # fmt: skip
    if not rows:
        return None
    lede = "Paths are McCabe's cyclomatic complexity: how many ways there are through the function."
    return _card("The hardest functions", lede, _folded(rows, heads, "More functions"))


def _risks(review: Review) -> Markup:
    found = [(risk, file.path) for file in _code_findings(review) for risk in file.risks]
    counts = Counter((risk.severity, risk.rule) for risk, _ in found)
    chips = [
        el("span", f"{rule} {count:,}", class_=f"chip s{severity}")
        for (severity, rule), count in sorted(counts.items(), key=lambda item: (-item[0][0], -item[1]))
    ]
    together: dict[tuple[int, str, str], list[Risk]] = {}
    for risk, path in found:
        together.setdefault((-risk.severity, path, risk.rule), []).append(risk)
    heads = [("", ""), ("construct", ""), ("where", ""), ("code", "")]
    rows = [_risk(risks, path) for (_, path, _), risks in sorted(together.items())]
    lede = (
        "Places to look at, not verdicts; what looks like a secret is never copied here. Tests are left out."
    )
    table = _folded(rows, heads, "More of them") if rows else None
    return _card("Risky constructs", lede if rows else "None found.", el("p", chips), table)


def _risk(risks: list[Risk], path: str) -> Markup:
    """Show one construct of one file, with all the lines where it stands."""
    first, *others = risks
    also = ", ".join(str(risk.line) for risk in others[:8]) + (" …" if others[8:] else "")
    return el(
        "tr",
        el("td", el("span", _GRADES[first.severity], class_=f"badge s{first.severity}")),
        el("td", el("b", first.rule), el("div", first.says, class_="why")),
        el("td", _path(path, first.line), el("div", f"also {also}", class_="why") if others else None),
        el("td", first.code, class_="code"),
    )


def _untested(review: Review) -> Markup:
    by_path: dict[str, Profile] = {profile.findings.path: profile for profile in review.dossier.profiles}
    risks = {concern.path: concern.risk for concern in review.dossier.concerns}
    lonely = [
        by_path[tie.path]
        for tie in review.coverage.ties
        if not tie.tests and tie.path in by_path and by_path[tie.path].findings.function_count
    ]
    lonely.sort(key=lambda p: (-p.findings.complexity, p.findings.path))
    rows = [
        el("tr", el("td", _path(p.findings.path)), _number(p.findings.complexity), _number(p.used_by),
           el("td", _badge(risks[p.findings.path]), class_="n"))
        for p in lonely
    ]  # fmt: skip
    lede = f"{_plural(review.coverage.test_files, 'test file')}, tied to code by imports and names; nothing was executed. "
    lede += "These files have no tie." if rows else "Every file with functions has one."
    heads = [("file", ""), ("paths", "n"), ("used by", "n"), ("risk", "n")]
    return _card("Code without a test", lede, _folded(rows, heads, "More files") if rows else None)


def _clones(review: Review) -> Markup:
    code = {file.path for file in review.inventory.files if file.kind == CODE}
    clones = sorted(review.clones.clones, key=lambda clone: code.isdisjoint((clone.path, clone.other)))
    rows = [
        el("tr", el("td", _path(c.path, c.line), el("div", _path(c.other, c.other_line))), _number(c.lines))
        for c in clones
    ]
    lede = "Runs of equal lines, blanks, comments and spacing apart; code before tests."
    table = _folded(rows, [("where", ""), ("lines", "n")], "More of them") if rows else None
    return _card("Standing twice", lede if rows else "No repeated lines found.", table)


def _notes(review: Review) -> Markup | None:
    problems = [f"{found.path}: {found.problem}" for found in review.findings if found.problem]
    notes = [*review.inventory.notes, *([review.history.note] if review.history.note else []), *problems[:40]]
    if len(problems) > 40:
        notes.append(f"… and {len(problems) - 40:,} more files, see report.json.")
    if not notes:
        return None
    return _card("What was not seen", "", el("ul", [el("li", note) for note in notes], class_="notes"))


def _foot() -> Markup:
    return el(
        "footer", "Written by the codebase review, an example of Reprise. The same facts are in report.json."
    )
