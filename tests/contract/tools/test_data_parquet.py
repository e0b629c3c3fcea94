"""Parquet that stands for more than it is: refused by its own process, which is ended where it takes too much."""

import base64
import subprocess
import sys

import pytest

from reprise import ToolError
from reprise.kernel.errors import MissingExtra
from reprise.tools.guards import parquet
from reprise.tools.guards.documents import Limits

MAKE = """
import base64, io, polars
made = io.BytesIO()
polars.DataFrame({%s}).write_parquet(made, compression="zstd")
print(base64.b64encode(made.getvalue()).decode())
"""


@pytest.fixture(scope="module", autouse=True)
def _polars() -> None:
    pytest.importorskip("polars", reason="the extra parquet is not installed")


def made(frame: str) -> str:
    """Return a file with a frame; made elsewhere, so that no library is loaded here."""
    done = subprocess.run([sys.executable, "-c", MAKE % frame], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_kilobyte_that_stands_for_gigabytes():
    content = made('"a": ["x" * 100_000] * 1_000')
    assert len(base64.b64decode(content)) < 2_000, "the control: it is small"
    with pytest.raises(ToolError, match="stands for 100,0") as caught:
        parquet.read_parquet(content)
    assert caught.value.code == "too_large"


def test_more_rows_and_columns_than_there_may_be():
    with pytest.raises(ToolError, match="says that it has 200,000 rows"):
        parquet.read_parquet(made('"a": [1] * 200_000'))
    with pytest.raises(ToolError, match="It has 6,000 columns"):
        parquet.read_parquet(made('f"c{n}": [1] for n in range(6_000)'))


def test_what_takes_too_much_memory_or_time_is_ended(monkeypatch):
    content = made('"a": ["x" * 100_000] * 3_000')
    monkeypatch.setattr(parquet, "MEMORY", 1 << 28)
    with pytest.raises(ToolError) as caught:
        parquet.read_parquet(content, Limits(characters=1 << 40))
    assert caught.value.code == "too_large"
    monkeypatch.setattr(parquet, "SECONDS", 0.01)
    with pytest.raises(ToolError, match=r"within 0\.01 s"):
        parquet.read_parquet(content)


@pytest.mark.parametrize(
    "content", ["", "!", "AAAA", base64.b64encode(b"PAR1" + b"\xff" * 64 + b"PAR1").decode()]
)
def test_what_is_no_parquet(content):
    with pytest.raises(ToolError, match="This is no Parquet") as caught:
        parquet.read_parquet(content)
    assert caught.value.code in ("invalid_input", "too_large")


def test_cut_at_any_byte_it_is_none():
    whole = base64.b64decode(made('"a": [1, 2], "b": ["x", None]'))
    assert parquet.read_parquet(base64.b64encode(whole).decode()) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    for at in (1, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ToolError, match="This is no Parquet"):
            parquet.read_parquet(base64.b64encode(whole[:at]).decode())


def test_what_comes_of_values_that_json_has_not():
    frame = (
        '"d": [__import__("datetime").date(2026, 11, 22)], "b": [b"hi"], "n": [__import__("decimal").Decimal("1.10")], '
        '"s": [__import__("datetime").timedelta(seconds=90)]'
    )
    assert parquet.read_parquet(made(frame)) == [{"d": "2026-11-22", "b": "aGk=", "n": "1.10", "s": 90.0}]


def test_without_the_library_the_command_is_said(monkeypatch):
    monkeypatch.setattr(
        parquet, "_CHILD", parquet._CHILD.replace("import polars", "import polars_that_is_not")
    )
    with pytest.raises(MissingExtra, match=r"pip install 'reprise-agents\[parquet\]'"):
        parquet.read_parquet("AAAA")
