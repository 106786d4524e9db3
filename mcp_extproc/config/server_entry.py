"""One server's entry in mcp-servers.json."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import Problem, field, quoted
from mcp_extproc.config.model import GatewayConfig, Server, server_name_problem
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.values import parse_duration
from mcp_extproc.config.variables import substitute

_STREAMABLE_HTTP: Final = ("http", "streamable-http", "streamable_http", "streamableHttp")

KEYS: Final[Mapping[str, str]] = {
    "type": f"Transport: {', '.join(f'`{alias}`' for alias in _STREAMABLE_HTTP)} mean Streamable HTTP, `sse` "
    "[HTTP+SSE](sse.md), `stdio` a command. Empty or absent: whatever fits the other keys, and with `url` "
    "[what the server speaks](sse.md#without-a-type). Servers with anything else are left out.",
    "url": "The server's endpoint, http or https, path and query included. With `sse`, that of the event stream.",
    "httpUrl": "The same as `url` (Gemini CLI's name for a Streamable HTTP endpoint). Give only one of the four.",
    "serverUrl": "The same as `url` (Windsurf's name).",
    "baseUrl": "The same as `url` (Cherry Studio's name).",
    "command": "Program of a [stdio server](stdio.md), which is started here. Not beside a URL.",
    "args": "Its arguments.",
    "env": "Its environment variables, besides [a few of the gateway's](stdio.md#environment). Texts or numbers; `null` "
    "takes a variable away.",
    "envFile": "File with more variables, `NAME=value` on each line. A relative path starts at this file's folder.",
    "cwd": "Its working directory. A relative path starts at this file's folder. Default: that of the gateway.",
    "sandboxEnabled": "`true` (VS Code) leaves the server out: the gateway has [no sandbox](stdio.md#what-a-child-can-reach), "
    "and does not run without one what asks for it.",
    "headers": "Headers sent to the server with every request.",
    "includeTools": "Exact names of the tools that are offered, without prefix. `*` offers all.",
    "tools": "The same as `includeTools`. If both are given, they are combined.",
    "excludeTools": "Exact names of tools that are never offered. Takes precedence over the other two.",
    "disabledTools": "The same as `excludeTools`. If both are given, they are combined.",
    "timeout": "Idle timeout of a call. A number from 1000 on is in milliseconds, as Claude Code and Gemini CLI write it, a "
    "smaller one in seconds, as Cline and Cherry Studio do. A text may have a unit (`90s`).",
    "disabled": "`true` leaves the server out, with a warning.",
    "enabled": "`false` does the same.",
    "isActive": "`false` does the same.",
}
"""The supported keys, with their meaning."""

CLIENT_KEYS: Final = (
    "alwaysAllow", "description", "headersHelper", "oauth", "trust",
)  # fmt: skip
"""Keys for agents, without meaning for the gateway."""

SWITCHES: Final[Mapping[str, bool]] = {"disabled": True, "enabled": False, "isActive": False}
"""Keys that turn a server off, with the value that does."""

_URLS: Final = ("url", "httpUrl", "serverUrl", "baseUrl")
_OF_COMMANDS: Final = {"env": "env", "envFile": "env_file", "cwd": "cwd"}
"""Keys of commands alone, besides ``args``, with our names."""
_OF_URLS: Final = ("headers",)
"""Keys of servers with a URL alone."""
_TOOLS: Final = {
    "includeTools": "include", "tools": "include", "excludeTools": "exclude", "disabledTools": "exclude",
}  # fmt: skip

_SSE: Final = "sse"

_MILLISECONDS_FROM: Final = 1000
"""A timeout from here on is in milliseconds. Nobody means less than a second, or a quarter of an hour and more in seconds."""

_LISTED: Final = 10
"""Keys that a message names."""

_ALIKE: Final = 0.75
"""How alike keys are (difflib) of which one may be meant for the other: ``arg`` for ``args``, not ``roots`` for ``tools``."""
_OTHER_WORDS: Final = {
    "cmd": "command", "arguments": "args", "environment": "env", "workingdirectory": "cwd", "workdir": "cwd",
    "endpoint": "url", "uri": "url", "transport": "type",
}  # fmt: skip
"""What else people call them, in lower case without hyphens and underscores."""

_NUMBER: Final = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says."""

    server: Server | None
    """``None`` if it can't be served."""
    problems: tuple[Problem, ...] = ()
    """Why not. Their paths begin where the given one does."""
    warnings: tuple[str, ...] = ()
    """About keys without effect."""


def read_entry(path: tuple[str, str], entry: Any, environ: Mapping[str, str]) -> Entry:
    """Read an entry, which is all right or not a server at all.

    Args:
        path: of the entry in the file; its end is the server's name.
        entry: parsed data.
        environ: where variables are looked up.
    """
    if not isinstance(entry, dict):
        return Entry(None, (Problem('expected an object such as {"url": "https://..."}', field(path)),))
    reader = _Reader(path, environ)
    server = reader.read(entry)
    if reader.problems or server is None:
        return Entry(None, tuple(reader.problems))
    return Entry(server, (), tuple(_ignored(path, entry)))


def is_off(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is turned off by a key of its own."""
    return any(entry.get(key) is off for key, off in SWITCHES.items())


def usable_name(name: str, longest: int = 48) -> str:
    """A name's nearest one that a server can have, of at most so many characters; empty if there is none."""
    separator = GatewayConfig.model_fields["separator"].default
    if not server_name_problem(name) and separator not in name and len(name) <= longest:
        return name
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name.replace(separator, "-"))[:longest].strip("-.")


def listed(keys: Iterable[str]) -> str:
    """Keys of a file, for a message."""
    shown = [quoted(key) for key in keys]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")


def native_hint(keys: Iterable[str], section: type[Model]) -> str:
    """What to do with keys that would have an effect in a section of the native format; empty where there are none."""
    native = [key for key in keys if key in section.model_fields]
    return f"; {listed(native)}: only in the native format, which `mcp-extproc convert` writes" if native else ""


class _Reader:
    """One pass over one entry, collecting problems."""

    def __init__(self, path: tuple[str, str], environ: Mapping[str, str]) -> None:
        self.path = path
        self.environ = environ
        self.problems: list[Problem] = []
        self._entry: Mapping[str, Any] = {}

    def read(self, entry: Mapping[str, Any]) -> Server | None:
        self._entry = entry
        for key in SWITCHES:
            if not isinstance(entry.get(key, False), bool):
                self._problem((key,), "expected true or false")
        if (problem := _transport_problem(entry) or _sandbox_problem(entry)) is not None:
            self._problem((), problem)
        if (problem := _name_problem(self.path[1])) is not None:
            self._problem((), problem)
        if self.problems:
            return None
        # Only supported keys: elsewhere, a variable that only an agent sets is not an error.
        honoured = {key: value for key, value in entry.items() if key in KEYS and key not in SWITCHES}
        return self._server(substitute(honoured, self.environ, self.problems, self.path))

    def _problem(self, path: Sequence[str | int], message: str) -> None:
        self.problems.append(Problem(message, field((*self.path, *path))))

    def _missing(self, wanted: str, what_to_do: str) -> None:
        """What makes it a server is not there, or is misspelt."""
        for key in _unknown(self._entry)[:_LISTED]:
            meant = _meant(key, self._entry)
            if meant == "command" or meant in _URLS:
                self._problem((key,), f"unknown key, did you mean {meant}?")
                return
        self._problem((wanted,), f"required, but missing: {what_to_do}")

    def _server(self, values: Mapping[str, Any]) -> Server | None:
        wanted = {"tools": self._tools(values)} | (self._command if _is_command(values) else self._url)(values)
        if values.get("timeout") is not None:
            wanted["timeout"] = self._timeout(values["timeout"])
        if self.problems:
            return None
        try:
            return Server.model_validate(wanted)
        except ValidationError as error:
            self.problems += [
                _as_written(problem, self.path, values) for problem in problems_of(error, Server, self.path)
            ]
        return None

    def _command(self, values: Mapping[str, Any]) -> dict[str, Any]:
        command, args = values.get("command"), values.get("args")
        written = [key for key in _URLS if values.get(key) is not None]
        if written and command is None:
            self._problem(("type",), f"stdio is for a command, and {written[0]} is given: give http, sse or no type")
            return {}
        if written:
            self._problem((), f"command and {written[0]} are given: keep one of them")
        elif values.get("type") in (*_STREAMABLE_HTTP, _SSE):
            self._problem(("type",), "command is given, which is a server of type stdio")
        if command is not None and not isinstance(command, str):
            self._problem(("command",), "expected text, the program's name or path: its arguments belong into args")
        elif not command:
            self._missing("command", "give the program's name or path")
        if args is not None and not (isinstance(args, list) and all(isinstance(word, str) for word in args)):
            self._problem(("args",), "expected a list of texts")
            args = None
        found = {ours: values[key] for key, ours in _OF_COMMANDS.items() if values.get(key) is not None}
        if isinstance(env := found.get("env"), dict):
            found["env"] = {name: _number_text(value) for name, value in env.items()}
        return {**found, "command": [command, *(args or ())]}

    def _url(self, values: Mapping[str, Any]) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        written = [key for key in _URLS if values.get(key) is not None]
        if not written and not values.get("type") and any(values.get(key) for key in ("args", *_OF_COMMANDS)):
            self._missing("command", "give the program's name or path")
        elif not written:
            self._missing("url", "give the server's endpoint")
        elif len(written) > 1:
            self._problem((), f"{' and '.join(written)} are given: keep one of them")
        else:
            wanted |= {"url": values[written[0]], "transport": _transport(values, written[0])}
        if values.get("headers") is not None:
            wanted["headers"] = values["headers"]
        return wanted

    def _tools(self, values: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, list[str]] = {"include": [], "exclude": []}
        for key, side in _TOOLS.items():
            names = values.get(key)
            if names is None:
                continue
            if not isinstance(names, list) or not all(isinstance(tool, str) and tool for tool in names):
                self._problem((key,), "expected a list of tool names")
            elif not names and side == "include":
                # For some agents an empty list means all tools, for others none.
                self._problem((key,), "is empty: name at least one tool, or leave the key out")
            else:
                found[side] += [tool for tool in names if tool not in found[side]]
        if "*" in found["include"]:
            found["include"] = []
        return {side: tools for side, tools in found.items() if tools}

    def _timeout(self, value: Any) -> float | None:
        text = str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
        try:
            if not _NUMBER.fullmatch(text):
                return parse_duration(text)
            number = float(text)
            return parse_duration(number / 1000 if number >= _MILLISECONDS_FROM else number)
        except ValueError:
            self._problem(("timeout",), "expected milliseconds, seconds below 1000, or a duration: 60000, 60 or 60s")
        return None


def _ignored(path: tuple[str, str], entry: Mapping[str, Any]) -> Iterable[str]:
    """Warnings about keys without effect."""
    misplaced = _OF_URLS if _is_command(entry) else ("command", "args", *_OF_COMMANDS)
    if unused := [key for key in misplaced if key in entry]:
        kind = "a command" if _is_command(entry) else "a URL"
        yield f"{field(path)}: keys without effect for a server with {kind}: {listed(unused)}"
    if client := [key for key in CLIENT_KEYS if key in entry]:
        yield f"{field(path)}: keys for agents have no effect here: {listed(client)}"
    if unknown := _unknown(entry):
        meant = [(key, _meant(key, entry)) for key in unknown[:_LISTED]]
        near = ", ".join(f"{known} for {quoted(key)}" for key, known in meant if known is not None)
        hint = (f"; did you mean {near}?" if near else "") + native_hint(unknown, Server)
        yield f"{field(path)}: unknown keys have no effect: {listed(unknown)}{hint}"


def _unknown(entry: Mapping[str, Any]) -> list[str]:
    return [key for key in entry if key not in KEYS and key not in CLIENT_KEYS]


def _meant(key: str, entry: Mapping[str, Any]) -> str | None:
    """The key that an unknown one may be meant for, unless that is given, too."""
    plain = re.sub(r"[-_]", "", key.lower())
    known = {own.lower(): own for own in KEYS} | _OTHER_WORDS
    near = next((known[match] for match in difflib.get_close_matches(plain, known, n=1, cutoff=_ALIKE)), None)
    return None if near is None or near in entry else near


def _transport_problem(entry: Mapping[str, Any]) -> str | None:
    """Why an entry's transport is not supported, or None."""
    kind = entry.get("type")
    if kind is None or kind == "" or kind in ("stdio", _SSE) or kind in _STREAMABLE_HTTP:
        return None
    return f'has an unknown type: expected one of stdio, sse, {", ".join(_STREAMABLE_HTTP)}, or set "disabled": true'


def _sandbox_problem(entry: Mapping[str, Any]) -> str | None:
    if entry.get("sandboxEnabled") in (None, False):
        return None
    return "asks for a sandbox, and the gateway has none: put one into its command, or remove sandboxEnabled"


def _transport(values: Mapping[str, Any], written: str) -> str:
    """Gemini CLI means HTTP+SSE by ``url`` without a type, and Streamable HTTP by ``httpUrl``; others may mean either."""
    if not values.get("type"):
        return "streamable_http" if written == "httpUrl" else "auto"
    return "sse" if values["type"] == _SSE else "streamable_http"


def _is_command(entry: Mapping[str, Any]) -> bool:
    return entry.get("type") == "stdio" or entry.get("command") is not None


def _number_text(value: Any) -> Any:
    """A number as the text that JavaScript makes of it, for a variable."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_written(problem: Problem, path: tuple[str, str], values: Mapping[str, Any]) -> Problem:
    """A problem of the native format, under the key that stands in the file."""
    written = {"url": next((key for key in _URLS if values.get(key) is not None), "url"), "env_file": "envFile"}
    for ours, theirs in written.items():
        if problem.path == field((*path, ours)):
            return replace(problem, path=field((*path, theirs)))
    return problem


def _name_problem(name: str) -> str | None:
    separator = GatewayConfig.model_fields["separator"].default
    problem = server_name_problem(name)
    if problem is None and separator in name:
        problem = f"the name contains {separator}, which separates a server's name from a tool's"
    if problem is None:
        return None
    usable = usable_name(name)
    return f"{problem}: rename the entry" + (f", for example to {usable}" if usable else "")
