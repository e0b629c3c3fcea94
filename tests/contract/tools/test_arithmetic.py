"""Arithmetic that was written to do harm: nothing of it gets through, while a naive evaluator falls for all of it.

Both are tried in processes that the system ends: the naive one after 0.02 s of processor time or half a gigabyte, ours after 0.2 s.
What is killed there got through.
"""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from reprise import ToolError
from reprise.tools.guards.arithmetic import BITS, Decimals, Floats, evaluate

ATTACKS = {
    "code": [
        "__import__('os').getpid()", "eval('1+1')", "exec('x=1')", "open('/etc/passwd').read()", "compile('1','','eval')",
        "globals()", "locals()", "vars()", "breakpoint.__class__", "getattr(1, 'real')", "print(1)", "dir()", "id(1)", "type(1)",
        "__builtins__", "__name__", "hash('a')",
    ],
    "attributes": [
        "().__class__", "().__class__.__mro__", "().__class__.__bases__[0].__subclasses__()", "(1).__class__", "sqrt.__self__",
        "sqrt.__class__", "(1).real", "(1.5).hex()", "(255).to_bytes(2, 'big')", "1.0.__class__", "(lambda: 0).__code__",
        "(lambda: 0).__globals__", "[].append", "''.__doc__", "factorial.__module__",
    ],
    "format walks": [
        "'{0.__class__}'.format(1)", "'{0.__class__.__mro__}'.format(1)", "f'{1}'", "f'{().__class__}'", "'%s' % 1",
        "'{:>999999999}'.format(1)", "'%999999999d' % 1", "f'{1:>999999999}'", "'{0!r}'.format(1)", "'a'.format_map({})",
        "'%.999999999f' % 1",
    ],
    "powers": [
        "9**9**9", "9**9**8", "9**9999999", "9**9**9**9", "2**10**9", "(2**9999999)", "10**10**8", "-9**99999999", "7**7**9",
        "(-3)**10**9", "3**3**3**3", "99999**9999999", "pow(9, 9**9)", "1000000**10000000", "2**3**4**5",
    ],
    "products": [
        "(9**999999)*(9**999999)*(9**999999)*(9**999999)", "(7**300000)**30", "(9**400000)*(8**400000)*(7**400000)*(6**400000)*(5**400000)",
        "((9**999)**99)**99", "(2**9999999)//(3**999)", "(9**4000000) % (7**3999999)", "(10**400)*(10**400)", "-(10**200)*(10**200)",
        "(9**9999999)-(9**9999998)", "10**308*1000",
    ],
    "shifts": ["1<<10**9", "1<<10**8", "1<<99999999", "-1<<10**9", "1<<1<<30", "(1<<9999)<<99999999", "1<<2**30", "1>>0<<10**10"],
    "combinatorics": [
        "factorial(10**6)", "factorial(10**5)", "factorial(99999999)", "comb(10**6, 500000)", "comb(10**7, 10**6)", "perm(10**6)",
        "perm(10**6, 10**5)", "perm(10**5, 99999)", "comb(10**300, 9999)", "factorial(factorial(10))", "perm(10**300, 9999)",
        "factorial(171)", "perm(900, 900)",
    ],
    "rounding": [
        "round(1, -10**9)", "round(5, -10**8)", "round(10, -99999999)", "round(123, -10**10)", "round(7, -50000000)",
        "round(1, -(2**31))",
    ],
    "texts": [
        "'a'*10**9", "'a'*10**7", "'ab'*9**9", "b'a'*10**9", "'a'+'b'", "'1'*10**5", "str(9)*10**9", "('a'*99999)*99999", "'a' 'b'", '"x"',
        "'''a'''", "'\\x41'", "repr(1)", "chr(97)*10**9",
    ],
    "containers": [
        "[0]*10**9", "(0,)*10**9", "[1,2,3]", "{1: 2}", "{1, 2}", "[[0]*9999]*9999", "list(range(10**9))", "sum(range(10**9))",
        "tuple(range(10**8))", "(1, 2)", "1, 2", "()", "[*range(10**8)]", "{**{}}",
    ],
    "comprehensions": [
        "[x for x in range(10**9)]", "sum(x for x in range(10**9))", "{x for x in range(10**8)}", "{x: x for x in range(10**8)}",
        "[[y for y in range(9999)] for x in range(9999)]", "max(x*x for x in range(10**8))", "(x for x in range(9))",
        "any(False for _ in iter(int, 1))", "[x:=1]", "(x:=9)",
    ],
    "control": [
        "lambda: 1", "(lambda f: f(f))(lambda f: f(f))", "(lambda: 9**9**9)()", "1 if 1 else 2", "1 and 2", "not 1", "1 or 2", "1 < 2",
        "1 == 1", "1 in [1]", "1 is 1", "None", "True", "...", "~1", "1 & 1", "1 | 1", "1 ^ 1", "(yield)",
    ],
    "depth": [
        "-" * 1_900 + "1", "+" * 1_900 + "1", "+".join(["1"] * 999), "*".join(["1"] * 999), "-" * 999_999 + "1", "1" + "+1" * 99_999,
        "abs(" * 190 + "1" + ")" * 190 + "*1" * 200, "-(" * 199 + "1" + ")" * 199 + "-1" * 9,
    ],
    "no real numbers": [
        "1e999", "-1e999", "1e308*10", "1e308+1e308", "1e999-1e999", "1e999*0", "(-8)**0.5", "(-1)**0.1", "1j", "2+3j", "1j*1j", "inf", "nan",
        "float('inf')", "float('nan')", "complex(1, 2)", "-(1e200*1e200)", "1e200**1",
    ],
    "digits": [
        "9" * 1_000, "-" + "9" * 400, "0x" + "f" * 999, "0b" + "1" * 1_900, "1" * 310, "1_0" * 300, "10**309", "2**1024", "str(10**4299)",
        "int('9' * 4000)", "1" + "0" * 309 + "+1",
    ],
    "notation": ["1if 1else 2", "0_0 or 1", "0x1for x in (1,2)", "\N{FULLWIDTH DIGIT ONE}+1", "\N{FULLWIDTH LATIN SMALL LETTER E}val('1')", "1;1", "1 #", "\\\n1", "1\x0c+1or 0", "\N{MATHEMATICAL BOLD DIGIT ONE}+1"],
}  # fmt: skip
ATTACKS["no real numbers"].remove("1e200**1")  # that one is a number
CASES = [(kind, text) for kind, texts in ATTACKS.items() for text in texts]
HARNESS = """
import json, math, os, resource, signal, sys, warnings
sys.path[:0] = json.loads(sys.argv[2])
from reprise.kernel.errors import ToolError
from reprise.tools.guards.arithmetic import Decimals, Floats, evaluate

warnings.simplefilter("ignore")
KNOWN = {name: getattr(math, name) for name in dir(math) if name[0] != "_"}

def naive(text):
    return eval(text, dict(KNOWN))

def floats(text):
    return evaluate(text, Floats())

def decimals(text):
    return evaluate(text, Decimals(30))

def tried(how, text):
    fork = os.fork()
    if fork == 0:
        code = 3
        try:
            signal.setitimer(signal.ITIMER_PROF, 0.02 if how is naive else 0.2)
            signal.alarm(5)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
            value = how(text)
            code = 0 if type(value) is int and value.bit_length() <= 1023 or isinstance(value, float) and math.isfinite(value) else 1
        except ToolError as error:
            code = 2 if error.code in ("invalid_input", "too_large") else 3
        except (MemoryError, RecursionError):
            code = 1
        except BaseException:
            code = 3
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])

how = {"naive": naive, "floats": floats, "decimals": decimals}[sys.argv[1]]
print(json.dumps([tried(how, text) for text in json.load(sys.stdin)]))
"""
NO_NUMBER, REFUSED, ERROR = 1, 2, 3
"""How it ended; 0 is a number, below 0 it was killed."""


def verdicts(how: str, texts: list[str]) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, how, json.dumps([os.path.abspath("src"), *sys.path])],
        input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=55,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])  # above it stands what an attack printed


def test_there_are_enough_attacks():
    assert len(ATTACKS) >= 8
    assert len(CASES) >= 100
    assert len({text for _, text in CASES}) == len(CASES)


@pytest.mark.parametrize("how", ["floats", "decimals"])
def test_no_attack_gets_through(how):
    ends = verdicts(how, [text for _, text in CASES])
    through = [
        (kind, text[:60], end) for (kind, text), end in zip(CASES, ends, strict=True) if end != REFUSED
    ]
    assert through == []


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_naive_evaluator_falls_for_them(kind):
    """The control: each class does harm without the guard."""
    texts = ATTACKS[kind]
    ends = verdicts("naive", texts)
    harmless = [text[:60] for text, end in zip(texts, ends, strict=True) if end == ERROR]
    assert len(harmless) <= len(texts) // 2, harmless  # the others are refused by Python itself
    if kind in {"powers", "products", "shifts", "combinatorics", "rounding"}:
        assert any(end < 0 or end == NO_NUMBER for end in ends)


WORST = [
    "+".join(["factorial(170)"] * 120),
    "*".join(["9**300", *["1.0000001"] * 150]),
    "lcm(" + ",".join(str(10**15 + n) for n in range(99)) + ")",
    "gcd(" + ",".join(["9" * 300] * 6) + ")",
    "comb(1023, 511)",
    "comb(10**6, 50)",
    "comb(10**307, 1023)",
    "perm(10**307, 1023)",
    "perm(10**6, 51)",
    "exp(" * 60 + "0.0001" + ")" * 60,
    "sqrt(" * 150 + "2" + ")" * 150,
    "sum(" + ",".join(["1.5"] * 490) + ")",
    "mean(" + ",".join(["9"] * 900) + ")",
    "(" * 180 + "1" + ")" * 180,
    "((((2**31)**8)**2)**2) % 7",
    "9**322 // 7**3 % 5**400",
    "round(1.5, 400) + round(10**300, -299)",
    "-" * 190 + "1",
    " " * 1_990 + "1",
    "log(" * 100 + "9**300" + ", 1.5)" * 100,
]


@pytest.mark.parametrize("how", ["floats", "decimals"])
def test_what_is_within_the_limits_takes_no_time(how):
    ends = verdicts(how, WORST)
    assert [text[:40] for text, end in zip(WORST, ends, strict=True) if end < 0] == []


def refusal(text: str, **variables) -> ToolError:
    with pytest.raises(ToolError) as caught:
        evaluate(text, Floats(variables))
    assert caught.value.field == "$.expression"
    return caught.value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2^3", "Write ** for a power"),
        ("5!", "factorial(n)"),
        ("1,000 * 2", "not 1,000"),
        ("sqr(4)", "Did you mean 'sqrt'?"),
        ("widht * 2", "Did you mean 'width'?"),
        ("abs", "Write abs(…)"),
        ("sqrt(1, 2)", "takes 1 argument, not 2"),
        ("log(1, 2, 3)", "takes 1 to 2 arguments, not 3"),
        ("1 / 0", "divides by zero"),
        ("sqrt(-1)", "no value among the real numbers"),
        ("2 3", "cannot be read near character"),
        ("factorial(2.5)", "no whole number"),
        ("'a'", "at character 1. There are no texts"),
        ("f(*x)", "no arithmetic"),
    ],
)
def test_a_mistake_is_said_with_the_way_out(text, says):
    assert says in str(refusal(text, width=2, x=1))


def test_signs_of_schoolbooks_are_read():
    assert evaluate("2×3 ÷ 4 \N{MINUS SIGN} 1", Floats()) == 0.5
    assert evaluate("2 * π", Floats()) == evaluate("tau", Floats())


def test_variables_stand_before_constants_and_within_bounds():
    assert evaluate("e * 2", Floats({"e": 4})) == 8
    assert refusal("x", x=float("nan")).code == "invalid_input"
    assert refusal("x", x=2**BITS).code == "too_large"


numbers = st.integers(0, 50).map(str) | st.floats(0.01, 50).map(lambda each: repr(round(each, 3)))


def combined(inner):
    pair = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner)
    return (
        pair.map(lambda each: f"({each[0]} {each[1]} {each[2]})")
        | st.tuples(inner, st.integers(0, 3)).map(lambda each: f"({each[0]}) ** {each[1]}")
        | inner.map(lambda each: f"-({each})")
        | st.lists(inner, min_size=1, max_size=4).map(lambda each: f"max({', '.join(each)})")
        | inner.map(lambda each: f"abs({each})")
    )


@settings(max_examples=200, deadline=None)
@given(st.recursive(numbers, combined, max_leaves=12))
def test_it_is_what_python_says(text):
    try:
        expected = eval(text, {"max": lambda *of: max(of), "abs": abs})
    except (ZeroDivisionError, OverflowError):
        expected = None
    try:
        found = evaluate(text, Floats())
    except ToolError as error:
        assert expected is None or error.code == "too_large"
        return
    assert found == expected
    assert type(found) is type(expected)


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.integers(-99, 99).map(lambda each: f"({each})"), combined, max_leaves=6))
def test_decimals_agree_with_floats(text):
    try:
        one, other = evaluate(text, Floats()), evaluate(text, Decimals(60))
    except ToolError:
        return
    if "//" not in text and "%" not in text:  # at a jump, a float may lie on the other side
        assert float(other) == pytest.approx(one, rel=1e-6, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text("0123456789.+-*/%() ,eexpsqrtx_", max_size=40))
def test_any_text_is_a_number_or_refused(text):
    for algebra in (Floats(), Decimals(20)):
        try:
            evaluate(text, algebra)
        except ToolError as error:
            assert error.code in ("invalid_input", "too_large")
