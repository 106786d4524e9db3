"""``${VAR}`` and ``${VAR:-default}`` in values, replaced from the environment after the file was parsed.

After, not before: a value that holds ``: ``, ``#`` or a quote can then not change the file's structure. Replaced text is
not looked at again, so a variable may hold ``${`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_extproc.config.config_error import field

# What stands between the braces: a name (POSIX), "env:" before it as Cursor and VS Code write it, a default after it.
_EXPRESSION = re.compile(r"(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def substitute(value: Any, environ: Mapping[str, str], problems: list[str], path: tuple[str | int, ...] = ()) -> Any:
    """A copy of parsed data with the variables in its text values replaced. Keys and other types stay as they are.

    Args:
        value: dicts, lists and scalars, of bounded depth.
        environ: the environment.
        problems: receives one sentence per variable that can't be replaced. It names the variable and the field, never a
            value. The text is then left as it was.
        path: where `value` stands in the file.
    """
    if isinstance(value, str):
        return _replaced(value, environ, problems, path)
    if isinstance(value, dict):
        return {key: substitute(item, environ, problems, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, environ, problems, (*path, index)) for index, item in enumerate(value)]
    return value


def _replaced(text: str, environ: Mapping[str, str], problems: list[str], path: Sequence[str | int]) -> str:
    pieces: list[str] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        end = text.find("}", start)
        # What stands between the braces may be part of a secret and is not repeated, unless it is a variable's name.
        expression = text[start + 2 : end] if end >= 0 else ""
        try:
            pieces += text[position:start], _looked_up(expression, environ)
        except ValueError as error:
            problems.append(f"{field(path)}: {error}")
            return text
        position = end + 1
    return "".join([*pieces, text[position:]])


def _looked_up(expression: str, environ: Mapping[str, str]) -> str:
    if expression.startswith("input:"):
        raise ValueError(
            "${input:...} asks a person, and nobody is there to answer: use ${VAR} and set it in the environment"
        )
    match = _EXPRESSION.fullmatch(expression)
    if match is None or "${" in (match["default"] or ""):
        raise ValueError("expected ${VAR}, ${VAR:-default} or ${env:VAR} where a value holds ${ (defaults do not nest)")
    name, default = match["name"], match["default"]
    found = environ.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise ValueError(
            f"the environment variable {name} is not set: set it, or give a default with ${{{name}:-default}}"
        )
    return found
