"""Payloads on the command line: sealed with keys that settings only refer to, bounded, redacted."""

import base64
import json
import os

KEYS = {"2025": os.urandom(32), "2026": os.urandom(32)}
TEXTS = {name: base64.b64encode(key).decode() for name, key in KEYS.items()}

SECRETS = """
from reprise import step, workflow

@step
async def find(name: str) -> str:
    return f"the secret of {name}"

@workflow
async def ask(name: str) -> str:
    return await find(name)

@step
async def leak() -> str:
    raise PermissionError("account hunter2 is closed")

@workflow
async def leaks() -> str:
    return await leak()

@step
async def much(n: int) -> str:
    return "x" * n

@workflow
async def grows(n: int) -> str:
    return await much(n)
"""


def settings(shell, *lines):
    (shell.folder / "reprise.toml").write_text("\n".join(["[payloads]", *lines, ""]))


def everything(shell):
    """Return what lies in the folder of the store."""
    return b"".join(
        path.read_bytes() for path in (shell.folder / ".reprise").rglob("reprise.db*") if path.is_file()
    )


def shown(*done):
    return "".join(each.stdout + each.stderr for each in done)


def test_a_store_is_sealed_and_its_keys_are_rotated(shell):
    (shell.folder / "ask.py").write_text(SECRETS)
    settings(shell, 'keys = { 2025 = "env:APP_KEY" }')
    first = shell("run", "ask.py:ask", "-i", "name=ada", "--id", "one", APP_KEY=TEXTS["2025"])
    assert (first.returncode, first.stdout) == (0, '"the secret of ada"\n'), first.stderr
    assert b"the secret of" not in everything(shell)

    listed = shell.inside("ps", "-o", "json", APP_KEY=TEXTS["2025"])
    assert json.loads(listed.stdout)[0]["status"] == "completed"
    looked = shell.inside("events", "one", APP_KEY=TEXTS["2025"])
    assert "find" in looked.stdout

    file = shell.folder / "keys" / "2026.key"
    file.parent.mkdir()
    file.write_bytes(KEYS["2026"])
    file.chmod(0o600)
    settings(shell, 'keys = { 2025 = "env:APP_KEY", 2026 = "file:keys/2026.key" }')
    (shell.folder / ".env").write_text(f"APP_KEY={TEXTS['2025']}\n")
    second = shell("run", "ask.py:ask", "-i", "name=bob", "--id", "two")
    assert second.stdout == '"the secret of bob"\n', second.stderr
    again = shell("run", "ask.py:ask", "-i", "name=ada", "--id", "one")
    assert again.stdout == '"the secret of ada"\n', "the old key still opens"
    health = shell.inside("doctor")
    assert "KeyRing('2026' seals; '2025' only opens)" in health.stdout
    assert health.returncode == 0, health.stdout
    file.chmod(0o644)
    assert "others may read the key '2026'" in shell.inside("doctor").stdout

    settings(shell, 'keys = { 2026 = "file:keys/2026.key" }')
    lacking = shell.inside("events", "one")
    assert lacking.returncode != 0
    assert "sealed with the key '2025'; the key ring has '2026'" in lacking.stderr
    health = shell.inside("doctor")
    assert health.returncode == 1
    assert "sealed with the key '2025'" in health.stdout
    assert "payloads.keys" in health.stdout
    for text in TEXTS.values():
        assert text not in shown(first, second, again, listed, looked, lacking, health)


def test_keys_do_not_stand_in_settings(shell):
    settings(shell, f'keys = {{ 2026 = "{TEXTS["2026"]}" }}')
    done = [shell.inside("ps"), shell.inside("doctor"), shell.inside("--debug", "ps")]
    assert all(each.returncode for each in done)
    assert "payloads.keys.2026 is not a reference.\nhint: Write env:VARIABLE or file:PATH" in done[0].stderr
    settings(shell, f'keys = "{TEXTS["2026"]}"')
    done += [shell.inside("ps"), shell.inside("--debug", "ps")]
    assert "payloads.keys is a secret" in done[-2].stderr
    assert TEXTS["2026"] not in shown(*done)


def test_what_is_wrong_with_a_key_is_said(shell):
    for line, said in (
        ('keys = { a = "env:NO_SUCH_KEY" }', "payloads.keys.a: the variable NO_SUCH_KEY is not set"),
        ('keys = { a = "file:no.key" }', "no.key cannot be read (No such file or directory)"),
        (
            'keys = { a = "env:SHORT" }',
            "The key 'a' has 3 bytes, not 32.\nhint: Make one: openssl rand -base64 32",
        ),
        ('keys = { a = "env:GARBLED" }', "The key 'a' is not base64"),
        ('keys = { a = "env:APP_KEY" }\nkey = "b"', "The current key 'b' is not among the keys ['a']"),
        ('key = "b"', "payloads.key is 'b', and payloads.keys names no keys"),
    ):
        settings(shell, line)
        done = shell.inside("ps", SHORT="YWJj", GARBLED="!?", APP_KEY=TEXTS["2026"])
        assert done.returncode != 0
        assert said in done.stderr


def test_limit_and_redaction(shell):
    (shell.folder / "ask.py").write_text(SECRETS)
    (shell.folder / "ours.py").write_text("def hide(text):\n    return text.replace('hunter2', '***')\n")
    settings(shell, "limit = 1000", 'redact = "ours:hide"')
    large = shell("run", "ask.py:grows", "-i", "n=1000", "--id", "large")
    assert large.returncode != 0
    assert "The result of step much (:1.much) has 1,002 bytes; payloads may have 1,000" in large.stderr
    assert shell("run", "ask.py:grows", "-i", "n=10").stdout == '"xxxxxxxxxx"\n'
    leaked = shell("run", "ask.py:leaks", "--id", "leaked")
    assert "account *** is closed" in leaked.stderr
    rows = shell.inside("ps", "-o", "json")
    assert "hunter2" not in shown(
        leaked, rows, shell.inside("show", "leaked"), shell.inside("events", "leaked")
    )
    settings(shell, 'redact = "ours:no_such"')
    wrong = shell.inside("ps")
    assert "payloads.redact: 'ours:no_such' cannot be found" in wrong.stderr
