"""Expressions of playbooks and runbooks: a small, bounded part of Jinja2, evaluated to JSON values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from irflow.core.errors import ConfigurationError
from irflow.core.model import Json

MOST_CHARACTERS = 4000
"""Of the expression's own text."""
MOST_NODES = 200
MOST_KEPT = 1024
"""Texts that a process need not parse again when it reads its files anew."""
MOST_RESULT = 1 << 20
"""Characters of text, or values in lists, that an expression may give."""

# Nothing here multiplies, repeats, calls or loops, so time and memory grow at most as expression times scope.
_NODES = (
    nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr,
    nodes.Filter, nodes.Test, nodes.Concat, nodes.Add, nodes.Sub, nodes.Neg, nodes.Pos,
)  # fmt: skip
_FILTERS = frozenset({
    "abs", "capitalize", "count", "d", "default", "first", "float", "int", "join", "last", "length", "list", "lower",
    "map", "max", "min", "reject", "rejectattr", "round", "select", "selectattr", "sort", "string", "sum", "title",
    "trim", "unique", "upper",
})  # fmt: skip
_ANY_ARGUMENT = frozenset({"d", "default"})
_TESTS = frozenset({
    "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge", "gt", "greaterthan", "in",
    "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none", "number", "odd", "sequence",
    "string", "true", "undefined", "upper", "==", "!=", ">", ">=", "<", "<=",
})  # fmt: skip


class _Environment(ImmutableSandboxedEnvironment):
    """Attributes are keys of JSON objects, never attributes of Python ones."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj[argument]
        try:
            if isinstance(obj, Mapping) and isinstance(argument, str):
                return obj[argument]
            if isinstance(obj, list | tuple | str) and isinstance(argument, int | slice):
                return obj[argument]
        except LookupError:
            pass
        return self.undefined(obj=obj, name=argument)


@dataclass(frozen=True)
class Names:
    """What an expression reads: names, and `(name, attribute)` of those that it looks into."""

    names: frozenset[str]
    attributes: frozenset[tuple[str, str]]
    lone: bool


class SandboxExpressions:
    """core.ports.Expressions."""

    def evaluate(self, text: str, scope: Mapping[str, Json]) -> Json:
        """A lone `{{ expr }}` gives the expression's value; text around expressions gives text; else the text as is.

        Raises ConfigurationError with the expression and what is wrong with it. Values in scope are never evaluated.
        """
        if not _has_markup(text):
            return text
        try:
            value = _compiled(text)(dict(scope))
            return _json(value, [MOST_RESULT])
        except UndefinedError as error:
            raise _wrong(text, str(error.message), _hint(str(error.message), scope)) from None
        except SecurityError as error:
            raise _wrong(text, f"not allowed: {error}") from None
        except (TemplateRuntimeError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise _wrong(text, str(error)) from None

    def names(self, text: str) -> Names:
        """What an expression reads, without evaluating it. Raises ConfigurationError when it does not compile."""
        return _names(text) if _has_markup(text) else Names(frozenset(), frozenset(), False)


@lru_cache(maxsize=MOST_KEPT)
def _names(text: str) -> Names:
    output = _parsed(text)
    names, attributes = set(), set()
    for node in _walk(output):
        if isinstance(node, nodes.Name):
            names.add(node.name)
        elif isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
            attributes.add((node.node.name, node.attr))
    _compiled(text)
    return Names(frozenset(names), frozenset(attributes), _lone(output))


def _parsed(text: str) -> list[nodes.Node]:
    """The parts of a text, checked against what expressions may say."""
    if len(text) > MOST_CHARACTERS:
        raise _wrong(text, f"longer than {MOST_CHARACTERS} characters")
    if "{%" in text or "{#" in text:
        raise _wrong(text, "statements and comments are not allowed", "Only {{ expressions }} are")
    try:
        template = _ENVIRONMENT.parse(text.strip())
    except TemplateSyntaxError as error:
        raise _wrong(text, str(error.message)) from None
    except RecursionError:
        raise _wrong(text, "nested too deeply") from None
    parts = [part for output in template.body for part in output.iter_child_nodes()]
    for number, node in enumerate(_walk(parts)):
        if number >= MOST_NODES:
            raise _wrong(text, f"more than {MOST_NODES} parts")
        _check(node, text)
    return parts


@lru_cache(maxsize=MOST_KEPT)
def _compiled(text: str) -> Callable[[dict[str, Json]], Any]:
    parts = _parsed(text)
    bare = text.strip()
    try:
        if _lone(parts):
            inner = bare.removeprefix("{{").removesuffix("}}").removeprefix("-").removesuffix("-")
            return _ENVIRONMENT.compile_expression(inner, undefined_to_none=False)
        return _ENVIRONMENT.from_string(text).render
    except (TemplateSyntaxError, SyntaxError, RecursionError, MemoryError) as error:
        raise _wrong(text, getattr(error, "message", None) or "cannot be compiled") from None


def _has_markup(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


def _walk(parts: list[nodes.Node]) -> Iterator[nodes.Node]:
    waiting: list[nodes.Node] = list(parts)
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.iter_child_nodes())


def _lone(parts: list[nodes.Node]) -> bool:
    return len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData)


def _check(node: nodes.Node, text: str) -> None:
    if isinstance(node, nodes.TemplateData):
        return
    if isinstance(node, nodes.Name) and node.name in ("self", "loop", "caller", "super"):
        raise _wrong(text, f"the name {node.name!r} is not allowed")
    if not isinstance(node, _NODES):
        raise _wrong(text, f"{_KIND.get(type(node), type(node).__name__)} are not allowed")
    if isinstance(node, nodes.Filter):
        _check_filter(node, text)
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise _wrong(text, f"no test {node.name!r}", f"There are {', '.join(sorted(_TESTS))}")


def _check_filter(node: nodes.Filter, text: str) -> None:
    """Filter arguments are fixed values, because a filter may use one once for every value it works on."""
    if node.name not in _FILTERS:
        raise _wrong(text, f"no filter {node.name!r}", f"There are {', '.join(sorted(_FILTERS))}")
    given = [*node.args, *(pair.value for pair in node.kwargs)]
    fixed = [one.value for one in given if isinstance(one, nodes.Const)]
    if node.dyn_args or node.dyn_kwargs or (len(fixed) < len(given) and node.name not in _ANY_ARGUMENT):
        raise _wrong(text, f"the filter {node.name!r} takes fixed values only")
    if node.name == "map" and (node.args or [pair.key for pair in node.kwargs] != ["attribute"]):
        raise _wrong(text, "the filter 'map' takes attribute='NAME' only")
    place = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}.get(node.name)
    if place is not None and len(fixed) > place and fixed[place] not in _TESTS:
        raise _wrong(text, f"no test {fixed[place]!r}", f"There are {', '.join(sorted(_TESTS))}")


_KIND: dict[type[nodes.Node], str] = {
    nodes.Call: "calls", nodes.Mul: "multiplications", nodes.Pow: "powers", nodes.Div: "divisions",
    nodes.FloorDiv: "divisions", nodes.Mod: "remainders and %-formats",
}  # fmt: skip


def _finalize(value: Any) -> Any:
    """Values inside a longer text: one line of JSON-like text, so that Python's forms never show."""
    if isinstance(value, Undefined):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return value
    raise ValueError("a list or mapping in the middle of a text; write {{ ... | join(', ') }}")


def _json(value: Any, left: list[int]) -> Json:
    """The value as JSON says it; generators become lists. left: what may still come, counted down."""
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    left[0] -= len(value) if isinstance(value, str) else 1
    if left[0] < 0:
        raise ValueError(f"the result is larger than {MOST_RESULT} characters")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("gives a number that is not finite")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(one, left) for key, one in value.items()}
    if isinstance(value, list | tuple | set) or hasattr(value, "__next__"):
        return [_json(one, left) for one in value]
    raise ValueError(f"gives a {type(value).__name__}, which JSON cannot say")


def _hint(message: str, scope: Mapping[str, Json]) -> str:
    wrong = message.split("'")[1] if message.endswith("is undefined") and message.count("'") == 2 else ""
    near = difflib.get_close_matches(wrong, list(scope), n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"There are {', '.join(sorted(scope))}" if wrong else ""


def _wrong(text: str, why: str, hint: str = "") -> ConfigurationError:
    shown = text if len(text) <= 200 else text[:200] + "..."
    return ConfigurationError(f"{shown!r}: {why[:300]}", hint=hint)


_ENVIRONMENT = _Environment(undefined=StrictUndefined, finalize=_finalize, cache_size=0, optimized=False)
_ENVIRONMENT.globals.clear()
