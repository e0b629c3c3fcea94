"""``reprise plan``: definitions checked and drawn from a shell."""

import json

GOOD = "name: p\nsteps:\n  - {name: a, agent: r}\n  - {name: b, agent: r, depends_on: a}\n"
BAD = "name: q\nsteps:\n  - {name: a, agnt: r}\n  - {name: b, agent: r, depends_on: c}\n"


def test_plans_are_checked(shell):
    (shell.folder / "good.yaml").write_text(GOOD)
    (shell.folder / "bad.yaml").write_text(BAD)
    fine = shell("plan", "check", "good.yaml")
    assert fine.returncode == 0
    assert fine.stdout.splitlines()[1].split() == ["good.yaml", "p", "2", "2", "a", "→", "b"]
    both = shell("plan", "check", "bad.yaml", "good.yaml", "-o", "json")
    assert both.returncode == 1
    assert [each["file"] for each in json.loads(both.stdout)] == ["good.yaml"]
    assert both.stderr.splitlines() == [
        "error: Plan 'q' has 2 faults.",
        "  bad.yaml:3:15: step 'a': agnt: there is no field 'agnt'. Did you mean 'agent'?",
        "  bad.yaml:4:25: step 'b': dependencies[0]: there is no step 'c'.",
    ]


def test_a_plan_is_drawn_and_a_bad_one_says_why_not(shell):
    (shell.folder / "good.yaml").write_text(GOOD)
    (shell.folder / "bad.yaml").write_text(BAD)
    assert shell("plan", "draw", "good.yaml").stdout.splitlines()[0] == "flowchart TD"
    refused = shell("plan", "draw", "bad.yaml")
    assert refused.returncode == 2
    assert "  bad.yaml:3:15: step 'a': agnt: there is no field 'agnt'." in refused.stderr
    assert shell("plan", "check", "gone.yaml").returncode == 2
