"""mcp-servers.json, the configuration file of agents: ``{"mcpServers": {"<name>": {...}}}``.

Claude Code, Claude Desktop, Cursor, Windsurf and Gemini CLI write it with small differences; in VS Code's the top-level key
is ``servers``. Every key is either supported, or reported in a warning or an error. None is ignored silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from mcp_extproc.config.config_error import ConfigError, Problem, field, quoted
from mcp_extproc.config.model import GatewayConfig, Server, server_name_problem
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.variables import substitute

_STREAMABLE_HTTP: Final = ("http", "streamable-http", "streamable_http", "streamableHttp")

KEYS: Final[Mapping[str, str]] = {
    "type": f"Transport: {', '.join(f'`{alias}`' for alias in _STREAMABLE_HTTP)} mean Streamable HTTP, `sse` "
    "[HTTP+SSE](sse.md), `stdio` a command. Empty or absent: whatever fits the other keys, and with `url` "
    "[what the server speaks](sse.md#without-a-type). Servers with anything else are left out.",
    "url": "The server's endpoint, http or https, path and query included. With `sse`, that of the event stream.",
    "httpUrl": "The same as `url` (Gemini CLI's name for a Streamable HTTP endpoint). Give only one of the three.",
    "serverUrl": "The same as `url` (Windsurf's name).",
    "command": "Program of a [stdio server](stdio.md), which is started here. Not beside a URL.",
    "args": "Its arguments.",
    "env": "Its environment variables, besides [a few of the gateway's](stdio.md#environment).",
    "envFile": "File with more variables, `NAME=value` on each line. A relative path starts at this file's folder.",
    "cwd": "Its working directory. A relative path starts at this file's folder. Default: that of the gateway.",
    "headers": "Headers sent to the server with every request.",
    "includeTools": "Exact names of the tools that are offered, without prefix. `*` offers all.",
    "tools": "The same as `includeTools`. If both are given, they are combined.",
    "excludeTools": "Exact names of tools that are never offered. Takes precedence over the other two.",
    "disabledTools": "The same as `excludeTools`. If both are given, they are combined.",
    "timeout": "Idle timeout of a call, in milliseconds.",
    "disabled": "`true` leaves the server out, with a warning.",
    "enabled": "`false` does the same.",
    "isActive": "`false` does the same.",
}
"""The supported keys, with their meaning."""

CLIENT_KEYS: Final = (
    "alwaysAllow", "description", "headersHelper", "oauth", "trust",
)  # fmt: skip
"""Keys for agents, without meaning for the gateway."""

_URLS: Final = ("url", "httpUrl", "serverUrl")
_OF_COMMANDS: Final = {"env": "env", "envFile": "env_file", "cwd": "cwd"}
"""Keys of commands alone, besides ``args``, with our names."""
_OF_URLS: Final = ("headers",)
"""Keys of servers with a URL alone."""
_TOOLS: Final = {
    "includeTools": "include", "tools": "include", "excludeTools": "exclude", "disabledTools": "exclude",
}  # fmt: skip
_SWITCHES: Final = {"disabled": True, "enabled": False, "isActive": False}
"""Keys that turn a server off, with the value that does."""

_SSE: Final = "sse"


def table_of(data: Any, *, is_json: bool) -> str | None:
    """The top-level key of the servers in this format, or None if the data is in another format.

    ``servers`` is also a key of the native format. It is VS Code's in a JSON file with no other top-level key than ``inputs``,
    if there are ``inputs`` or an entry has a ``type`` or a command that is text, which native entries never have.
    """
    if not isinstance(data, dict):
        return None
    if "mcpServers" in data:
        return "mcpServers"
    servers = data.get("servers")
    if not is_json or not isinstance(servers, dict) or not data.keys() <= {"servers", "inputs"}:
        return None
    typical = any(
        isinstance(entry, dict) and ("type" in entry or isinstance(entry.get("command"), str))
        for entry in servers.values()
    )
    return "servers" if "inputs" in data or typical else None


class McpServers(NamedTuple):
    """Content of a file."""

    config: GatewayConfig
    warnings: tuple[str, ...]
    """About keys without effect and servers that are left out."""
    left_out: tuple[Problem, ...]
    """Servers that the gateway can't serve, without those that are disabled."""


def read_mcp_servers(data: Mapping[str, Any], table: str, name: str, environ: Mapping[str, str]) -> McpServers:
    """The configuration in parsed data. Servers with another transport than the gateway's are left out.

    Args:
        data: the whole file.
        table: the key returned by `table_of`.
        name: the file's name, for errors.
        environ: where variables are looked up.

    Raises:
        ConfigError: lists all invalid values, or the unsupported entries if there are no others.
    """
    reader = _Reader(table, environ)
    reader.read(data)
    if not reader.problems:
        try:
            config = GatewayConfig(servers=reader.servers)
            return McpServers(config, tuple(reader.warnings), tuple(reader.left_out))
        except ValidationError as error:
            reader.problems = problems_of(error, GatewayConfig)
    raise ConfigError(name, reader.problems)


class _Reader:
    """One pass over one file, collecting servers, warnings and problems."""

    def __init__(self, table: str, environ: Mapping[str, str]) -> None:
        self.table = table
        self.environ = environ
        self.servers: dict[str, Server] = {}
        self.warnings: list[str] = []
        self.problems: list[Problem] = []
        self.left_out: list[Problem] = []

    def read(self, data: Mapping[str, Any]) -> None:
        if "servers" in data and "mcpServers" in data:
            self._problem((), "both mcpServers and servers are given: keep one of them")
            return
        self._name_others(data)
        entries = data[self.table]
        if not isinstance(entries, dict):
            self._problem((self.table,), 'expected an object of servers, such as {"github": {"url": ...}}')
            return
        for name, entry in entries.items():
            self._read_entry(name, entry)
        if not self.servers and not self.problems and self.left_out:
            self.problems = self.left_out
        elif not self.servers and not self.problems:
            what = "every server is disabled: enable" if entries else "there is no server: add"
            self._problem((self.table,), f"{what} at least one")

    def _problem(self, path: Sequence[str | int], message: str) -> None:
        self.problems.append(Problem(message, field(path)))

    def _name_others(self, data: Mapping[str, Any]) -> None:
        if "inputs" in data:
            self.warnings.append("inputs: has no effect, since the gateway can't prompt; use ${VAR} instead")
        if others := [key for key in data if key not in (self.table, "inputs")]:
            self.warnings.append(f"unknown keys beside {self.table} have no effect: {_listed(others)}")

    def _read_entry(self, name: str, entry: Any) -> None:
        path = (self.table, name)
        if not isinstance(entry, dict):
            self._problem(path, 'expected an object such as {"url": "https://..."}')
            return
        if self._is_off(path, entry):
            self.warnings.append(f"{field(path)}: disabled, so it is left out")
            return
        if problem := _transport_problem(entry):
            self.left_out.append(Problem(problem, field(path)))
            self.warnings.append(f"{field(path)}: is left out, as it {problem}")
            return
        if problem := _name_problem(name):
            self._problem(path, problem)
        self._name_ignored(path, entry)
        self._read_server(path, entry)

    def _is_off(self, path: tuple[str, str], entry: Mapping[str, Any]) -> bool:
        for key in _SWITCHES:
            if not isinstance(entry.get(key, False), bool):
                self._problem((*path, key), "expected true or false")
        return is_off(entry)

    def _name_ignored(self, path: tuple[str, str], entry: Mapping[str, Any]) -> None:
        misplaced = _OF_URLS if _is_command(entry) else ("command", "args", *_OF_COMMANDS)
        if unused := [key for key in misplaced if key in entry]:
            kind = "a command" if _is_command(entry) else "a URL"
            self.warnings.append(f"{field(path)}: keys without effect for a server with {kind}: {_listed(unused)}")
        if client := [key for key in CLIENT_KEYS if key in entry]:
            self.warnings.append(f"{field(path)}: keys for agents have no effect here: {_listed(client)}")
        if unknown := [key for key in entry if key not in KEYS and key not in CLIENT_KEYS]:
            self.warnings.append(f"{field(path)}: unknown keys have no effect: {_listed(unknown)}")

    def _read_server(self, path: tuple[str, str], entry: Mapping[str, Any]) -> None:
        # Only supported keys: elsewhere, a variable that only an agent sets is not an error.
        before = len(self.problems)
        honoured = {key: value for key, value in entry.items() if key in KEYS and key not in _SWITCHES}
        values = substitute(honoured, self.environ, self.problems, path)
        wanted: dict[str, Any] = {"tools": self._tools(path, values)}
        if _is_command(entry):
            wanted |= self._command(path, values)
        else:
            wanted |= self._url(path, values)
        if values.get("timeout") is not None:
            wanted["timeout"] = self._seconds(path, values["timeout"])
        if len(self.problems) > before:
            return
        try:
            self.servers[path[1]] = Server.model_validate(wanted)
        except ValidationError as error:
            self.problems += [_as_written(problem, path, values) for problem in problems_of(error, Server, path)]

    def _command(self, path: tuple[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
        if written := [key for key in _URLS if values.get(key) is not None]:
            self._problem(path, f"command and {written[0]} are given: keep one of them")
        elif values.get("type") in (*_STREAMABLE_HTTP, _SSE):
            self._problem((*path, "type"), "command is given, which is a server of type stdio")
        command, args = values.get("command"), values.get("args")
        if not isinstance(command, str) or not command:
            self._problem((*path, "command"), "required, but missing: give the program's name or path")
        if args is not None and not (isinstance(args, list) and all(isinstance(word, str) for word in args)):
            self._problem((*path, "args"), "expected a list of texts")
            args = None
        found = {ours: values[key] for key, ours in _OF_COMMANDS.items() if values.get(key) is not None}
        return {**found, "command": [command, *(args or ())]}

    def _url(self, path: tuple[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        written = [key for key in _URLS if values.get(key) is not None]
        if not written:
            self._problem((*path, "url"), "required, but missing: give the server's endpoint")
        elif len(written) > 1:
            self._problem(path, f"{' and '.join(written)} are given: keep one of them")
        else:
            wanted |= {"url": values[written[0]], "transport": _transport(values, written[0])}
        if values.get("headers") is not None:
            wanted["headers"] = values["headers"]
        return wanted

    def _tools(self, path: tuple[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, list[str]] = {"include": [], "exclude": []}
        for key, side in _TOOLS.items():
            names = values.get(key)
            if names is None:
                continue
            if not isinstance(names, list) or not all(isinstance(tool, str) and tool for tool in names):
                self._problem((*path, key), "expected a list of tool names")
            elif not names and side == "include":
                # For some agents an empty list means all tools, for others none.
                self._problem((*path, key), "is empty: name at least one tool, or leave the key out")
            else:
                found[side] += [tool for tool in names if tool not in found[side]]
        if "*" in found["include"]:
            found["include"] = []
        return {side: tools for side, tools in found.items() if tools}

    def _seconds(self, path: tuple[str, str], value: Any) -> float | None:
        text = str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
        if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text, re.ASCII) and 1 <= float(text) < 1000 * 10 * 365 * 86400:
            return float(text) / 1000
        self._problem((*path, "timeout"), "expected milliseconds, a number such as 60000")
        return None


def _transport_problem(entry: Mapping[str, Any]) -> str | None:
    """Why an entry's transport is not supported, or None."""
    kind = entry.get("type")
    if kind is None or kind == "" or kind in ("stdio", _SSE) or kind in _STREAMABLE_HTTP:
        return None
    return f'has an unknown type: expected one of stdio, sse, {", ".join(_STREAMABLE_HTTP)}, or set "disabled": true'


def _transport(values: Mapping[str, Any], written: str) -> str:
    """Gemini CLI means HTTP+SSE by ``url`` without a type, and Streamable HTTP by ``httpUrl``; others may mean either."""
    if not values.get("type"):
        return "streamable_http" if written == "httpUrl" else "auto"
    return "sse" if values["type"] == _SSE else "streamable_http"


def _is_command(entry: Mapping[str, Any]) -> bool:
    return entry.get("type") == "stdio" or entry.get("command") is not None


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


def usable_name(name: str, longest: int = 48) -> str:
    """A name's nearest one that a server can have, of at most so many characters; empty if there is none."""
    separator = GatewayConfig.model_fields["separator"].default
    if not server_name_problem(name) and separator not in name and len(name) <= longest:
        return name
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name.replace(separator, "-"))[:longest].strip("-.")


def is_off(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is turned off by a key of its own."""
    return any(entry.get(key) is off for key, off in _SWITCHES.items())


def _listed(keys: Iterable[str]) -> str:
    shown = [quoted(key) for key in keys]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
