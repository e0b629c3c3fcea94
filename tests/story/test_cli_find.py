"""``reprise ps``: runs are found by a query, listed page by page, counted; and its errors teach."""

import json

import pytest
from tests.story.conftest import Shell

FLOW = """
from reprise import set_tags, workflow

@workflow
async def order(n: int) -> int:
    set_tags(env="prod" if n % 2 else "dev", amount=n * 10.0, big=n > 2)
    return n

@workflow
async def fails() -> None:
    set_tags(env="prod")
    raise ConnectionError("connection reset by peer")
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("filled"))
    (shell.folder / "shop.py").write_text(FLOW)
    for n in range(4):
        assert shell("run", "shop.py:order", "-i", f"n={n}", "--id", f"order-{n}").returncode == 0
    assert shell("run", "shop.py:fails", "--id", "bad").returncode == 1
    assert shell("run", "flow.py:parent", "--id", "par").returncode == 0
    yield shell
    shell.stop()


def ids(shell, *arguments):
    done = shell.inside("ps", *arguments, "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (["status:failed"], ["bad"]),
        (["env:prod", "amount>=10"], ["order-3", "order-1"]),
        (["env:prod amount>=10"], ["order-3", "order-1"]),
        (['error:"connection reset"'], ["bad"]),
        (["big:true age<1h"], ["order-3"]),
        (["workflow:order,fails", "not", "env:dev"], ["bad", "order-3", "order-1"]),
        (["parent:par"], ["par:1.squares"]),
        (["id:par*"], ["par:1.squares", "par"]),
        (["status:completed", "-n", "2"], ["par", "order-3"]),
        (["status:completed", "-n", "2", "--before", "order-3"], ["order-2", "order-1"]),
        (["status:completed", "-n", "2", "--all"], ["par:1.squares", "par"]),
    ],
)
def test_runs_are_found(filled, query, found):
    assert ids(filled, *query) == found


def test_a_list_shows_the_tags_that_were_asked_of(filled):
    done = filled.inside("ps", "env:prod amount>0")
    table = [line.split() for line in done.stdout.splitlines()]
    assert table[0] == ["ID", "WORKFLOW", "STATUS", "STARTED", "TOOK", "AMOUNT", "ENV", "NOTE"]
    assert [(row[0], row[-2:]) for row in table[1:]] == [
        ("order-3", ["30", "prod"]),
        ("order-1", ["10", "prod"]),
    ]
    assert "\t" not in done.stdout


def test_runs_are_counted(filled):
    counted = json.loads(filled.inside("ps", "--count", "status", "-o", "json").stdout)
    assert counted == {"completed": 5, "failed": 1}
    assert json.loads(filled.inside("ps", "workflow:order", "-c", "env", "-o", "json").stdout) == {
        "dev": 2,
        "prod": 2,
    }
    table = filled.inside("ps", "-c", "workflow").stdout.splitlines()
    assert [line.split() for line in table] == [
        ["WORKFLOW", "COUNT"],
        ["order", "4"],
        ["fails", "1"],
        ["parent", "1"],
    ]
    rows = filled.inside("ps", "-c", "tag.big", "workflow:order", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(row) for row in rows] == [{"big": "false", "count": 3}, {"big": "true", "count": 1}]


def test_an_empty_list_says_why(filled):
    assert "No run has a tag 'evn'. Did you mean 'env'?" in filled.inside("ps", "evn:prod").stderr
    assert "No run matches." in filled.inside("ps", "env:none", "amount>5").stderr


def test_a_full_page_says_how_it_goes_on(filled):
    done = filled.inside("ps", "-n", "2", "workflow:order")
    assert "--before order-2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status:faild age<1d"], ["No run is ever 'faild'", "status:faild age<1d", "       ^^^^^", "hint: Did you mean 'failed'?"]),
        (["stauts:failed"], ["There is no field 'stauts'", "Did you mean 'status'? A tag of that name is written tag.stauts."]),
        (["failed"], ["Did you mean status:failed?"]),
        (["--count", "statsu"], ["has no 'statsu'", "Did you mean 'status'?"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_shown_with_its_place(filled, arguments, said):
    done = filled.inside("ps", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    for text in said:
        assert text in done.stderr


def test_the_help_teaches_the_language(filled):
    text = " ".join(filled.inside("ps", "--help").stdout.replace("│", " ").split())
    for word in ("status:failed", 'error:"connection reset"', "age<2h", "parent", "tag.NAME", "and, or, not"):
        assert word in text
