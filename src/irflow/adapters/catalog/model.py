"""From YAML values to models: every mistake at its line, all at once, with a suggestion for a misspelt key."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from irflow.adapters.catalog.yaml_file import YamlFile, read_yaml
from irflow.core.errors import ConfigurationError, ConfigurationErrors

T = TypeVar("T")


def load_yaml(path: Path, model: type[T]) -> T:
    """Read one YAML file as a model. Raises ConfigurationErrors with every mistake at its file:line."""
    return validate(read_yaml(path), model)


def validate(file: YamlFile, model: type[T], data: Any = None, *, under: Sequence[str | int] = ()) -> T:
    """Read a file, or the part `data` that stands at `under` in it, as a model. Raises ConfigurationErrors."""
    value = file.data if data is None and not under else data
    try:
        return TypeAdapter(model).validate_python({} if value is None else value)
    except ValidationError as error:
        mistakes = [_mistake(file, model, one, tuple(under)) for one in _own(error.errors())]
        raise ConfigurationErrors(mistakes) from None


def _own(errors: list[Any]) -> Iterator[Any]:
    """The errors without "too short" for a list that is so only because its items have errors of their own."""
    for one in errors:
        at = one["loc"]
        if one["type"] != "too_short" or not any(len(e["loc"]) > len(at) and e["loc"][: len(at)] == at for e in errors):
            yield one


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """What a misspelt name was probably meant to be, else which names there are."""
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"There are {', '.join(names[:30])}" if names else ""


def _mistake(file: YamlFile, model: type[Any], found: Any, under: tuple[str | int, ...]) -> ConfigurationError:
    loc: tuple[str | int, ...] = tuple(part for part in found["loc"] if part != "[key]")
    what = ".".join(str(part) for part in loc)
    kind, last = found["type"], str(loc[-1]) if loc else ""
    if kind == "extra_forbidden":
        hint = suggestion(last, _keys(model, loc[:-1]))
        return file.error(f"unknown key {last!r}", *under, *loc, hint=hint)
    if kind == "missing":
        return file.error(f"{what!r} is missing", *under, *loc)
    message = str(found["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    hint = ""
    if kind in ("enum", "literal_error") and isinstance(found["input"], str):
        expected = [part.strip(" '") for part in found["ctx"]["expected"].replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(found["input"], expected, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else ""
    return file.error(f"{what}: {message}" if what else message, *under, *loc, hint=hint)


def _keys(annotation: Any, loc: Sequence[str | int]) -> set[str]:
    """The keys that a mapping at `loc` may have, found by walking the model's annotations."""
    kinds = [annotation]
    for part in loc:
        kinds = [inner for kind in kinds for one in _unwrapped(kind) for inner in _inside(one, part)]
    found: set[str] = set()
    for one in [inner for kind in kinds for inner in _unwrapped(kind)]:
        if isinstance(one, type) and issubclass(one, BaseModel):
            found |= {field.alias or name for name, field in one.model_fields.items()}
    return found


def _unwrapped(annotation: Any) -> list[Any]:
    """The members of a union, without Annotated."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _unwrapped(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [one for member in typing.get_args(annotation) for one in _unwrapped(member)]
    return [annotation]


def _inside(annotation: Any, part: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [field.annotation for name, field in annotation.model_fields.items() if part in (name, field.alias)]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None or not arguments:
        return []
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [arguments[1]]
    return [arguments[0]]
