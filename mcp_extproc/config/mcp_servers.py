"""mcp-servers.json, the configuration file of agents: ``{"mcpServers": {"<name>": {...}}}``.

Claude Code, Claude Desktop, Cursor, Windsurf and Gemini CLI write it with small differences; in VS Code's the top-level key
is ``servers``. Every key is either supported, or reported in a warning or an error. None is ignored silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from mcp_extproc.config.config_error import ConfigError, Problem, field, is_left_out, quoted
from mcp_extproc.config.model import GatewayConfig, Server
from mcp_extproc.config.native import with_variables
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.server_entry import is_off, listed, native_hint, read_entry
from mcp_extproc.config.switches import NamedOnes, names_in
from mcp_extproc.config.uri_words import scheme_word

RESTRICTING: Final = ("authentication", "authorization", "rate_limits", "vetting")
"""Keys of the native format that restrict callers."""

_TELLING: Final = ("command", "url", "httpUrl", "serverUrl", "baseUrl")
"""Keys of an entry that say where its server is."""


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


def meant_so(data: Mapping[str, Any]) -> Problem | None:
    """What is wrong with data that is in no format, and may be meant to be in this one; ``None`` if it does not look so."""
    for key in data:
        if re.sub("[-_]", "", key.lower()) in ("mcpserver", "mcpservers"):
            return Problem("unknown key, did you mean mcpServers?", quoted(key))
    if data.keys() & GatewayConfig.model_fields.keys():
        return None
    if _looks_like_an_entry(data):
        return Problem('a server stands at the top: put it into {"mcpServers": {"<name>": {...}}}')
    if any(map(_looks_like_an_entry, data.values())):
        return Problem('the servers stand at the top: put them into {"mcpServers": {...}}')
    for key, value in data.items():
        # VS Code's settings have them under mcp.servers, Zed's under context_servers.
        tables = [value, *value.values()] if isinstance(value, dict) else []
        if any(isinstance(table, dict) and any(map(_looks_like_an_entry, table.values())) for table in tables):
            return Problem('the servers stand under this key: put them into {"mcpServers": {...}}', quoted(key))
    return None


def _looks_like_an_entry(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in _TELLING)


class McpServers(NamedTuple):
    """Content of a file."""

    config: GatewayConfig
    warnings: tuple[str, ...]
    """About keys without effect and servers that are left out."""
    left_out: tuple[Problem, ...]
    """What is wrong with servers that can't be served, without those that are disabled."""


def read_mcp_servers(data: Mapping[str, Any], table: str, name: str, environ: Mapping[str, str]) -> McpServers:
    """The configuration in parsed data. A server that can't be served is left out as a whole, whatever is wrong with it.

    Args:
        data: the whole file.
        table: the key returned by `table_of`.
        name: the file's name, for errors.
        environ: where variables are looked up.

    Raises:
        ConfigError: no server is left. Lists what is wrong with each.
    """
    reader = _Reader(table, environ)
    reader.read(data)
    if not reader.problems:
        try:
            config = with_variables(GatewayConfig(servers=reader.servers), environ)
            return McpServers(config, tuple(reader.warnings), tuple(reader.left_out))
        except ValidationError as error:
            reader.problems = problems_of(error, GatewayConfig)
        except ValueError as error:
            reader.problems = [Problem(str(error))]
    raise ConfigError(name, reader.problems)


class _Reader:
    """One pass over one file, collecting servers, warnings and problems."""

    def __init__(self, table: str, environ: Mapping[str, str]) -> None:
        self.table = table
        self.environ = environ
        self.servers: dict[str, Server] = {}
        self.warnings: list[str] = []
        self.problems: list[Problem] = []
        """Of the file as a whole."""
        self.left_out: list[Problem] = []
        self._words: dict[str, str] = {}
        """Servers' names by the words that their URIs begin with."""

    def read(self, data: Mapping[str, Any]) -> None:
        if "servers" in data and "mcpServers" in data:
            self._problem((), "both mcpServers and servers are given: keep one of them")
            return
        self._name_others(data)
        entries = data[self.table]
        if not isinstance(entries, dict):
            self._problem((self.table,), 'expected an object of servers, such as {"github": {"url": ...}}')
            return
        switched = self._switched(data)
        if self.problems:
            return
        for name, entry in entries.items():
            self._read_entry(name, entry, switched)
        if not self.servers and self.left_out:
            self.problems = self.left_out
        elif not self.servers:
            what = "every server is disabled: enable" if entries else "there is no server: add"
            self._problem((self.table,), f"{what} at least one")

    def _problem(self, path: tuple[str, ...], message: str) -> None:
        self.problems.append(Problem(message, field(path)))

    def _name_others(self, data: Mapping[str, Any]) -> None:
        if "inputs" in data:
            self.warnings.append("inputs: has no effect, since the gateway can't prompt; use ${VAR} instead")
        for key in RESTRICTING:
            if key in data:
                self._problem((key,), "has no effect here, and without it everybody could call: use the native format")
        if others := [key for key in data if key not in (self.table, "inputs", "mcp", *RESTRICTING)]:
            hint = native_hint(others, GatewayConfig)
            self.warnings.append(f"unknown keys beside {self.table} have no effect: {listed(others)}{hint}")

    def _switched(self, data: Mapping[str, Any]) -> list[NamedOnes]:
        """Gemini CLI's lists of servers that are on or off, in the same file."""
        mcp, found = data.get("mcp") or {}, []
        if not isinstance(mcp, dict):
            self._problem(("mcp",), "expected an object with the lists allowed and excluded")
            return []
        for key in ("allowed", "excluded"):
            try:
                names = names_in(mcp.get(key))
            except ValueError as error:
                self._problem(("mcp", key), str(error))
            else:
                if names is not None:
                    found.append(NamedOnes(names, key == "excluded", f"mcp.{key}"))
        return found

    def _read_entry(self, name: str, entry: Any, switched: list[NamedOnes]) -> None:
        path = (self.table, name)
        turned_off = next((one.source for one in switched if one.turns_off(name)), None)
        if turned_off is not None or (isinstance(entry, dict) and is_off(entry)):
            by = f" by {turned_off}" if turned_off is not None else ""
            self.warnings.append(f"{field(path)}: disabled{by}, so it is left out")
            return
        read = read_entry(path, entry, self.environ)
        server, problems = read.server, read.problems
        if server is not None and (problem := self._taken(name)) is not None:
            problems = (Problem(problem, field(path)),)
        if server is None or problems:
            self.left_out += problems
            self.warnings.append(is_left_out(field(path), [problem.inside(field(path)) for problem in problems]))
            return
        self.servers[name] = server
        self.warnings += read.warnings

    def _taken(self, name: str) -> str | None:
        """Why a name can't stand beside those before, or None."""
        other = self._words.setdefault(scheme_word(name), name)
        if other == name:
            return None
        return f"the name is that of {other} in URIs, which ignore case and have - for _: rename one of them"
