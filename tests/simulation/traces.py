"""Print the trace of each scenario under one seed: it is the same in every process."""

import logging
import sys

from tests.simulation.suite import ON_SQLITE, SCENARIOS

from reprise.testing.simulation import Simulated, simulate_once


def traces(seed: int) -> list[str]:
    """Return one line for each scenario."""
    lines: list[str] = []
    for scenario in SCENARIOS + ON_SQLITE:
        met = Simulated()
        simulate_once(scenario.play, seed, scenario.faults, met, keeper=scenario.keeper)
        lines.append(f"{scenario.name} {met.callbacks} {met.trace}")
    return lines


if __name__ == "__main__":
    logging.disable()
    sys.stdout.writelines(f"{line}\n" for line in traces(int(sys.argv[1])))
