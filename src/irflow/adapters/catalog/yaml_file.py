"""YAML files read strictly: bounded, no duplicate keys, and every value knows its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from irflow.core.errors import ConfigurationError, ConfigurationErrors, Location
from irflow.core.model import Json

MOST_BYTES = 4 << 20
"""An inventory of 10,000 hosts needs about 2 MB."""
MOST_DEPTH = 32
MOST_SECOND_TRY = 512 << 10
MOST_VALUES = 400_000
"""Values after aliases are written out, so that a few lines of aliases cannot fill the memory."""

Path_ = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class YamlFile:
    """One file as plain JSON values. lines: line of each key or list item, by its path inside the file."""

    path: Path
    data: Json
    lines: dict[Path_, int] = field(repr=False)

    def at(self, *loc: str | int) -> Location:
        """The place of a value; the nearest known one around it where it is missing.

        Parts that are not keys of the file (pydantic's union tags) are passed over.
        """
        known: Path_ = ()
        for part in loc:
            if (*known, part) in self.lines:
                known = (*known, part)
        return Location(str(self.path), self.lines.get(known, 1))

    def error(self, message: str, *loc: str | int, hint: str = "") -> ConfigurationError:
        """A mistake at a value."""
        return ConfigurationError(message, where=self.at(*loc), hint=hint)


def read_yaml(path: Path) -> YamlFile:
    """Read one file. Raises ConfigurationErrors with all duplicate keys and bad values, each at its line."""
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of a file, bounded. Raises ConfigurationErrors."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigurationErrors([_unreadable(path, error)]) from None
    if len(raw) > MOST_BYTES:
        raise ConfigurationErrors(
            [ConfigurationError(f"larger than {MOST_BYTES >> 20} MiB", where=Location(str(path)))]
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigurationErrors([ConfigurationError("not UTF-8", where=Location(str(path), line))]) from None


def parse_yaml(text: str, path: Path) -> YamlFile:
    """Like read_yaml, for a text that is at hand; path: named in errors."""
    try:
        root = _compose(text, path)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigurationErrors(
            [ConfigurationError(f"not YAML: {problem}", where=Location(str(path), line))]
        ) from None
    except YAMLError as error:
        problem = str(error).splitlines()[0]
        raise ConfigurationErrors([ConfigurationError(f"not YAML: {problem}", where=Location(str(path)))]) from None
    build = _Build(path)
    data = None if root is None else build.value(root, ())
    if build.errors:
        raise ConfigurationErrors(build.errors)
    return YamlFile(path, data, build.lines)


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    hint = "Write one with irflow init" if isinstance(error, FileNotFoundError) else "Look at its permissions"
    return ConfigurationError(f"cannot be read: {error.strerror}", where=Location(str(path)), hint=hint)


def _compose(text: str, path: Path) -> Node | None:
    """The tree of nodes. The C parser is seven times as fast, but refuses `[file:keys/x]` and other sound YAML 1.2,
    so what it refuses is read again by the Python one, unless that would take seconds.
    """
    root: Node | None
    try:
        _bound_depth(YAML(typ="safe"), text, path)
        root = YAML(typ="safe").compose(text)
    except MarkedYAMLError:
        if len(text) > MOST_SECOND_TRY:
            raise
        _bound_depth(YAML(typ="safe", pure=True), text, path)
        root = YAML(typ="safe", pure=True).compose(text)
    return root


def _bound_depth(yaml: YAML, text: str, path: Path) -> None:
    """The composer recurses on the C stack, so depth is bounded on the flat stream of events before it."""
    depth = 0
    for event in yaml.parse(text):
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > MOST_DEPTH + 2:  # stream and document count as well
            where = Location(str(path), event.start_mark.line + 1)
            raise ConfigurationErrors([ConfigurationError(f"nested deeper than {MOST_DEPTH} levels", where=where)])


class _Build:
    """Turns nodes into JSON values, noting lines and collecting mistakes."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[Path_, int] = {}
        self.errors: list[ConfigurationError] = []
        self._path = path
        self._values = 0
        self._inside: set[int] = set()

    def value(self, node: Node, at: Path_) -> Json:
        self._values += 1
        if self._values > MOST_VALUES:
            raise ConfigurationErrors([*self.errors, self._wrong(node, f"more than {MOST_VALUES} values")])
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if id(node) in self._inside:
            self.errors.append(self._wrong(node, "an alias that contains itself"))
            return None
        self._inside.add(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
                return [self._item(one, (*at, number)) for number, one in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
                return dict(self._pairs(node, at))
        finally:
            self._inside.discard(id(node))
        self.errors.append(self._wrong(node, f"the tag {node.tag} is not allowed"))
        return None

    def _item(self, node: Node, at: Path_) -> Json:
        self.lines[at] = node.start_mark.line + 1
        return self.value(node, at)

    def _pairs(self, node: MappingNode, at: Path_) -> Iterator[tuple[str, Json]]:
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag != f"{_TAG}str":
                hint = "Put it in quotes" if isinstance(key, ScalarNode) and key.tag != f"{_TAG}merge" else ""
                shown = repr(key.value) if isinstance(key, ScalarNode) else "this"
                self.errors.append(self._wrong(key, f"{shown} cannot be a key", hint))
                continue
            line = key.start_mark.line + 1
            if key.value in first:
                self.errors.append(
                    self._wrong(key, f"{key.value!r} is here twice, first in line {first[key.value]}", "Remove one")
                )
                continue
            first[key.value] = line
            self.lines[(*at, key.value)] = line
            yield key.value, self.value(value, (*at, key.value))

    def _scalar(self, node: ScalarNode) -> Json:
        kind, text = str(node.tag).removeprefix(_TAG), node.value
        try:
            if kind in ("str", "timestamp"):
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind == "int":
                plain = text.replace("_", "")
                based = plain.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
                return int(plain, 0 if based else 10)
            if kind == "float":
                return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            self.errors.append(self._wrong(node, f"not a number: {text[:40]!r}"))
            return None
        self.errors.append(self._wrong(node, f"the tag {node.tag} is not allowed"))
        return None

    def _wrong(self, node: Node, message: str, hint: str = "") -> ConfigurationError:
        return ConfigurationError(message, where=Location(str(self._path), node.start_mark.line + 1), hint=hint)
