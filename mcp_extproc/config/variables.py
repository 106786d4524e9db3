"""``${VAR}`` and ``${VAR:-default}`` in values, replaced from the environment after the file was parsed.

Parsing comes first, so that a value with ``: ``, ``#`` or a quote can't change the file's structure. The replacement is not
expanded again: a variable may contain ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcp_extproc.config.config_error import Problem, field

_OF_EDITORS = frozenset({"workspaceFolder", "workspaceFolderBasename", "userHome", "pathSeparator", "/"})

# Between the braces: a POSIX name, optionally with the prefix "env:" (Cursor, VS Code) and a default.
_EXPRESSION = re.compile(r"(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def substitute(
    value: Any, environ: Mapping[str, str], problems: list[Problem], path: tuple[str | int, ...] = ()
) -> Any:
    """A copy of parsed data with the variables in its text values replaced. Keys and other types stay as they are. All text
    is checked to be Unicode, which escapes in JSON and YAML, and the environment, need not be.

    Args:
        value: dicts, lists and scalars, of bounded depth.
        environ: the environment.
        problems: receives one problem for each variable that can't be replaced and each text that is not Unicode, with the
            names of the variable and the field, without values. The text then stays as it is.
        path: path of `value` in the file.
    """
    if isinstance(value, str):
        text = _replaced(value, environ, problems, path)
        if not _is_unicode(text):
            problems.append(Problem(_NOT_UNICODE, field(path)))
        return text
    if isinstance(value, dict):
        problems += [
            Problem("the key is not valid Unicode", field((*path, key))) for key in value if not _is_unicode(key)
        ]
        return {key: substitute(item, environ, problems, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, environ, problems, (*path, index)) for index, item in enumerate(value)]
    return value


def names_in(value: Any) -> Iterator[str]:
    """The names of the variables that :func:`substitute` looks up in such data."""
    if isinstance(value, str):
        expressions = (_EXPRESSION.fullmatch(part.partition("}")[0]) for part in value.split("${")[1:])
        yield from (match["name"] for match in expressions if match is not None)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from names_in(item)


def literal_text(text: str) -> str:
    """Text in which :func:`substitute` replaces nothing, so that it gives this one."""
    return text.replace("${", f"${{{_NEVER_SET}:-$}}{{") if "${" in text else text


def literal(value: Any) -> Any:
    """The same for parsed data."""
    if isinstance(value, str):
        return literal_text(value)
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    return [literal(item) for item in value] if isinstance(value, list) else value


_NEVER_SET = "MCP_EXTPROC_DOLLAR"
"""A variable that nobody sets, with a default: a dollar that no brace follows."""

_NOT_UNICODE = "expected text that is valid Unicode"


def _is_unicode(text: str) -> bool:
    """Whether there are no lone surrogates, which can't be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _replaced(text: str, environ: Mapping[str, str], problems: list[Problem], path: Sequence[str | int]) -> str:
    pieces: list[str] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        end = text.find("}", start)
        # Text between the braces may be part of a secret: only the names of variables are repeated in errors.
        expression = text[start + 2 : end] if end >= 0 else ""
        try:
            pieces += text[position:start], _looked_up(expression, environ)
        except ValueError as error:
            problems.append(Problem(str(error), field(path)))
            return text
        position = end + 1
    return "".join([*pieces, text[position:]])


def _looked_up(expression: str, environ: Mapping[str, str]) -> str:
    if expression.startswith("input:"):
        raise ValueError(
            "${input:...} is a prompt, and the gateway can't prompt: use ${VAR} and set it in the environment"
        )
    if expression in _OF_EDITORS:
        raise ValueError(
            f"${{{expression}}} is known in the mcp.json of Cursor (in .cursor) and VS Code (in .vscode) only: write the path"
        )
    match = _EXPRESSION.fullmatch(expression)
    if match is None or "${" in (match["default"] or ""):
        raise ValueError(
            "expected ${VAR}, ${VAR:-default} or ${env:VAR} where a value contains ${ (defaults do not nest)"
        )
    name, default = match["name"], match["default"]
    found = environ.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise ValueError(
            f"the environment variable {name} is not set: set it, or give a default with ${{{name}:-default}}"
        )
    return found
