"""Existing YAML or JSON as plain data, and back, preserving every value's spelling.

Envoy's YAML rules differ from PyYAML's: what is a number or a boolean for one may be text for the other. So plain scalars
keep their text (``0600``, ``1e3``, ``yes``), quoted ones their quotes, and neither is interpreted. Comments are lost, and
aliases are expanded.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mcp_extproc.config.config_error import ConfigError, quoted

_MAX_DEPTH = 200
"""Maximum nesting. Envoy's matchers nest deeply, but not by hundreds of levels."""

_MAX_VALUES = 2_000_000
"""Maximum number of values, counting aliases at each use. Bounds the expansion of a small file."""

_STR: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"

# Booleans for yaml-cpp, text for PyYAML.
_BOOLEAN_TO_ENVOY = re.compile(r"[yYnN]")


class Scalar(str):
    """A scalar of a YAML file: its text, and its style for writing it again."""

    __slots__ = ("style", "tag")

    tag: str
    style: str | None


class Mapping(dict[str, Any]):
    """A mapping of a YAML file; ``flow`` is whether it was written in braces."""

    flow: bool | None = None


class Sequence(list[Any]):
    """A list of a YAML file; ``flow`` is whether it was written in brackets."""

    flow: bool | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """Content of a file."""

    data: dict[str, Any]
    write: Callable[[Any], str]
    """Serializes data in the file's own format."""


def read(text: str, name: str) -> Document:
    """Parse a file whose top level is a mapping.

    Args:
        text: YAML or JSON.
        name: of the file, for errors.

    Raises:
        ConfigError: it is neither, not a mapping, has duplicate keys or what Envoy can't read, or exceeds a bound above.
    """
    write = to_json if text.lstrip().startswith("{") else to_yaml
    try:
        data = _from_json(text) if write is to_json else from_yaml(text)
    except json.JSONDecodeError:
        # A mapping in braces may be YAML, too.
        return Document(_mapping(_parsed(from_yaml, text, name), name), to_yaml)
    except _Unusable as error:
        raise ConfigError(name, [str(error)]) from None
    return Document(_mapping(data, name), write)


def _parsed(parse: Callable[[str], Any], text: str, name: str) -> Any:
    try:
        return parse(text)
    except _Unusable as error:
        raise ConfigError(name, [str(error)]) from None


def _mapping(data: Any, name: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(name, ["not an Envoy bootstrap: expected a mapping with static_resources"])
    return data


_TOO_DEEP = f"nested more than {_MAX_DEPTH} levels deep"
_TOO_MANY = f"more than {_MAX_VALUES} values, counting aliases at each use"


class _Unusable(ValueError):
    """``str()`` is the reason why a text can't be parsed."""


# -- JSON -----------------------------------------------------------------------------------------------------------------


def _from_json(text: str) -> Any:
    """Dicts, lists and scalars that :func:`to_json` can write again.

    Raises:
        JSONDecodeError: it is not JSON.
        _Unusable: it is, and can't be used.
    """
    try:
        data = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise _Unusable(_TOO_DEEP) from None
    except (json.JSONDecodeError, _Unusable):
        raise
    except ValueError:  # Python's limit for whole numbers, 4300 digits
        raise _Unusable("a number has too many digits") from None
    _check(data)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise _Unusable(f"the key {quoted(twice)} is given twice in one object")
    return found


def _refuse_constant(constant: str) -> None:
    raise _Unusable(f"{constant} is not a JSON number")


def _check(data: Any) -> None:
    """Level by level, as recursion would need a bound of its own.

    Raises:
        _Unusable: it exceeds a bound, or has a value that JSON accepts and Envoy does not.
    """
    level, depth, values = [data], 0, 0
    while level:
        values += len(level)
        if values > _MAX_VALUES:
            raise _Unusable(_TOO_MANY)
        if depth > _MAX_DEPTH:
            raise _Unusable(_TOO_DEEP)
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
                for key in value:
                    _check_text(key)
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                _check_text(value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise _Unusable("a number is too large")
        level, depth = inner, depth + 1


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unusable("an escape such as \\ud800 stands for half a character: use the whole pair") from None


def to_json(data: Any) -> str:
    """Indented JSON."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


# -- YAML -----------------------------------------------------------------------------------------------------------------


def from_yaml(text: str) -> Any:
    """Mappings, sequences and scalars of one YAML document.

    Raises:
        ValueError: ``str()`` is the problem and its place.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        raise _Unusable(f"a character that is not allowed in YAML, at offset {error.position}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise _Unusable(f"{place}not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise _Unusable(_TOO_DEEP) from None
    if node is None:
        return None
    if _size(node, 0, {}) > _MAX_VALUES:
        raise _Unusable(_TOO_MANY)
    return _Reader().value(node, 0)


def _size(node: Node, depth: int, known: dict[int, int]) -> int:
    """How many values there are with those of aliases. They are counted once, as a small file may unfold to no end."""
    if depth > _MAX_DEPTH:
        raise _Unusable(f"{_place(node)}{_TOO_DEEP}, or an alias of itself")
    size = known.get(id(node))
    if size is None:
        inner: list[Node] = []
        if isinstance(node, MappingNode):
            inner = [value for _, value in node.value]
        elif isinstance(node, SequenceNode):
            inner = node.value
        size = known[id(node)] = 1 + sum(_size(value, depth + 1, known) for value in inner)
    return size


class _Reader:
    def value(self, node: Node, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _Unusable(f"{_place(node)}{_TOO_DEEP}, or an alias of itself")
        if isinstance(node, MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, SequenceNode):
            sequence = Sequence(self.value(item, depth + 1) for item in node.value)
            sequence.flow = node.flow_style
            return sequence
        assert isinstance(node, ScalarNode)
        return _scalar(node)

    def _mapping(self, node: MappingNode, depth: int) -> Mapping:
        mapping = Mapping()
        mapping.flow = node.flow_style
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise _Unusable(f"{_place(key_node)}a key is not text")
            key = _scalar(key_node)
            if key in mapping:
                raise _Unusable(f"{_place(key_node)}the key {quoted(key)} is given twice")
            mapping[key] = self.value(value_node, depth + 1)
        return mapping


_RESOLVER = yaml.resolver.Resolver()


def _scalar(node: ScalarNode) -> Scalar:
    plain = _RESOLVER.resolve(ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    # Quoted scalars are text; the type of plain ones is left to Envoy. Tags are not supported.
    if node.tag != (plain if node.style is None else _STR):
        raise _Unusable(
            f"{_place(node)}tags such as {node.tag.rpartition(':')[2]} are not supported in Envoy's configuration"
        )
    scalar = Scalar(node.value)
    scalar.tag, scalar.style = node.tag, node.style
    return scalar


def _place(node: Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}: "


class _Dumper(yaml.SafeDumper):
    """Writes parsed values unchanged, and new ones so that Envoy parses the same value."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def to_yaml(data: Any) -> str:
    """YAML in block style, in the order of the keys."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=_NEVER_FOLD, allow_unicode=True)


_NEVER_FOLD = 1_000_000


def _write_scalar(_: _Dumper, data: Scalar) -> Node:
    if data.tag == _NULL and not data:
        return ScalarNode(_NULL, "null")  # An empty value can't be written in braces.
    return ScalarNode(data.tag, str(data), style=data.style)


def _write_text(_: _Dumper, data: str) -> Node:
    return ScalarNode(_STR, data, style="'" if _looks_like_more(data) else None)


def _write_number(dumper: _Dumper, data: float) -> Node:
    # Envoy parses `2.0` in YAML as text for a field of any type.
    return dumper.represent_int(int(data)) if data.is_integer() else dumper.represent_float(data)


def _looks_like_more(text: str) -> bool:
    """Whether Envoy's YAML parser would read plain text as a number or a boolean where PyYAML would not."""
    if _BOOLEAN_TO_ENVOY.fullmatch(text):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write_new(dumper: _Dumper, data: dict[str, Any] | list[Any]) -> Node:
    """Collections that fit into a line use flow style."""
    node: MappingNode | SequenceNode = (
        dumper.represent_mapping("tag:yaml.org,2002:map", data.items())
        if isinstance(data, dict)
        else dumper.represent_sequence("tag:yaml.org,2002:seq", data)
    )
    node.flow_style = _room_after(node, _ONE_LINE) >= 0
    return node


_ONE_LINE = 90


def _room_after(node: Node | tuple[Node, Node], room: int) -> int:
    """What is left of a line, negative if it is not enough. No more is looked at than fits."""
    if isinstance(node, ScalarNode):
        return room - 2 - len(node.value)
    if not isinstance(node, tuple):
        room -= 2
    for part in node if isinstance(node, tuple) else node.value:
        if room < 0:
            break
        room = _room_after(part, room)
    return room


def _write_mapping(dumper: _Dumper, data: Mapping) -> Node:
    node = dumper.represent_mapping("tag:yaml.org,2002:map", data.items())
    node.flow_style = bool(data.flow) or not data
    return node


def _write_sequence(dumper: _Dumper, data: Sequence) -> Node:
    node = dumper.represent_sequence("tag:yaml.org,2002:seq", data)
    node.flow_style = bool(data.flow) or not data
    return node


_Dumper.add_representer(Scalar, _write_scalar)
_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(float, _write_number)
_Dumper.add_representer(dict, _write_new)
_Dumper.add_representer(list, _write_new)
_Dumper.add_representer(Mapping, _write_mapping)
_Dumper.add_representer(Sequence, _write_sequence)
