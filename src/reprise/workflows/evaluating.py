"""Expressions evaluated for what they may cost, which is counted: the same in every replay, on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from reprise.kernel.errors import nearest
from reprise.workflows.comprehensions import Macro, Part, Wanted
from reprise.workflows.scanning import Place, path_text

COST = 5_000_000
"""What one expression may cost: a second's worth, more or less; of an item with a rule it is twenty."""
_STEP = 12
_VALUE = 4
"""What a value costs that is given to the library or comes from it."""
_COMPILED = 5
"""What a letter of a regular expression costs, beside the text that it is looked for in."""
_TEXT = 6
"""64 characters cost what another value costs."""
_PLAIN = frozenset({int, float, bool, type(None)})
FAULTS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What the library raises."""


class NotThere(LookupError):
    """A path that leads nowhere: what it has not, and what may be meant."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


class Unfit(TypeError):
    """What a comprehension was given, or its rule, is of the wrong kind."""


class CostsTooMuch(Exception):
    """More is asked for than an expression may cost."""


def taken(wanted: Wanted, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return of what is known what is read: the library copies all that it is given."""
    found: dict[str, Any] = {}
    for name, under in wanted.items():
        if name in known:
            value = found[name] = known[name]
            if type(under) is not int and isinstance(value, Mapping):
                found[name] = taken(under, cast("Mapping[str, Any]", value))
    return found


def follow(path: Place, variables: Mapping[str, Any]) -> Any:
    """Return what is there. Raises :class:`NotThere`."""
    value: Any = variables
    for place, part in enumerate(path):
        try:
            fits = isinstance(value, list | tuple) if isinstance(part, int) else isinstance(value, Mapping)
            if not fits:
                raise TypeError
            value = value[part]
        except (LookupError, TypeError):
            known = list(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else []
            near = nearest(str(part), (str(name) for name in known[:1000]))
            what = path_text(path[:place]) or "what is known"
            raise NotThere(f"{what} has no {part!r}", f"Did you mean {near!r}?" if near else "") from None
    return value


class Evaluation:
    """One evaluation, and what is left of what it may cost."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = COST

    def value(self, part: Part, variables: Mapping[str, Any]) -> Any:
        """Return what a part gives. Raises :class:`CostsTooMuch`, and :data:`FAULTS`."""
        if part.path is not None:
            if not part.macros:
                return follow(part.path, variables)
            [macro] = part.macros.values()
            value = self._comprehension(macro, variables)
            return follow((macro.kind, *part.path[1:]), {macro.kind: value})
        known = taken(part.wanted, variables)
        self._spend(_base(part) + _rate(part) * _weight(part.wanted, known, self._left))
        return self._done(part, known, variables)

    def _done(self, part: Part, known: dict[str, Any], variables: Mapping[str, Any]) -> Any:
        value: Any = self._in_context(part, known, variables) if part.macros else part.program.execute(known)
        if type(value) not in _PLAIN:
            self._spend(_VALUE * _values(value, self._left))
        return value

    def _in_context(self, part: Part, known: dict[str, Any], variables: Mapping[str, Any]) -> Any:
        from cel import Context  # noqa: PLC0415 - loaded already

        context = Context(known)
        failed: dict[str, Exception] = {}
        made: dict[str, Any] = {}

        def resolve(name: str) -> Any:
            """Evaluate a comprehension where it is needed: behind ``&&``, it may not be."""
            if name in part.macros and name not in made and name not in failed and self._left >= 0:
                try:
                    made[name] = self._comprehension(part.macros[name], variables)
                except (*FAULTS, CostsTooMuch) as error:
                    failed[name] = error  # what the library does not know may not matter: error || true
            return made.get(name)

        context.set_variable_resolver(resolve)
        try:
            value = part.program.execute(context)
        except FAULTS:
            for error in failed.values():
                raise error from None
            raise
        if self._left < 0:
            raise CostsTooMuch
        return value

    def _comprehension(self, macro: Macro, variables: Mapping[str, Any]) -> Any:
        items = self.value(macro.over, variables)
        if macro.kind == "size":
            return _size(items)
        if not isinstance(items, list | tuple | Mapping):
            raise Unfit(f"{macro.kind}() goes through a list or an object, not {items!r:.60}")
        items = list(cast("list[Any]", items))
        self._spend(_values(items, self._left) // 2)  # they are looked at, and may be in what is given often
        if macro.kind == "map":
            return self._mapped(macro, items, variables)
        held = self._held(macro, macro.rules[0], items, variables)
        if macro.kind == "all":
            return all(held)
        if macro.kind == "exists":
            return any(held)
        if macro.kind == "exists_one":
            return sum(held) == 1
        return [item for item, holds in zip(items, held, strict=True) if holds]

    def _mapped(self, macro: Macro, items: list[Any], variables: Mapping[str, Any]) -> list[Any]:
        *conditions, body = macro.rules
        for condition in conditions:
            held = self._held(macro, condition, items, variables)
            items = [item for item, holds in zip(items, held, strict=True) if holds]
        return list(self._each(macro, body, items, variables))

    def _held(
        self, macro: Macro, rule: Part, items: list[Any], variables: Mapping[str, Any]
    ) -> Iterator[bool]:
        for value in self._each(macro, rule, items, variables):
            if not isinstance(value, bool):
                raise Unfit(f"the rule of {macro.kind}() gives {value!r:.60}, not true or false")
            yield value

    def _each(
        self, macro: Macro, rule: Part, items: list[Any], variables: Mapping[str, Any]
    ) -> Iterator[Any]:
        """Yield what a rule gives for each item; what it reads beside the item is looked at once."""
        within = {**variables}
        fixed = {name: under for name, under in rule.wanted.items() if name != macro.name}
        of_item = {name: under for name, under in rule.wanted.items() if name == macro.name}
        known, rate = taken(fixed, variables), _rate(rule)
        price = _base(rule) + rate * _weight(fixed, known, self._left)
        for item in items:
            within[macro.name] = item
            if rule.path is not None:
                value = self.value(rule, within)
                self._spend(1 + _values(value, self._left))
                yield value
                continue
            read = taken(of_item, within)
            self._spend(price + rate * _weight(of_item, read, self._left))
            yield self._done(rule, {**known, **read}, within)

    def _spend(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise CostsTooMuch


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())  # as the library has it
    if not isinstance(value, list | tuple | Mapping | bytes):
        raise Unfit(f"size() is of a list, an object or a text, not {value!r:.60}")
    return len(cast("list[Any]", value))


def _base(part: Part) -> int:
    """Return what a part costs, whatever it reads."""
    return _STEP + part.steps + part.pattern * _COMPILED


def _rate(part: Part) -> int:
    """Return what each value costs that it reads: it may be copied, and patterns be looked for in it."""
    return _VALUE * part.copies + 2 * part.pattern


def _weight(wanted: Wanted, known: Mapping[str, Any], most: int) -> int:
    """Return how many values are read, each as often as it is, until they are too many."""
    weight = 0
    for name, under in wanted.items():
        if name in known:
            value = known[name]
            if type(under) is int:
                weight += under * _values(value, most)
            elif isinstance(value, Mapping):
                weight += _weight(under, cast("Mapping[str, Any]", value), most)
            else:
                weight += _values(value, most)
    return weight


def _values(value: Any, most: int) -> int:
    count = 0
    waiting = [value]
    while waiting and count <= most:
        each = waiting.pop()
        count += 1
        if type(each) in _PLAIN:
            continue
        if isinstance(each, str | bytes):
            count += len(each) >> _TEXT
        elif isinstance(each, Mapping):
            held = cast("Mapping[str, Any]", each)
            waiting.extend(held)
            waiting.extend(held.values())
        elif isinstance(each, list | tuple):
            waiting.extend(cast("list[Any]", each))
    return count
