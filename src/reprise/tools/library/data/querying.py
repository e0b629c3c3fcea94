"""JMESPath over nested data, with an account of what it costs: ten letters of it can ask for more than a machine has."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, NamedTuple, NoReturn, TypedDict, cast

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.extras import library
from reprise.tools.guards.documents import LIMITS, checked
from reprise.tools.library.data.rows import BYTES
from reprise.tools.tool import Example, tool

COST = 3_000_000
"""Values and texts that an expression may touch or make."""
_TEXT = 16
"""Characters of a text that cost as much as a value."""


class Queried(TypedDict):
    """What an expression gives."""

    result: Any


_STAFF = {"people": [{"name": "Ada", "age": 36}, {"name": "Bo", "age": 20}, {"name": "Cy", "age": 61}]}


@tool(
    effects="pure",
    tags=["data"],
    extra="data",
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"data": _STAFF, "expression": "people[?age > `30`].{who: name} | sort_by(@, &who)"},
            {"result": [{"who": "Ada"}, {"who": "Cy"}]},
        ),
        Example({"data": _STAFF, "expression": "max_by(people, &age).name"}, {"result": "Cy"}),
        Example({"data": _STAFF, "expression": "people[*].salary"}, {"result": []}),
    ],
)
def data_query(
    data: Annotated[Any, "Anything that is JSON."],
    expression: Annotated[
        str,
        Meta(min_length=1, max_length=2_000),
        "JMESPath: people[?age > `30`].name, length(items), a.b[0].",
    ],
) -> Queried:
    """Take what an expression in JMESPath asks for out of nested data; what is not there is null."""
    language = _language()
    try:
        found = language.parse(expression)
        result = language.interpreter().visit(found.parsed, data)
        checked(result, LIMITS)
    except ToolError as error:
        raise ToolError(error.code, error.what, hint=error.hint, field="$.expression") from None
    except RecursionError:
        raise ToolError(
            "too_large", "The expression, or the data, is nested too deep.", field="$.expression"
        ) from None
    except language.unreadable as error:
        _refuse(_said(error), "Texts stand in 'single quotes', other literals in `backticks`.")
    except (ArithmeticError, TypeError, ValueError) as error:
        _refuse(f"The expression cannot be evaluated: {_said(error)}")
    if callable(getattr(result, "visit", None)):
        _refuse("The expression gives an expression.", "Use & only as an argument: sort_by(@, &age).")
    return {"result": result}


def _refuse(what: str, hint: str = "") -> NoReturn:
    raise ToolError("invalid_input", f"{what.rstrip('.')}.", hint=hint, field="$.expression") from None


def _said(error: Exception) -> str:
    """Return the first line of an error, without the data that some show."""
    text = str(error).partition("\n")[0].rstrip(":")
    return text if len(text) <= 300 else f"{text[:300]}…"


class _Language(NamedTuple):
    parse: Callable[[str], Any]
    interpreter: Callable[[], Any]
    unreadable: type[Exception]


@cache
def _language() -> _Language:
    """Load JMESPath. Raises ``MissingExtra``."""
    parser: Any = library("jmespath.parser", "data")
    exceptions: Any = library("jmespath.exceptions", "data")

    def parse(text: str) -> Any:
        return parser.Parser().parse(text)

    return _Language(parse, _interpreter(_functions()), exceptions.JMESPathError)


def _interpreter(functions: Any) -> Any:
    """Return an interpreter that keeps an account: it pays for each step, and for all that it makes."""
    base: Any = library("jmespath.visitor", "data").TreeInterpreter

    class Interpreter(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.account = _Account()
            self._functions = functions(self.account)

        def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
            self.account.spend(1)
            return base.visit(self, node, *args, **kwargs)

        def visit_multi_select_list(self, node: Any, value: Any) -> Any:
            return self.account.weigh(base.visit_multi_select_list(self, node, value))

        def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
            return self.account.weigh(base.visit_multi_select_dict(self, node, value))

        def visit_comparator(self, node: Any, value: Any) -> Any:
            for child in node["children"]:
                self.account.weigh(self.visit(child, value))
            return base.visit_comparator(self, node, value)

    return Interpreter


def _functions() -> Any:
    """Return the functions, which pay for what they are given and for what they give."""
    base: Any = library("jmespath.functions", "data").Functions

    class Functions(base):
        def __init__(self, account: _Account) -> None:
            self.account = account

        def call_function(self, function_name: str, resolved_args: list[Any]) -> Any:
            for each in resolved_args:
                self.account.count(each)
            if function_name == "join" and len(resolved_args) == 2:
                glue, parts = resolved_args
                if isinstance(glue, str) and isinstance(parts, list):
                    self.account.spend(len(glue) * len(cast("list[Any]", parts)) // _TEXT)
            return self.account.weigh(base.call_function(self, function_name, resolved_args))

    return Functions


class _Account:
    """What is left of an evaluation."""

    def __init__(self) -> None:
        self.left = COST

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise ToolError(
                "too_large", "The expression asks for too much.", hint="Ask for less of the data."
            )

    def count(self, value: Any) -> Any:
        """Pay for the parts of a value."""
        parts: Any = value
        if isinstance(parts, list | dict):
            self.spend(len(cast("list[Any]", parts)))
        elif isinstance(parts, str):
            self.spend(len(parts) // _TEXT)
        return value

    def weigh(self, value: Any) -> Any:
        """Pay for all of a value, each part wherever it stands."""
        heap: list[Any] = [value]
        while heap:
            each = heap.pop()
            self.spend(1)
            self.count(each)
            if isinstance(each, dict):
                parts = cast("dict[str, Any]", each)
                self.spend(sum(map(len, parts)) // _TEXT)
                heap += parts.values()
            elif isinstance(each, list):
                heap += cast("list[Any]", each)
        return value
