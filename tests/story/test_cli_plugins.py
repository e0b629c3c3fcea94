"""``reprise plugins``: made, looked at, trusted, used, changed, removed."""

import json
import subprocess
import sys

import pytest


def test_a_new_plugin_works_and_its_test_passes(shell):
    made = shell.inside("plugins", "new", "sun-dial")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [
        f"plugins/sun-dial/{name}"
        for name in ("README.md", "__init__.py", "plugin.json", "tests/test_sun_dial.py")
    ]
    assert "reprise plugins trust sun-dial --dir plugins" in made.stderr
    for folder in ("plugins/sun-dial", "."):
        tested = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
            cwd=shell.folder / folder,
            env=shell.environment | {"PYTHONWARNINGS": "default", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert tested.returncode == 0, tested.stdout + tested.stderr
        assert "3 passed" in tested.stdout
    again = shell.inside("plugins", "new", "sun-dial")
    assert again.returncode == 2
    assert "nothing was changed" in again.stderr


def test_a_new_plugin_may_be_in_a_process_of_its_own(shell):
    shell.inside("plugins", "new", "apart", "--isolation", "process")
    assert json.loads((shell.folder / "plugins/apart/plugin.json").read_text())["isolation"] == "process"
    shell.inside("plugins", "trust", "apart", "--dir", "plugins", "--yes")
    (shell.folder / "reprise.toml").write_text('[plugins]\ndirectories = ["plugins"]\n')
    assert shell("tools", "call", "apart_greet", "name=Ada").stdout == "Hello, Ada!\n"


def test_what_is_in_a_folder_of_the_settings_is_used_once_it_is_trusted(shell):
    shell.inside("plugins", "new", "dial")
    (shell.folder / "reprise.toml").write_text('[plugins]\ndirectories = ["plugins"]\n')
    listed = shell("tools", "list", "tag:dial")
    assert "No tool fits" in listed.stderr
    assert "The plugin dial is untrusted: Nobody trusts it yet." in listed.stderr
    assert "untrusted" in shell.inside("plugins", "list").stdout
    asked = shell("plugins", "trust", "dial")
    assert asked.returncode == 2
    assert "Its tools may: nothing; they are called in our process, with your rights." in asked.stderr
    assert "say --yes" in asked.stderr
    assert "dial 0.1.0 is trusted." in shell.inside("plugins", "trust", "dial", "--yes").stderr
    assert "is trusted as it is" in shell.inside("plugins", "trust", "dial").stderr
    assert shell("tools", "call", "dial_greet", "name=Ada").stdout == "Hello, Ada!\n"
    row = json.loads(shell.inside("plugins", "list", "-o", "json").stdout)[0]
    assert (row["name"], row["status"], row["permissions"]) == ("dial", "trusted", [])

    manifest = shell.folder / "plugins/dial/plugin.json"
    manifest.write_text(manifest.read_text().replace('"permissions": []', '"permissions": ["network"]'))
    listed = shell.inside("plugins", "list").stdout
    assert "network" in listed
    assert "plugin.json changed" in listed
    assert "No tool fits" in shell("tools", "list", "tag:dial").stderr

    assert "is not trusted any more." in shell.inside("plugins", "remove", "dial").stderr
    assert manifest.exists(), "it is the user's own folder"
    removed = shell.inside("plugins", "remove", "dial", "--files")
    assert (removed.returncode, manifest.exists()) == (2, True)
    removed = shell.inside("plugins", "remove", "dial", "--files", "--yes")
    assert removed.returncode == 0
    assert not manifest.parent.exists()


def test_a_copy_is_made_and_taken_away_again(shell):
    shell.inside("plugins", "new", "dial", "--dir", "elsewhere")
    named = shell.inside("plugins", "install", "elsewhere/dial", "--yes")
    assert named.returncode == 2
    assert "--dir DIR" in named.stderr
    here = ("--dir", "mine")
    asked = shell.inside("plugins", "install", "elsewhere/dial", *here)
    assert (asked.returncode, (shell.folder / "mine").exists()) == (2, False)
    installed = shell.inside("plugins", "install", "elsewhere/dial", *here, "--yes")
    assert installed.stdout == "mine/dial\n"
    assert "trusted" in shell.inside("plugins", "list", *here).stdout
    again = shell.inside("plugins", "install", "elsewhere/dial", *here, "--yes")
    assert "mine/dial exists" in again.stderr
    assert "is deleted" in shell.inside("plugins", "remove", "dial", *here).stderr
    assert not list((shell.folder / "mine").iterdir())
    assert (shell.folder / "elsewhere/dial/plugin.json").exists()


def test_a_copy_that_was_changed_is_left(shell):
    shell.inside("plugins", "new", "dial", "--dir", "elsewhere")
    shell.inside("plugins", "install", "elsewhere/dial", "--dir", "mine", "--yes")
    (shell.folder / "mine/dial/notes.txt").write_text("mine")
    assert "is not trusted any more." in shell.inside("plugins", "remove", "dial", "--dir", "mine").stderr
    assert (shell.folder / "mine/dial/notes.txt").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("new", "Sun Dial"), "is no name of a plugin"),
        (("new", "../x"), "is no name of a plugin"),
        (("new", "reprise-x"), "is reserved"),
        (("new", "x", "--isolation", "docker"), "direct or process"),
        (("trust", "dail", "--dir", "there"), "Did you mean 'dial'?"),
        (("remove", "dail", "--dir", "there"), "Did you mean 'dial'?"),
        (("trust", "broken", "--dir", "there"), "permisions"),
        (("install", "nowhere", "--dir", "there"), "cannot be read"),
        (("install", "there", "--dir", "there"), "has no plugin.json"),
    ],
)
def test_what_is_wrong_is_said(shell, words, says):
    shell.inside("plugins", "new", "dial", "--dir", "there")
    broken = shell.folder / "there" / "broken"
    broken.mkdir()
    (broken / "plugin.json").write_text(
        '{"name": "broken", "version": "1", "api_version": "1", "permisions": []}'
    )
    told = shell.inside("plugins", *words)
    assert told.returncode == 2
    assert says in told.stderr


def test_nothing_is_there(shell):
    assert "No plugin in installed packages" in shell.inside("plugins", "list").stderr
    assert "No plugin in gone" in shell.inside("plugins", "list", "--dir", "gone").stderr
