"""JSON text to plain data. Errors give the place and never repeat the text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mcp_extproc.config.bounds import DEPTH
from mcp_extproc.config.config_error import ConfigError, Problem, field


def parse_json(text: str, name: str) -> Any:
    """Dicts, lists and scalars from JSON (RFC 8259, no NaN), or from JSON with comments and trailing commas.

    Raises:
        ConfigError: the text is not JSON, contains a duplicate key, or is nested deeper than `DEPTH`.
    """
    data = _parsed(text, name, _read)
    if (problem := _first_problem(data)) is not None:
        raise ConfigError(name, [problem])
    return data


def parse_foreign_json(text: str, name: str) -> Any:
    """JSON that belongs to another program, as that program would read it: of a key that is given twice, the last value
    counts. Nothing is checked, and no error repeats any of it.

    Args:
        text: the whole, which may have comments and trailing commas.
        name: the file's name, for errors.

    Raises:
        ConfigError: the text is not JSON.
    """
    return _parsed(text, name, json.loads)


def part_at(data: Any, path: Sequence[str]) -> Any:
    """What stands at a path of keys, from the outermost; ``None`` if nothing does."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def key_lines(text: str) -> dict[str, int]:
    r"""The line of each key of JSON that was read, by its path as :func:`field` writes it.

    >>> key_lines('{\n "a": [\n  {"b": 1}]}')
    {'a': 2, 'a[0].b': 3}
    """
    lines: dict[str, int] = {}
    path: list[str | int] = []
    """The present key, or index, of each object and list that is open."""
    line, is_key = 1, False
    for match in _MARK.finditer(text):
        mark = match[0]
        if mark in "{[":
            path.append("" if mark == "{" else 0)
            is_key = mark == "{"
        elif mark in "}]":
            path.pop()
        elif mark == ",":
            last = path[-1]
            is_key = isinstance(last, str)
            path[-1] = last if isinstance(last, str) else last + 1
        elif is_key and mark.startswith('"'):
            path[-1] = json.loads(mark)
            lines.setdefault(field(path), line)
            is_key = False
        line += mark.count("\n")
    return lines


_TOO_DEEP = f"nested more than {DEPTH} levels deep"


# Each pattern takes a string as a whole (possessive), even one without an end, so that nothing inside it matches.
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*+"?+|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_MARK = re.compile(r'"(?:[^"\\\n]|\\.)*+"|//[^\n]*|/\*.*?\*/|[{}\[\],\n]', re.DOTALL)
_VALUE_AND_COMMA = re.compile(r'("(?:[^"\\\n]|\\.)*+"?+|[^\s",:\[{])(\s*),(?=\s*[\]}])|"(?:[^"\\\n]|\\.)*+"?+')


def _parsed(text: str, name: str, read: Callable[[str], Any]) -> Any:
    try:
        return _tolerant(text, read)
    except json.JSONDecodeError as error:
        problem = _explain(error)
    except RecursionError:
        problem = _TOO_DEEP
    except ValueError as error:
        problem = str(error) if isinstance(error, _Refused) else "a number has too many digits"
    # Outside the except blocks: the parser's exception contains the text and must not be chained.
    raise ConfigError(name, [problem])


def _tolerant(text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except json.JSONDecodeError:
        plain = _VALUE_AND_COMMA.sub(_without_comma, _STRING_OR_COMMENT.sub(_without_comment, text))
        if plain == text:
            raise
    return read(plain)


def _read(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse_constant)


def _without_comment(match: re.Match[str]) -> str:
    """Blanks, so that the places in errors stay right."""
    found = match[0]
    if found.startswith('"') or (found.startswith("/*") and not found.endswith("*/", 2)):
        return found
    return re.sub(r"[^\n]", " ", found)


def _without_comma(match: re.Match[str]) -> str:
    return match[0] if match[1] is None else f"{match[1]}{match[2]} "


class _Refused(ValueError):
    """Accepted by the JSON parser, but not in a configuration."""


class _Object(dict[str, Any]):
    """A JSON object that records a duplicate key, to be reported once its path is known."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: str | None = None
        if len(self) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            self.twice = next(key for key, count in counts.items() if count > 1)


def _refuse_constant(constant: str) -> None:
    raise _Refused(f"{constant} is not a JSON number")


def _first_problem(data: Any) -> Problem | None:
    """The first duplicate key or excess depth. By levels, because recursion would need a bound of its own."""
    level: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    for _ in range(DEPTH):
        inner: list[tuple[tuple[str | int, ...], Any]] = []
        for path, value in level:
            if isinstance(value, _Object):
                if value.twice is not None:
                    return Problem("is given twice, remove one", field((*path, value.twice)))
                inner += [((*path, key), item) for key, item in value.items()]
            elif isinstance(value, list):
                inner += [((*path, index), item) for index, item in enumerate(value)]
        level = inner
    return Problem(_TOO_DEEP) if any(isinstance(value, dict | list) for _, value in level) else None


def _explain(error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}: "
    rest = error.doc[error.pos :].lstrip()
    if rest.startswith("/*"):
        return where + "a comment without an end: close it with */"
    if rest.startswith(("}", "]")) or "trailing comma" in error.msg:
        return where + "not JSON: a comma or a value is missing or too many before this place"
    return where + f"not JSON: {error.msg[0].lower()}{error.msg[1:]}"
