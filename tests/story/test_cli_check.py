"""``reprise check`` before a deploy: what CI sees."""

import json

OLD = """
from reprise import step, wait_for_signal, workflow

@step
async def reserve(n: int) -> int:
    return n

@step
async def tax(n: int) -> int:
    return n

@step
async def ship(n: int) -> int:
    return n

@workflow
async def order(n: int) -> int:
    await reserve(n)
    NEW
    await ship(n)
    return await wait_for_signal("received", int)
"""
NEW = OLD.replace("NEW", "await tax(n) # since May")


def shop(shell):
    """Make a shop in which two orders of the old code wait to be received, and bring the new code."""
    (shell.folder / "shop.py").write_text(OLD.replace("NEW", ""))
    for n in range(2):
        started = shell("run", "shop.py", "-i", f"n={n}", "--id", f"order-{n}", "--timeout", "0.5")
        assert started.returncode != 0, started.stderr
    (shell.folder / "shop_new.py").write_text(NEW)
    return shell


def test_code_that_fits_passes(shell):
    shop(shell)
    checked = shell("check", "shop.py")
    assert checked.returncode == 0, checked.stderr
    assert "2 runs in flight" in checked.stdout
    assert "2 go on" in checked.stdout


def test_code_that_does_not_fit_fails_with_both_sides_and_the_cures(shell):
    checked = shop(shell)("check", "shop_new.py")
    assert checked.returncode == 1, checked.stderr
    for text in (
        "needs a patch  order  2 runs: order-0, order-1",
        "the code calls 'tax' where the log has 'ship'",
        "shop_new.py:19  await tax(n) # since May",
        ":2.ship completed",
    ):
        assert text in checked.stdout, checked.stdout
    for cure in ("patched(", "reprise pin", "reprise migrate"):
        assert cure in checked.stderr


def test_programs_read_the_same(shell):
    checked = shop(shell)("check", "shop_new.py", "-o", "json", "-w", "order")
    assert checked.returncode == 1, checked.stderr
    fact = json.loads(checked.stdout)
    assert (fact["ok"], fact["runs"], fact["counts"]["needs_patch"]) == (False, 2, 2)
    (misfit,) = fact["misfits"]
    assert (misfit["line"], misfit["recorded"], misfit["runs"]) == (19, ":2.ship completed", 2)
    assert [one["run"] for one in misfit["first"]] == ["order-0", "order-1"]
    (line,) = shell("check", "shop_new.py", "-o", "jsonl").stdout.splitlines()
    assert json.loads(line) == misfit


def test_only_some_runs_and_nothing_in_flight(shell):
    checked = shop(shell)("check", "shop_new.py", "-q", "id:order-7")
    assert (checked.returncode, checked.stdout) == (0, "No run is in flight.\n")


def test_a_command_or_code_that_is_wrong_is_told_from_runs_that_do_not_fit(shell):
    shop(shell)
    (shell.folder / "broken.py").write_text("import nothing_like_it\n")
    assert shell("check", "broken.py").returncode == 2
    assert shell("check", "shop.py", "-q", "nonsense:").returncode == 2
    assert shell("check", "shop.py", "--store", "sqlite:///nowhere.db").returncode == 4


CARRY = """
def to_taxed(past):
    return {"n": past.args[0] if past.args else past.kwargs["n"]}
"""


def test_runs_are_carried_over_to_the_new_code(shell):
    shop(shell)
    (shell.folder / "shop_new.py").write_text(NEW + CARRY)
    meant = ("-q", "workflow:order", "--with", "shop_new.py:to_taxed")
    tried = shell("migrate", *meant, "--dry-run", "-o", "json")
    assert (tried.returncode, [one["input"] for one in json.loads(tried.stdout)]) == (
        0,
        [[[], {"n": 0}], [[], {"n": 1}]],
    )
    assert shell("check", "shop_new.py").returncode == 1
    assert shell("migrate", *meant).returncode == 2
    done = shell("migrate", *meant, "--yes")
    assert done.returncode == 0, done.stderr
    assert "order-1  generation 1 of order" in done.stdout
    assert shell("check", "shop_new.py").returncode == 0
    assert "migrated by shop_new:to_taxed" in shell("events", "order-1").stdout
    assert shell("signal", "order-1", "received", "5").returncode == 0
    (shell.folder / "shop.py").write_text(NEW)
    assert shell("resume", "order-1").stdout == "5\n"
    assert shell("migrate", "order-1", "--with", "shop_new.py:to_taxed").returncode == 7
    assert shell("migrate", "order-0", "--with", "shop_new.py:to_texed").returncode == 2
