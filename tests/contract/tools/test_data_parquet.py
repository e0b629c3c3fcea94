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
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtra) as missing:
        parquet.rows_of('["AAAA", 1, 1, 1]')

    def said(*_: object, **__: object) -> None:  # as the process says it
        raise ToolError("unavailable", missing.value.what, hint=missing.value.hint)

    monkeypatch.setattr(parquet.PROCESSES, "run", said)
    with pytest.raises(
        MissingExtra, match=r"polars is not installed.*pip install 'reprise-agents\[parquet\]'"
    ):
        parquet.read_parquet("AAAA")


# ---------------------------------------------------------------- files that stand for more than they are

LARGE = [
    ("texts", '"a": ["x" * 100_000] * 1_000', 100_000_000),
    ("bytes", '"a": [b"x" * 100_000] * 1_000', 100_000_000),
    ("texts in lists", '"a": [["x" * 1_000] * 1_000] * 100', 100_000_000),
    ("texts in objects", '"a": [{"b": "x" * 100_000}] * 1_000', 100_000_000),
    ("numbers in lists", '"a": [[7] * 100_000] * 100', 80_000_000),
    ("many columns of texts", 'f"c{n}": ["x" * 10_000] * 100 for n in range(100)', 100_000_000),
    (
        "words of a dictionary",
        '"a": polars.Series(["x" * 200_000] * 1_000, dtype=polars.Categorical)',
        200_000_000,
    ),
    (
        "nothing, in lists",
        '"a": polars.repeat(None, 60_000_000, dtype=polars.Boolean, eager=True).implode()',
        400_000_000,
    ),
]
GIVES = """
import base64, io, json, polars, resource, sys
frame = polars.read_parquet(io.BytesIO(base64.b64decode(sys.stdin.read())))
print(len(json.dumps(frame.to_dicts())), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""
ALONE = """
import base64, io, json, polars, resource, sys
frame = polars.read_parquet(io.BytesIO(base64.b64decode(sys.stdin.read())))
size = max(frame.estimated_size(), 8 * sum(each.explode().len() for each in frame if each.dtype == polars.List))
size = max(size, sum(each.cast(polars.String).str.len_bytes().sum() for each in frame if each.dtype == polars.Categorical))
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


@pytest.mark.parametrize(("frame", "size"), [pytest.param(*each[1:], id=each[0]) for each in LARGE])
def test_what_a_small_file_stands_for_is_not_made_here_and_would_be(frame, size):
    content = made(frame)
    assert len(content) < size // 100
    with pytest.raises(ToolError) as caught:
        parquet.read_parquet(content)
    assert caught.value.code == "too_large"
    # The control: the library alone makes it.
    done = subprocess.run(
        [sys.executable, "-c", ALONE], input=content, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        assert int(done.stdout.split()[0]) >= size
    else:
        assert done.returncode < 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory")
def test_control_without_a_limit_memory_is_taken():
    """As much as would be taken of us; within the limit the same reader ends."""
    used: list[int] = []
    for rows in (1_000, 4_000):
        content = made(f'"a": [["x" * 1_000] * 100] * {rows}')
        done = subprocess.run(
            [sys.executable, "-c", GIVES], input=content, capture_output=True, text=True, check=True
        )
        used.append(int(done.stdout.split()[1]))
    assert used[1] - used[0] > 250 << 20
