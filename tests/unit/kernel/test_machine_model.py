"""Random tables of transitions behave as dictionaries do, and the table of a run's states as its users rely on."""

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from reprise.kernel.errors import ConfigurationError, InvalidTransition
from reprise.kernel.machine import RUN, Machine, RunStatus

EXAMPLES = 1000
states = st.sampled_from("abcde")
events = st.sampled_from("uvw")
tables = st.dictionaries(states, st.dictionaries(events, states, max_size=3), min_size=1, max_size=5)


def reached(table, initial):
    found, unseen = {initial}, [initial]
    while unseen:
        for target in table.get(unseen.pop(), {}).values():
            if target not in found:
                found.add(target)
                unseen.append(target)
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(table=tables, initial=st.just("") | states, walk=st.lists(events, max_size=6))
def test_a_machine_is_its_table(table, initial, walk):
    first = initial or next(iter(table))
    if reached(table, first) != set(table):
        with pytest.raises(ConfigurationError):
            Machine("m", table, initial=initial)
        return
    machine = Machine("m", table, initial=initial)
    assert (machine.initial, machine.final) == (first, {state for state, ways in table.items() if not ways})
    now = first
    for place, event in enumerate(walk):
        assert machine.allows(now, event) == (event in table[now])
        if event not in table[now]:
            with pytest.raises(InvalidTransition):
                machine.fold(walk)
            with pytest.raises(InvalidTransition):
                machine.step(now, event)
            return
        now = machine.step(now, event)
        assert now == machine.fold(walk[: place + 1])
        assert machine.fold([event], machine.fold(walk[:place])) == now


class Run(RuleBasedStateMachine):
    """A run that is moved at random, and what must hold wherever it is."""

    def __init__(self):
        super().__init__()
        self.state = RUN.initial
        self.asked_to_stop = False

    @rule(event=st.sampled_from(sorted({event for ways in RUN.transitions.values() for event in ways})))
    def move(self, event):
        if not RUN.allows(self.state, event):
            with pytest.raises(InvalidTransition):
                RUN.step(self.state, event)
            return
        before, self.state = self.state, RUN.step(self.state, event)
        self.asked_to_stop |= event == "cancel"
        if before == RunStatus.COMPENSATING:
            assert self.state not in (RunStatus.RUNNING, RunStatus.CANCELLING), (
                "compensating is not interrupted"
            )

    @invariant()
    def it_can_end(self):
        if self.state not in RUN.final:
            assert RUN.final & reached(RUN.transitions, self.state)

    @invariant()
    def an_ended_run_stays(self):
        assert (self.state in RUN.final) == (not RUN.transitions[self.state])


def test_the_states_of_a_run():
    run_state_machine_as_test(
        Run, settings=settings(max_examples=EXAMPLES, stateful_step_count=15, deadline=None)
    )
