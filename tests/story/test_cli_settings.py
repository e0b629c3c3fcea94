"""``reprise config show``, ``doctor``: what is in force here, where it comes from, what is wrong and what repairs it."""

import json
import re

SECRET = "do-not-show-me"


def facts(shell, *arguments, **environment):
    done = shell.inside("config", "show", *arguments, "-o", "json", **environment)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return {fact["setting"]: (fact["value"], fact["origin"]) for fact in json.loads(done.stdout)}


def test_each_setting_has_its_value_and_its_origin(shell):
    (shell.folder / "config" / "reprise").mkdir(parents=True)
    (shell.folder / "config" / "reprise" / "config.toml").write_text("[worker]\ngrace = 1\nmax_loaded = 7\n")
    (shell.folder / "pyproject.toml").write_text("[tool.reprise.worker]\ngrace = 2\nconcurrency = 3\n")
    (shell.folder / "reprise.toml").write_text("[worker]\ngrace = 3\n")
    (shell.folder / ".env").write_text("REPRISE_WORKER__BUILD=v1\nREPRISE_WORKER__CONCURRENCY=4\n")
    found = facts(shell, REPRISE_WORKER__BUILD="v2")
    assert found["worker.max_loaded"] == (7, f"{shell.folder}/config/reprise/config.toml")
    assert found["worker.grace"] == (3.0, "reprise.toml")
    assert found["worker.concurrency"] == (4, ".env: $REPRISE_WORKER__CONCURRENCY")
    assert found["worker.build"] == ("v2", "$REPRISE_WORKER__BUILD")
    assert found["worker.accepts"] == (None, "default")
    assert facts(shell, "store", "-s", "sqlite:///flag.db") == {"store.url": ("sqlite:///flag.db", "--store")}
    table = shell.inside("config", "show", "worker.grace", "--origin").stdout.splitlines()
    assert [row.split() for row in table] == [
        ["SETTING", "VALUE", "ORIGIN"],
        ["worker.grace", "3.0", "reprise.toml"],
    ]
    wrong = shell.inside("config", "show", "worker.grase")
    assert (wrong.returncode, "Did you mean 'worker.grace'?" in wrong.stderr) == (2, True)


def test_secrets_are_never_shown(shell):
    (shell.folder / "reprise.toml").write_text(
        f'[payloads]\nkeys = {{ a = "env:{SECRET}" }}\n[redis]\npassword = "{SECRET}"\n'
        f'[services]\nagents = {{ one = "https://me:{SECRET}@host/x" }}\n'
    )
    found = facts(shell, REPRISE_STORE=f"postgresql://me:{SECRET}@host/db", NEO4J_AUTH=f"neo/{SECRET}")
    assert found["store.url"] == ("postgresql://me:***@host/db", "$REPRISE_STORE")
    assert found["redis.password"] == ("***", "reprise.toml")
    assert found["payloads.keys"] == ({"a": "***"}, "reprise.toml")
    assert found["services.agents"][0] == {"one": "https://me:***@host/x"}
    assert found["neo4j.password"] == ("***", "$NEO4J_AUTH")
    table = shell.inside("config", "show", "--origin", REPRISE_STORE=f"postgresql://me:{SECRET}@host/db")
    assert (table.returncode, SECRET in table.stdout + table.stderr) == (0, False)


def test_doctor_says_in_one_line_what_is_wrong_and_the_command_that_repairs_it(shell):
    shell("run", "flow.py:squares", "--id", "s")
    database = shell.folder / ".reprise" / "reprise.db"
    database.chmod(0o644)
    done = shell.inside("doctor", REPRISE_WORKER_CONCURRENCY="3", REPRISE_ANY="1")
    assert done.returncode == 0
    lines = {re.split(r"\s{2,}", line)[1]: line for line in done.stdout.splitlines()}
    assert lines["rights"].endswith("→ chmod 600 .reprise/reprise.db")
    said = [line for line in done.stdout.splitlines() if "environment" in line]
    assert said[0].endswith("REPRISE_ANY is no setting  → unset REPRISE_ANY")
    assert 'export REPRISE_WORKER__CONCURRENCY="$REPRISE_WORKER_CONCURRENCY"' in said[1]
    assert all(("→" in line) == (not line.startswith("✓")) for line in done.stdout.splitlines())
