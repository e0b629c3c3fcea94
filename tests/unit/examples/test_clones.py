from hypothesis import given, strategies as st

from crew.clones import SHORTEST, WINDOW, find_clones, fingerprints
from crew.facts import Traces


def traced(path, lines):
    return Traces(path, [], [], fingerprints(lines))


def unlike(name, count):
    return [f"{name} = call_{name}({number})" for number in range(count)]


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(SHORTEST, 40), st.booleans())
def test_every_copy_of_nine_lines_is_found(before, other_before, after, length, noisy):
    copy = unlike("same", length)
    spaced = [f"   {line}  # kept" for line in copy] if noisy else copy
    spaced = [piece for line in copy for piece in (line, "", "# a note")] if noisy else spaced
    left = unlike("left", before) + copy + unlike("more", after)
    right = unlike("right", other_before) + spaced
    found = find_clones([traced("a", left), traced("b", right)])
    assert len(found.clones) == 1
    clone = found.clones[0]
    assert (clone.path, clone.other) == ("a", "b")
    assert before < clone.line <= before + SHORTEST
    assert WINDOW <= clone.lines <= length
    assert set(found.repeated) == {"a", "b"}


def test_unlike_files_and_short_ones_share_nothing():
    files = [
        traced("a", unlike("a", 50)),
        traced("b", unlike("b", 50)),
        traced("c", ["x"] * 3),
        traced("d", []),
    ]
    assert find_clones(files).clones == []


def test_a_copy_in_the_same_file_is_found_and_a_run_of_one_line_is_not():
    lines = unlike("same", 12)
    inside = find_clones([traced("a", [*lines, *unlike("b", 5), *lines])]).clones
    assert [(clone.path, clone.other, clone.other_line - clone.line) for clone in inside] == [("a", "a", 17)]
    assert find_clones([traced("a", ["f()"] * 12)]).clones == []


def test_imports_comments_and_brackets_are_no_copies():
    noise = [f"import a{number}" for number in range(20)] + ["# license"] * 20 + ["}", ")"] * 10
    assert fingerprints(noise) == []
