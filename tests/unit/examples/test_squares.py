import math

from hypothesis import given, strategies as st

from crew.squares import Box, grow, place, squarify

values = st.lists(st.floats(1, 10_000), min_size=1, max_size=60).map(lambda v: sorted(v, reverse=True))
sides = st.floats(20, 2_000)


@given(values, sides, sides)
def test_areas_are_in_proportion_and_nothing_overlaps(sizes, width, height):
    box = Box(3, 5, width, height)
    laid = squarify(sizes, box)
    scale = width * height / sum(sizes)
    for size, each in zip(sizes, laid, strict=True):
        assert math.isclose(each.width * each.height, size * scale, rel_tol=1e-6)
        assert each.x >= 3 - 1e-6
        assert each.y >= 5 - 1e-6
        assert each.x + each.width <= 3 + width + 1e-6
        assert each.y + each.height <= 5 + height + 1e-6
    for at, one in enumerate(laid):
        for two in laid[at + 1 :]:
            across = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
            down = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
            assert across <= 1e-6 or down <= 1e-6


def test_equal_values_in_a_square_are_squares():
    assert all(math.isclose(box.width, box.height) for box in squarify([1] * 16, Box(0, 0, 100, 100)))


def test_no_room_and_no_value_are_empty_boxes():
    assert squarify([2, 1], Box(0, 0, 0, 5)) == [Box(0, 0, 0, 0)] * 2
    assert squarify([0, 0], Box(0, 0, 5, 5)) == [Box(0, 0, 0, 0)] * 2
    assert squarify([], Box(0, 0, 5, 5)) == []


def test_lone_folders_become_one_and_depth_has_an_end():
    tree = grow({"src/pkg/deep/a.py": 2, "src/pkg/deep/b.py": 1, "/".join("d" * 3000) + "/c.py": 1})
    placed = list(place(tree, Box(0, 0, 300, 200)))
    assert "src/pkg/deep" in [name for name, is_leaf, _ in placed if not is_leaf]
    assert sum(is_leaf for _, is_leaf, _ in placed) == 3
