"""Real roots of polynomials: all of them, proved by exact arithmetic.

Descartes' rule says how many positive roots there may be: none where all coefficients have one sign, exactly one where the sign
changes once. Where it changes more often, (0, 1) is halved until each part has no root or one. All of it is done in whole numbers,
so that no root is lost in rounding. Roots above 1 are those below 1 of the reversed polynomial.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

HALVINGS = 60
"""After so many, roots that are not told apart are one that only touches zero."""
_STEPS = 64
_ONE = Fraction(1)


def positive_roots(coefficients: Sequence[int]) -> list[Fraction]:
    """Return the roots above 0, in order, each once and within 2**-64 of itself; the constant is the first coefficient.

    >>> [float(root) for root in positive_roots([6, -5, 1])], positive_roots([1, 0, 1])
    ([2.0, 3.0], [])
    """
    whole = list(coefficients)
    while whole and not whole[-1]:
        whole.pop()
    while whole and not whole[0]:
        whole.pop(0)
    one = [_ONE] if whole and not sum(whole) else []
    return [*_small(whole), *one, *(1 / root for root in reversed(_small(whole[::-1])))]


def real_roots(coefficients: Sequence[int]) -> list[Fraction]:
    """Return all real roots, in order; the constant is the first coefficient.

    >>> [float(root) for root in real_roots([0, -4, 0, 1])]
    [-2.0, 0.0, 2.0]
    """
    mirrored = [-each if at % 2 else each for at, each in enumerate(coefficients)]
    zero = [Fraction(0)] if any(coefficients) and not coefficients[0] else []
    return [*(-root for root in reversed(positive_roots(mirrored))), *zero, *positive_roots(coefficients)]


def sign_changes(numbers: Sequence[float]) -> int:
    """Return how often the sign changes; zeros do not count.

    >>> sign_changes([-100, 0, 230, -132])
    2
    """
    signs = [each > 0 for each in numbers if each]
    return sum(one != other for one, other in pairwise(signs))


def _small(whole: list[int]) -> list[Fraction]:
    """Return the roots between 0 and 1."""
    return [_narrowed(whole, low, high) for low, high in _parts(whole, Fraction(0), _ONE, HALVINGS)]


def _parts(
    whole: list[int], low: Fraction, width: Fraction, left: int
) -> Iterator[tuple[Fraction, Fraction]]:
    """Yield parts of what ``whole`` sees as (0, 1) with one root each; a part without width is a root."""
    count = sign_changes(whole) and sign_changes(_shifted(whole[::-1]))
    if count == 0:
        return
    half = width / 2
    if count == 1:
        yield low, low + width
    elif left == 0:
        yield low + half, low + half
    else:
        last = len(whole) - 1
        first = [each << (last - at) for at, each in enumerate(whole)]
        second = _shifted(first)
        yield from _parts(first, low, half, left - 1)
        if not second[0]:
            yield low + half, low + half
            second = second[next(at for at, each in enumerate(second) if each) :]
        yield from _parts(second, low + half, half, left - 1)


def _shifted(whole: list[int]) -> list[int]:
    """Return the polynomial of x + 1."""
    shifted = list(whole)
    for start in range(len(shifted) - 1):
        for at in range(len(shifted) - 2, start - 1, -1):
            shifted[at] += shifted[at + 1]
    return shifted


def _narrowed(whole: list[int], low: Fraction, high: Fraction) -> Fraction:
    """Return the root of a part; neither of its ends is another one, or it has no width."""
    rising = _sign(whole, high) - _sign(whole, low) > 0
    for _ in range(_STEPS if low < high else 0):
        middle = (low + high) / 2
        sign = _sign(whole, middle)
        if sign == 0:
            return middle
        if (sign > 0) == rising:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _sign(whole: list[int], at: Fraction) -> int:
    total, power = 0, 1
    for each in reversed(whole):
        total = total * at.numerator + each * power
        power *= at.denominator
    return (total > 0) - (total < 0)
