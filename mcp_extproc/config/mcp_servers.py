"""mcp-servers.json, the file that agents already have: ``{"mcpServers": {"<name>": {...}}}``.

Claude Code, Claude Desktop, Cursor and Gemini CLI write it with small differences, VS Code calls the top-level key
``servers``. Every key is honoured, or named in a warning, or an error: nothing is dropped silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from mcp_extproc.config.config_error import ConfigError, field, quoted
from mcp_extproc.config.model import GatewayConfig, Server, server_name_problem
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.variables import substitute

_STREAMABLE_HTTP: Final = ("http", "streamable-http", "streamable_http", "streamableHttp")

KEYS: Final[Mapping[str, str]] = {
    "type": f"Transport: {', '.join(f'`{alias}`' for alias in _STREAMABLE_HTTP)}, empty or absent, which all mean "
    "Streamable HTTP. Anything else is an error.",
    "url": "The server's endpoint, http or https, path and query included.",
    "httpUrl": "The same as `url` (Gemini CLI's word for a Streamable HTTP endpoint). Give one of the two.",
    "headers": "Headers sent to the server with every request, all of them.",
    "includeTools": "Exact names of the tools that are offered, without prefix. `*` offers all.",
    "tools": "The same as `includeTools`. Where both are given, the names of both are offered.",
    "excludeTools": "Exact names of tools that are never offered. Wins over the other two.",
    "timeout": "How long the server may be silent during a call, in milliseconds.",
    "disabled": "`true` leaves the server out, with a warning that names it.",
}
"""The keys that the gateway honours, with their meaning."""

CLIENT_KEYS: Final = (
    "alwaysAllow", "args", "cwd", "description", "env", "envFile", "headersHelper", "oauth", "trust",
)  # fmt: skip
"""Keys that mean something to an agent or to a child process, and nothing to the gateway."""

_STDIO = (
    "is started with a command (stdio), and the gateway reaches servers over HTTP only: "
    'run the server with Streamable HTTP and give its url, or set "disabled": true'
)
_SSE = (
    "has type sse (HTTP+SSE of protocol 2024-11-05), and the gateway speaks Streamable HTTP only: "
    'use the server\'s Streamable HTTP endpoint with "type": "http", or set "disabled": true'
)

_VSCODE_ENTRY = frozenset({"type", "command"})


def table_of(data: Any, *, is_json: bool) -> str | None:
    """The top-level key under which parsed data lists servers in this format, None where it is of another format.

    ``servers`` is also a key of the native format. It is read as VS Code's in a JSON file with no other top-level key than
    ``inputs``, when there are ``inputs`` or when an entry has a ``type`` or a ``command``, which native entries never have.
    """
    if not isinstance(data, dict):
        return None
    if "mcpServers" in data:
        return "mcpServers"
    servers = data.get("servers")
    if not is_json or not isinstance(servers, dict) or not data.keys() <= {"servers", "inputs"}:
        return None
    typical = any(isinstance(entry, dict) and not _VSCODE_ENTRY.isdisjoint(entry) for entry in servers.values())
    return "servers" if "inputs" in data or typical else None


def read_mcp_servers(
    data: Mapping[str, Any], table: str, name: str, environ: Mapping[str, str]
) -> tuple[GatewayConfig, tuple[str, ...]]:
    """The configuration in parsed data, and warnings that name what has no effect.

    Args:
        data: the whole file.
        table: the key that `table_of` found.
        name: the file's name, for errors.
        environ: where variables are looked up.

    Raises:
        ConfigError: with every entry that can't be served and every value that is wrong.
    """
    reader = _Reader(table, environ)
    reader.read(data)
    if not reader.problems:
        try:
            return GatewayConfig(servers=reader.servers), tuple(reader.warnings)
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
        self.problems: list[str] = []

    def read(self, data: Mapping[str, Any]) -> None:
        if "servers" in data and "mcpServers" in data:
            self.problems.append("both mcpServers and servers are given: keep one of them")
            return
        self._name_others(data)
        entries = data[self.table]
        if not isinstance(entries, dict):
            self.problems.append(f'{self.table}: expected an object of servers, such as {{"github": {{"url": ...}}}}')
            return
        for name, entry in entries.items():
            self._read_entry(name, entry)
        if not self.servers and not self.problems:
            what = "every server is disabled: enable" if entries else "no server is named: add"
            self.problems.append(f"{self.table}: {what} at least one")

    def _name_others(self, data: Mapping[str, Any]) -> None:
        if "inputs" in data:
            self.warnings.append("inputs: has no effect, since nobody is there to answer; use ${VAR} instead")
        if others := [key for key in data if key not in (self.table, "inputs")]:
            self.warnings.append(f"unknown keys beside {self.table} have no effect: {_listed(others)}")

    def _read_entry(self, name: str, entry: Any) -> None:
        path = (self.table, name)
        if not isinstance(entry, dict):
            self.problems.append(f'{field(path)}: expected an object such as {{"url": "https://..."}}')
            return
        disabled = entry.get("disabled", False)
        if not isinstance(disabled, bool):
            self.problems.append(f"{field((*path, 'disabled'))}: expected true or false")
        elif disabled:
            self.warnings.append(f"{field(path)}: disabled, so it is left out")
            return
        if problem := _name_problem(name):
            self.problems.append(f"{field(path)}: {problem}")
        if problem := _transport_problem(entry):
            self.problems.append(f"{field(path)}: {problem}")
            return
        self._name_ignored(path, entry)
        self._read_server(path, entry)

    def _name_ignored(self, path: tuple[str, str], entry: Mapping[str, Any]) -> None:
        if client := [key for key in CLIENT_KEYS if key in entry]:
            self.warnings.append(f"{field(path)}: keys for agents have no effect here: {_listed(client)}")
        if unknown := [key for key in entry if key not in KEYS and key not in CLIENT_KEYS]:
            self.warnings.append(f"{field(path)}: unknown keys have no effect: {_listed(unknown)}")

    def _read_server(self, path: tuple[str, str], entry: Mapping[str, Any]) -> None:
        # What has no effect is not looked at: a variable that only an agent sets is no error there.
        before = len(self.problems)
        honoured = {key: value for key, value in entry.items() if key in KEYS and key not in ("type", "disabled")}
        values = substitute(honoured, self.environ, self.problems, path)
        wanted: dict[str, Any] = {"tools": self._tools(path, values)}
        if (url := values.get("url", values.get("httpUrl"))) is None:
            self.problems.append(f"{field((*path, 'url'))}: required, and missing: give the server's endpoint")
        elif "url" in values and "httpUrl" in values:
            self.problems.append(f"{field(path)}: url and httpUrl are both given: keep one of them")
        wanted["url"] = url
        if values.get("headers") is not None:
            wanted["headers"] = values["headers"]
        if values.get("timeout") is not None:
            wanted["timeout"] = self._seconds(path, values["timeout"])
        if len(self.problems) > before:
            return
        try:
            self.servers[path[1]] = Server.model_validate(wanted)
        except ValidationError as error:
            sentences = problems_of(error, Server, path)
            if "url" not in values:
                sentences = [text.replace(field((*path, "url")), field((*path, "httpUrl")), 1) for text in sentences]
            self.problems += sentences

    def _tools(self, path: tuple[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, list[str]] = {"include": [], "exclude": []}
        for key, side in (("includeTools", "include"), ("tools", "include"), ("excludeTools", "exclude")):
            names = values.get(key)
            if names is None:
                continue
            if not isinstance(names, list) or not all(isinstance(tool, str) and tool for tool in names):
                self.problems.append(f"{field((*path, key))}: expected a list of tool names")
            elif not names and side == "include":
                # One agent reads an empty list as all tools, the next as none.
                self.problems.append(f"{field((*path, key))}: is empty: name at least one tool, or leave the key out")
            else:
                found[side] += [tool for tool in names if tool not in found[side]]
        if "*" in found["include"]:
            found["include"] = []
        return {side: tools for side, tools in found.items() if tools}

    def _seconds(self, path: tuple[str, str], value: Any) -> float | None:
        text = str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
        if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text, re.ASCII) and 1 <= float(text) < 1000 * 10 * 365 * 86400:
            return float(text) / 1000
        self.problems.append(f"{field((*path, 'timeout'))}: expected milliseconds, a number such as 60000")
        return None


def _transport_problem(entry: Mapping[str, Any]) -> str | None:
    """Why an entry can't be served by any HTTP request, or None."""
    kind = entry.get("type")
    if kind == "stdio" or entry.get("command") is not None:
        return _STDIO
    if kind == "sse":
        return _SSE
    if kind is None or kind == "" or kind in _STREAMABLE_HTTP:
        return None
    return f'has an unknown type: expected one of {", ".join(_STREAMABLE_HTTP)}, or set "disabled": true'


def _name_problem(name: str) -> str | None:
    separator = GatewayConfig.model_fields["separator"].default
    problem = server_name_problem(name)
    if problem is None and separator in name:
        problem = f"the name contains {separator}, which stands between a server's name and a tool's"
    if problem is None:
        return None
    usable = re.sub(r"[^A-Za-z0-9.-]+", "-", name.replace(separator, "-"))[:48].strip("-.")
    return f"{problem}: rename the entry" + (f", for example to {usable}" if usable else "")


def _listed(keys: Iterable[str]) -> str:
    shown = [quoted(key) for key in keys]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
