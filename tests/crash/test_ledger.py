"""The files by which killed processes say what they did."""

import os

from tests.crash.ledger import open_lines, read_lines, write_line


def test_a_torn_line_hides_no_other(tmp_path):
    """Whoever writes after one that was killed writes whole lines; what is being written is read later."""
    path = tmp_path / "lines"
    assert read_lines(path, int) == ([], 0)
    file = open_lines(path)
    write_line(file, {"n": 1})
    os.write(file, b'\n{"n"')
    write_line(file, {"n": 2})
    whole, offset = read_lines(path, dict[str, int])
    assert whole == [{"n": 1}, {"n": 2}]
    os.write(file, b'\n{"n": 3}')
    assert read_lines(path, dict[str, int], offset)[0] == []
    os.write(file, b"\n")
    assert read_lines(path, dict[str, int], offset)[0] == [{"n": 3}]
    os.close(file)
