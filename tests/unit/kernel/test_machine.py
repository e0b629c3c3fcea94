"""State machines, and the table of a run."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.errors import ConfigurationError, InvalidTransition
from reprise.kernel.machine import FACES, RUN, SETTLED, ExitCode, Machine, RunStatus

STATES = {value for name, value in vars(RunStatus).items() if name.isupper()}
EVENTS = sorted({event for ways in RUN.transitions.values() for event in ways})

MCP = {"working", "input_required", "completed", "failed", "cancelled"}
A2A = {
    f"TASK_STATE_{s}"
    for s in (
        "SUBMITTED",
        "WORKING",
        "COMPLETED",
        "FAILED",
        "CANCELED",
        "INPUT_REQUIRED",
        "REJECTED",
        "AUTH_REQUIRED",
    )
}


def test_the_table_has_every_state_of_a_run() -> None:
    assert set(RUN.transitions) == STATES
    assert RUN.initial == "pending"
    assert RUN.final == {"completed", "failed", "cancelled"}
    assert {"paused", "stranded", "needs_attention"} | RUN.final == SETTLED


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ("", "pending"),
        ("own complete", "completed"),
        ("own wait own fail", "failed"),
        ("own pause resume own wait wake complete", "completed"),
        ("cancel own stop", "cancelled"),
        ("own cancel cancel compensate cancel stop", "cancelled"),
        ("own cancel complete", "completed"),
        ("own release own strand own complete", "completed"),
        ("own attend resume own complete", "completed"),
        ("own attend fail", "failed"),
    ],
)
def test_ways_of_a_run(events: str, state: str) -> None:
    assert RUN.fold(events.split()) == state


@pytest.mark.parametrize("state", sorted(RUN.final))
def test_nothing_leads_out_of_an_end(state: str) -> None:
    for event in EVENTS:
        assert not RUN.allows(state, event)
        with pytest.raises(InvalidTransition, match=f"from '{state}' by '{event}'. That state is final"):
            RUN.step(state, event)


@pytest.mark.parametrize("state", sorted(STATES - RUN.final))
def test_every_other_state_can_be_cancelled_and_can_end(state: str) -> None:
    assert RUN.allows(state, "cancel")
    seen = {state}
    for _ in STATES:
        seen |= set(itertools.chain.from_iterable(RUN.transitions[s].values() for s in seen))
    assert seen >= RUN.final


def test_an_invalid_transition_names_what_is_allowed() -> None:
    with pytest.raises(
        InvalidTransition, match=r"run: nothing leads from 'paused' by 'complete'. From there: own, resume"
    ):
        RUN.step("paused", "complete")
    with pytest.raises(InvalidTransition, match="No such state"):
        RUN.step("asleep", "own")


@given(st.lists(st.sampled_from(EVENTS)))
def test_fold_is_one_step_after_another(events: list[str]) -> None:
    state = RUN.initial
    for at, event in enumerate(events):
        if not RUN.allows(state, event):
            with pytest.raises(InvalidTransition):
                RUN.fold(events[: at + 1])
            return
        state = RUN.step(state, event)
    assert RUN.fold(events) == state
    assert RUN.fold(events[1:], RUN.fold(events[:1])) == state


@pytest.mark.parametrize(
    ("state", "exit", "http", "mcp", "a2a"),
    [
        ("pending", 5, 202, "working", "SUBMITTED"),
        ("running", 5, 202, "working", "WORKING"),
        ("waiting", 5, 202, "working", "WORKING"),
        ("paused", 130, 202, "working", "WORKING"),
        ("cancelling", 5, 202, "working", "WORKING"),
        ("compensating", 5, 202, "working", "WORKING"),
        ("completed", 0, 200, "completed", "COMPLETED"),
        ("failed", 1, 500, "completed", "FAILED"),
        ("cancelled", 6, 410, "cancelled", "CANCELED"),
        ("stranded", 1, 503, "working", "SUBMITTED"),
        ("needs_attention", 1, 409, "input_required", "INPUT_REQUIRED"),
    ],
)
def test_how_the_doors_show_each_state(state: str, exit: int, http: int, mcp: str, a2a: str) -> None:
    assert FACES[state][:4] == (exit, http, mcp, f"TASK_STATE_{a2a}")


def test_the_doors_show_every_state_in_words_they_know() -> None:
    assert set(FACES) == STATES
    assert {face.mcp for face in FACES.values()} <= MCP
    assert {face.a2a for face in FACES.values()} <= A2A
    assert {state for state, face in FACES.items() if face.is_error} == {"failed", "cancelled"}
    for state, face in FACES.items():
        assert (face.mcp in {"completed", "cancelled"}) == (state in RUN.final)


def test_exit_codes() -> None:
    codes = {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOT_FOUND": 3,
        "UNREACHABLE": 4,
        "TIMEOUT": 5,
        "CANCELLED": 6,
        "CONFLICT": 7,
    }
    assert {code.name: code.value for code in ExitCode} == codes | {"INTERRUPTED": 130}


@pytest.mark.parametrize(
    ("table", "initial", "said"),
    [
        ({}, "", "initial state '' is not in the table"),
        ({"a": {}}, "b", "initial state 'b' is not in the table"),
        ({"a": {"go": "b"}}, "", "'go' leads to 'b', which is not in the table"),
        ({"a": {"go": "b"}, "b": {}, "c": {"go": "a"}}, "", "nothing leads to c"),
    ],
)
def test_a_wrong_table_is_refused(table: dict[str, dict[str, str]], initial: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Machine("m", table, initial=initial)


def test_a_table_cannot_be_changed_afterwards() -> None:
    table = {"a": {"go": "b"}, "b": {}}
    machine = Machine("m", table)
    table["a"]["go"] = "a"
    assert machine.step("a", "go") == "b"


def test_the_diagram_has_every_state() -> None:
    drawn = RUN.to_mermaid()
    assert drawn.startswith("stateDiagram-v2\n    [*] --> pending\n")
    for state in STATES:
        assert f" --> {state}" in drawn
    assert "    cancelled --> [*]" in drawn
    assert "    waiting --> running: own, wake" in drawn
