"""The definitions of examples/definitions are plans, each shows its feature, and the list of them is whole."""

from dataclasses import fields
from pathlib import Path

import pytest

from reprise import Plan, PlanStep, load_plan

FOLDER = Path(__file__).parents[3] / "examples" / "definitions"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".yaml", ".json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_definition_is_a_plan_and_comes_back_as_itself(path):
    plan = load_plan(path)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert plan.to_mermaid().count("\n    s") >= len(plan.steps)


def test_the_list_names_every_definition():
    listed = (FOLDER / "README.md").read_text()
    assert [path.name for path in FILES if f"({path.name})" not in listed] == []


def test_every_field_of_a_step_is_shown_somewhere():
    written = {name for path in FILES for step in load_plan(path).to_dict()["steps"] for name in step}
    not_data = {"function"}
    for_people = {"description", "resources"}
    assert {field.name for field in fields(PlanStep)} - written == not_data | for_people
