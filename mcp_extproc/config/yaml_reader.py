"""What reads YAML text: PyYAML, with the rules of :mod:`.yaml_text`."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mcp_extproc.config.bounds import DEPTH, VALUES
from mcp_extproc.config.config_error import ConfigError, quoted
from mcp_extproc.config.config_error import field as field_path
from mcp_extproc.config.yaml_document import YamlDocument

_STR: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"

# PyYAML's messages quote single characters, token names ('<scalar>'), and names, which may be part of a value.
_QUOTE = re.compile(r"""\s*('[^']*'|"[^"]*")""")
_HARMLESS = re.compile(r"""['"](?:\\?.|<[a-z ]+>)['"]""")


_Found = TypeVar("_Found")


def data_in(text: str, name: str) -> Any:
    """As :func:`mcp_extproc.config.yaml_text.parse_yaml`."""
    return _read(text, name, lambda loader: loader.get_single_data())


def documents_in(text: str, name: str) -> list[YamlDocument]:
    """As :func:`mcp_extproc.config.yaml_text.parse_documents`."""
    return _read(text, name, lambda loader: list(loader.documents()))


def _read(text: str, name: str, read: Callable[[_Loader], _Found]) -> _Found:
    try:
        loader = _Loader(text)
        try:
            return read(loader)
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"line {line}: the character U+{_code(error.character):04X} is not allowed in YAML"
    except yaml.MarkedYAMLError as error:
        problem = _explain(error)
    # Outside the except block: the parser's exception contains the text and must not be chained.
    raise ConfigError(name, [problem])


def _code(character: object) -> int:
    return character if isinstance(character, int) else ord(str(character))


def _explain(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    if isinstance(error, _Refused):
        return where + (error.problem or "")
    hint = ""
    if mark is not None and mark.buffer is not None and mark.buffer[mark.pointer : mark.pointer + 1] == "\t":
        hint = " (YAML is indented with spaces, not tabs)"
    begun = f" on line {error.context_mark.line + 1}" if error.context_mark is not None else ""
    context = f"{error.context}{begun}, " if error.context else ""
    sentence = context + (error.problem or "unexpected text")
    shown = _QUOTE.sub(lambda match: match[0] if _HARMLESS.fullmatch(match[1]) else "", sentence)
    return f"{where}not YAML: {shown}{hint}"


class _Refused(yaml.MarkedYAMLError):
    """Accepted by YAML, but not in a configuration. Its `problem` contains no value."""

    def __init__(self, problem: str, node: Node | None = None, mark: Any = None) -> None:
        super().__init__(problem=problem, problem_mark=mark if node is None else node.start_mark)


_DOCUMENT_HINT = ": put a line with --- between two documents"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the rules of this module."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML declares it as the instance's
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0
        self._sizes: dict[int, int] = {}

    def documents(self) -> Iterator[YamlDocument]:
        """Each document that is not empty."""
        while self.check_node():
            node = self.get_node()
            assert node is not None, "there is one"
            data = self.construct_document(node)
            if data is not None:
                yield YamlDocument(data, dict(_lines(node, ())))

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose one node and count it, with its content at each use of an alias."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise _Refused("an alias refers to a node that contains it", mark=mark)
            self._add(self._sizes[id(node)], mark)
            return node
        if self._depth == DEPTH and not self.check_event(yaml.ScalarEvent):
            raise _Refused(f"nested more than {DEPTH} levels deep", mark=mark)
        before = self._count
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._add(1, mark)
        self._sizes[id(node)] = self._count - before
        return node

    def _add(self, values: int, mark: Any) -> None:
        self._count += values
        if self._count > VALUES:
            raise _Refused(f"more than {VALUES} values, counting aliases at each use", mark=mark)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a mapping and check its own keys, before merge keys are resolved."""
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in (_STR, _MERGE):
                raise _Refused("a key is not text: put it in quotes", key)
            if key.value in seen:
                hint = _DOCUMENT_HINT if key.value == "apiVersion" else ""
                raise _Refused(
                    f"the key {quoted(key.value)} is given twice (first on line {seen[key.value]}){hint}", key
                )
            seen[key.value] = key.start_mark.line + 1
        return node


def _lines(node: Node, path: tuple[str | int, ...]) -> Iterator[tuple[str, int]]:
    """The line of each node by its path. Aliases stand for their content, which is bounded."""
    yield field_path(path), node.start_mark.line + 1
    if isinstance(node, MappingNode):
        for key, value in node.value:
            # The key's line: a value may begin below it.
            yield from _lines(value, (*path, key.value))
            yield field_path((*path, key.value)), key.start_mark.line + 1
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*path, index))


def _construct_scalar(kind: type[int | float]) -> Any:
    def construct(loader: _Loader, node: ScalarNode) -> int | float:
        text = str(loader.construct_scalar(node))
        try:
            if kind is int:
                return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            raise _Refused("not a readable number: shorten it, or put it in quotes", node) from None

    return construct


def _construct_bool(loader: _Loader, node: ScalarNode) -> bool:
    text = str(loader.construct_scalar(node)).lower()
    if text not in ("true", "false"):
        raise _Refused("expected true or false", node)
    return text == "true"


def _construct_null(_loader: _Loader, _node: Node) -> None:
    return None


def _construct_map(loader: _Loader, node: Node) -> dict[Hashable, Any]:
    if not isinstance(node, MappingNode):
        raise _Refused("expected a mapping", node)
    return loader.construct_mapping(node, deep=True)


def _construct_seq(loader: _Loader, node: Node) -> list[Any]:
    if not isinstance(node, SequenceNode):
        raise _Refused("expected a list", node)
    return loader.construct_sequence(node, deep=True)


def _construct_str(loader: _Loader, node: ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _refuse_tag(_loader: _Loader, node: Node) -> None:
    raise _Refused("tags are not supported: put a value that begins with ! in quotes", node)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})\\Z"), _first)

for _tag, _construct in (
    ("null", _construct_null), ("bool", _construct_bool), ("int", _construct_scalar(int)),
    ("float", _construct_scalar(float)), ("str", _construct_str), ("seq", _construct_seq), ("map", _construct_map),
):  # fmt: skip
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)
_Loader.add_constructor(None, _refuse_tag)

CORE_RESOLVERS: Final[Mapping[str, Any]] = _Loader.yaml_implicit_resolvers
"""What tells numbers and the like from text, by the first character, as PyYAML has it."""
