"""``reprise tools from-openapi`` and ``reprise tools diff``: what an API gives, calling it, what changed."""

import http.server
import json
import threading

import pytest
from tests.apis import document, operation, parameter

SPEC = document({
    "/pets": {"get": operation(parameter("limit", schema={"type": "integer"}), operationId="listPets", summary="List pets", tags=["pets"])},
    "/pets/{id}": {"delete": operation(parameter("id", "path"), operationId="removePet", deprecated=True)},
    "/broken": {"get": 7},
})  # fmt: skip


class Pets(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


@pytest.fixture
def pets(shell):
    (shell.folder / "pets.json").write_text(json.dumps(SPEC))
    return shell


def test_tools_of_an_api_are_listed_with_what_could_not_be_used(pets):
    done = pets.inside("tools", "from-openapi", "pets.json", "--prefix", "my_")
    assert "my_list_pets" in done.stdout
    assert "GET /pets" in done.stdout
    assert "my_remove_pet" not in done.stdout
    assert "1 tool, 1 skipped, 0 held, 1 failed" in done.stderr
    assert "failed GET /broken" in done.stderr
    rows = json.loads(pets.inside("tools", "from-openapi", "pets.json", "--deprecated", "-o", "json").stdout)
    assert [row["name"] for row in rows] == ["list_pets", "remove_pet"]
    assert (
        pets.inside("tools", "from-openapi", "pets.json", "-m", "delete", "-o", "json").stdout.strip() == "[]"
    )


def test_a_tool_of_an_api_is_called(pets):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pets) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        called = ("tools", "from-openapi", "pets.json", "--base-url", f"http://{place}/v2")
        done = pets.inside(*called, "--allow", place, "list_pets", "limit=3")
        assert json.loads(done.stdout) == {"asked": "/v2/pets?limit=3"}
        refused = pets.inside(*called, "list_pets")
        assert refused.returncode != 0
        assert "must not be reached" in refused.stderr
        server.shutdown()


def test_what_changed_is_said_and_is_no_success(pets):
    assert "Nothing" in pets.inside("tools", "diff", "pets.json", "pets.json").stderr
    changed = json.loads(json.dumps(SPEC))
    changed["paths"]["/pets"]["get"]["parameters"].append(parameter("kind", required=True))
    changed["paths"]["/new"] = {"get": operation()}
    del changed["paths"]["/pets/{id}"]
    (pets.folder / "new.json").write_text(json.dumps(changed))
    done = pets.inside("tools", "diff", "pets.json", "new.json")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "  get_new: is new (GET /new)",
        "! list_pets: wants kind",
        "! remove_pet: is gone (DELETE /pets/{id})",
    ]
    rows = json.loads(pets.inside("tools", "diff", "pets.json", "new.json", "-o", "json").stdout)
    assert [row["breaking"] for row in rows] == [False, True, True]
