"""A call in words that its caller can't forge: on lines of its own, quoted, with everything invisible escaped, and bounded.

Who wrote the arguments is a model, and what it read may come from anybody. So nothing of them begins a line outside quotes, no
character turns text around or hides it, and what is left out is said.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

_MAX_CHARS: Final = 6000
"""Of all values together, so that a single one may be long."""
_LEAST_CHARS: Final = 200
"""Of each, however many there are."""
_MAX_ARGUMENTS: Final = 30
_MAX_NAME_CHARS: Final = 200
_MAX_TOKENS: Final = 20_000
"""Of the arguments' JSON text that are looked at."""

_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}:,]|[^\s\[\]{}:,"]+')

_BLANK: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""What counts as printable, and shows nothing (Unicode, Default_Ignorable_Code_Point, and the blank of Braille)."""

_MAX_MARKS: Final = 2
"""Marks upon one letter. More of them reach into other lines."""

_MAX_SPACES: Final = 4
"""In a row. With more of them, what follows begins a line of its own where long lines are wrapped, or is out of sight."""


def call(server: str, tool: str, arguments: bytes | None) -> str:
    """What the user is asked about.

    Args:
        server: its name.
        tool: the server's own name for it.
        arguments: JSON text, valid; ``None`` where there are none.
    """
    lines = [f"Server: {server}", f"Tool: {_quoted(tool, _MAX_NAME_CHARS)}", *_arguments(arguments)]
    return "\n".join(lines)


class _Argument(NamedTuple):
    name: str
    """Its token, as `value` has some."""
    value: list[str]


def _arguments(raw: bytes | None) -> Iterator[str]:
    text = "{}" if raw is None else raw.decode("utf-8", "replace")
    tokens, is_whole = _tokens(text)
    if tokens[:1] != ["{"]:
        yield f"Arguments: {_value(tokens, _MAX_CHARS)}"
        return
    found = list(_members(tokens[1:]))
    if not found:
        yield "Arguments: none"
        return
    yield "Arguments:"
    most = max(_LEAST_CHARS, _MAX_CHARS // len(found))
    for argument in found[:_MAX_ARGUMENTS]:
        yield f"  {_quoted(_text(argument.name), _MAX_NAME_CHARS)}: {_value(argument.value, most)}"
    if not is_whole:
        yield f"  [cut: more arguments are not shown; {len(text)} characters in all]"
    elif len(found) > _MAX_ARGUMENTS:
        yield f"  [cut: {len(found) - _MAX_ARGUMENTS} more arguments are not shown]"


def _tokens(text: str) -> tuple[list[str], bool]:
    """The text without blanks between tokens, and whether that is all of it."""
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        if len(found) == _MAX_TOKENS:
            return found, False
        found.append(match.group())
    return found, True


def _members(tokens: list[str]) -> Iterator[_Argument]:
    """The members of an object, a name that is there twice included."""
    depth, name, value = 0, "", list[str]()
    for text in tokens:
        if depth == 0 and text in (",", "}"):
            if name:
                yield _Argument(name, value)
            name, value = "", []
        elif depth == 0 and not name:
            name = text
        elif depth == 0 and text == ":" and not value:
            continue
        else:
            depth += (text in ("{", "[")) - (text in ("}", "]"))
            value.append(text)
    if name:
        yield _Argument(name, value)


def _value(tokens: list[str], most: int) -> str:
    """A value on one line, as JSON."""
    shown, length = [], 0
    for token in tokens:
        piece = _quoted(_text(token), most) if token[0] == '"' else token[:most]
        piece += " " if token in (",", ":") else ""
        shown.append(piece)
        length += len(piece)
        if length >= most:
            break
    if len(shown) == len(tokens):
        return "".join(shown)
    return f"{''.join(shown)} [cut: {sum(map(len, tokens))} characters in all]"


def _text(token: str) -> str:
    """What a string says; what it is written as, where it is none that every reader takes."""
    try:
        return str(json.loads(token))
    except ValueError:
        return token[1:-1]


def _quoted(text: str, most: int) -> str:
    """A text in quotes, in which everything shows that it is there."""
    cut = f" [cut: {len(text)} characters in all]" if len(text) > most else ""
    return f'"{"".join(_visible(text[:most]))}"{cut}'


def _visible(text: str) -> Iterator[str]:
    marks = spaces = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        spaces = spaces + 1 if char == " " else 0
        is_bounded = marks <= _MAX_MARKS and spaces <= _MAX_SPACES
        if char.isprintable() and char not in _BLANK and char not in '"\\' and is_bounded:
            yield char
        else:
            yield "\\u0020" if char == " " else json.dumps(char)[1:-1]
