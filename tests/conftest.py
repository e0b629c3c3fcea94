"""What holds for all tests: the time that each folder took is printed beside its budget."""

from collections import Counter

BUDGETS = {"unit": 60, "contract": 150, "story": 150, "crash": 360}
"""Seconds per folder of tests on two cores. A figure to watch, not a check: machines differ."""


def pytest_terminal_summary(terminalreporter):
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if duration := getattr(report, "duration", 0):
                top, _, rest = report.nodeid.partition("/")
                seconds[rest.partition("/")[0] if top == "tests" else f"doctests in {top}"] += duration
    terminalreporter.section("time by folder")
    for folder, spent in seconds.most_common():
        budget = BUDGETS.get(folder)
        over = " OVER" if budget and spent > budget else ""
        terminalreporter.line(f"{folder:20} {spent:7.1f} s" + (f" of {budget}{over}" if budget else ""))
