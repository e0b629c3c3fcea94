"""``reprise init``: each template is a project that runs and whose test passes, and nothing is ever overwritten."""

import subprocess
import sys
import tomllib

import pytest

from reprise.cli.init import FIRST, Template


@pytest.mark.parametrize("template", list(Template))
def test_a_project_runs_and_its_test_passes(shell, template):
    made = shell.inside("init", "My Shop", "-t", template)
    assert made.returncode == 0, made.stderr
    folder = shell.folder / "My Shop"
    files = {".gitignore", "README.md", "flow.py", "pyproject.toml", "reprise.toml", "test_flow.py"}
    assert {path.name for path in folder.iterdir()} == files
    assert {line.rpartition("/")[2] for line in made.stdout.splitlines()} == files
    assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"] == "my-shop"
    following = made.stderr.split("Next:")[1].strip()
    assert following == f"cd 'My Shop' && {FIRST[template]}"
    command = following.replace("reprise", f"{sys.executable} -m reprise")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() not in ("", "null")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=shell.environment | {"PYTHONWARNINGS": "default", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "passed" in tested.stdout


def test_what_exists_is_named_and_nothing_is_written(shell):
    (shell.folder / "README.md").write_text("mine")
    refused = shell.inside("init")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "README.md, flow.py exist already; nothing was written." in refused.stderr
    assert (shell.folder / "README.md").read_text() == "mine"
    assert not (shell.folder / "reprise.toml").exists()
    made = shell.inside("init", "deep/down")
    assert (made.returncode, "Next:  cd deep/down && reprise run" in made.stderr) == (0, True)
