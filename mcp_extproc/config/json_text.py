"""JSON text to plain data. Errors give the place and never repeat the text."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from mcp_extproc.config.bounds import DEPTH
from mcp_extproc.config.config_error import ConfigError, Problem, field


def parse_json(text: str, name: str) -> Any:
    """Dicts, lists and scalars from JSON (RFC 8259, no comments, no NaN).

    Raises:
        ConfigError: the text is not JSON, contains a duplicate key, or is nested deeper than `DEPTH`.
    """
    problem: Problem | str | None
    try:
        data = json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse_constant)
        problem = _first_problem(data)
    except json.JSONDecodeError as error:
        problem = _explain(text, error)
    except RecursionError:
        problem = _TOO_DEEP
    except ValueError as error:
        problem = str(error) if isinstance(error, _Refused) else "a number has too many digits"
    if problem is None:
        return data
    raise ConfigError(name, [problem])


_TOO_DEEP = f"nested more than {DEPTH} levels deep"


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


def _explain(text: str, error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}: "
    rest = text[error.pos :].lstrip()
    if rest.startswith(("//", "/*")):
        return where + "JSON has no comments: remove what begins with // or /*"
    if rest.startswith(("}", "]")) or "trailing comma" in error.msg:
        return where + "not JSON: a comma or a value is missing or too many before this place"
    return where + f"not JSON: {error.msg[0].lower()}{error.msg[1:]}"
