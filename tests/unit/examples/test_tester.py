from crew.facts import CODE, TEST, SourceFile, Traces
from crew.tester import map_tests


def mapped(folder, files):
    """Map files given as path -> (imports, defines)."""
    kinds = [
        SourceFile(
            path, 1, "Python" if path.endswith("py") else "Go", TEST if "test" in path else CODE, "utf-8"
        )
        for path in files
    ]
    traces = [
        Traces(path, imports.split(), defines.split(), []) for path, (imports, defines) in files.items()
    ]
    return map_tests(folder, kinds, traces)


def tied(coverage):
    return {tie.path: tie.tests for tie in coverage.ties}


def test_tests_lead_to_code_by_import_name_and_use():
    coverage = mapped(
        "root",
        {
            "src/pkg/__init__.py": (".shapes .shapes.Square .colours .colours.*", ""),
            "src/pkg/shapes.py": ("pkg.colours", "Square"),
            "src/pkg/colours.py": ("", "Red"),
            "src/pkg/lonely.py": ("..pkg.shapes", "x"),
            "src/pkg/named.py": ("", ""),
            "tests/test_direct.py": ("pkg.lonely.x", ""),
            "tests/test_through.py": ("pkg pkg.Square pkg.Red", ""),
            "tests/test_named.py": ("os sys.path", ""),
            "tests/test_nothing.py": ("json", ""),
        },
    )
    assert tied(coverage) == {
        "src/pkg/__init__.py": ["tests/test_through.py"],
        "src/pkg/colours.py": ["tests/test_through.py"],
        "src/pkg/lonely.py": ["tests/test_direct.py"],
        "src/pkg/named.py": ["tests/test_named.py"],
        "src/pkg/shapes.py": ["tests/test_through.py"],
    }
    assert coverage.adrift == ["tests/test_nothing.py"]
    assert {tie.path: (tie.used_by, tie.uses) for tie in coverage.ties}["src/pkg/shapes.py"] == (2, 1)


def test_a_reviewed_folder_that_is_a_package_goes_by_its_name():
    coverage = mapped(
        "pkg", {"__init__.py": ("", ""), "a.py": ("", ""), "../tests/test_it.py": ("pkg.a", "")}
    )
    assert tied(coverage)["a.py"] == ["../tests/test_it.py"]


def test_of_two_files_with_the_name_the_nearer_is_meant():
    coverage = mapped("r", {"a/queue.go": ("", ""), "b/queue.go": ("", ""), "b/queue_test.go": ("", "")})
    assert tied(coverage) == {"a/queue.go": [], "b/queue.go": ["b/queue_test.go"]}


def test_packages_that_pass_names_in_a_circle_end():
    coverage = mapped(
        "r",
        {
            "p/__init__.py": ("p.q.x", ""),
            "p/q/__init__.py": ("p.x", ""),
            "tests/test_x.py": ("p.x", ""),
        },
    )
    assert coverage.test_files == 1
