"""The part of a configuration that a bridge reads which runs by itself: the stdio servers. And the part that is left for the
gateway in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_extproc.config.server_entry import is_off
from mcp_extproc.config.switches import NamedOnes, names_in

_KEPT = ("separator", "limits")
_OF_LOG = ("level", "format")
_OF_OTHERS = "typed_per_filter_config"
"""Of a server's entry, about the policies for it."""

_OF_BRIDGE = frozenset({"command", "args", "env", "envFile", "env_file", "cwd", "inherit_env"})
"""Of a server's entry, about its program. Only the bridge starts it."""

_ELSEWHERE = "elsewhere"
"""Stands for a command."""


def only_commands(data: dict[str, Any]) -> dict[str, Any]:
    """What concerns the commands in a file's data. Without any, the data has no servers.

    The rest is not validated: credentials in it are no business of a place where programs of others run, so their variables
    are not set there.

    Args:
        data: the whole file, in either format.
    """
    table = "mcpServers" if "mcpServers" in data else "servers"
    servers = data.get(table)
    if not isinstance(servers, dict):
        return data
    try:
        lists = _lists_of(data.get("mcp"))
    except ValueError:
        return data  # the reader says what is wrong with them
    found = {
        name: _without_policies(entry)
        for name, entry in servers.items()
        if _is_command(entry) and not any(one.turns_off(name) for one in lists)
    }
    settings = _settings(data) if table == "servers" else {}
    if found and "main_endpoint" in data:
        # Of servers at several endpoints prefixes may be the same: here each is by itself.
        alone = {name: {"servers": {name: "all"}} for name in found}
        return {table: found, **settings, "main_endpoint": False, "virtual_servers": alone}
    return {table: found, **settings} if found else {"servers": {}, "pass_through": {}, **settings}


def without_programs(data: dict[str, Any]) -> dict[str, Any]:
    """A file's data without what only the bridge needs to know of stdio servers: their variables are not set, and their files
    are not there, where the gateway runs.

    Args:
        data: the whole file, in either format.
    """
    table = "mcpServers" if "mcpServers" in data else "servers"
    servers = data.get(table)
    if not isinstance(servers, dict):
        return data
    return {**data, table: {name: _without_program(entry) for name, entry in servers.items()}}


def _without_program(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or entry.get("command") is None:
        return entry
    command = _ELSEWHERE if isinstance(entry["command"], str) else [_ELSEWHERE]
    return {key: value for key, value in entry.items() if key not in _OF_BRIDGE} | {"command": command}


def _is_command(entry: object) -> bool:
    if not isinstance(entry, Mapping) or is_off(entry):
        return False
    return entry.get("command") is not None or entry.get("type") == "stdio"


def _lists_of(mcp: object) -> list[NamedOnes]:
    """Gemini CLI's lists of servers that are on or off."""
    lists = [(mcp.get(key), key == "excluded") for key in ("allowed", "excluded")] if isinstance(mcp, Mapping) else []
    return [NamedOnes(names, are_off, "mcp") for value, are_off in lists if (names := names_in(value)) is not None]


def _without_policies(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != _OF_OTHERS}


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: data[key] for key in _KEPT if key in data}
    log = data.get("log")
    return kept | ({"log": {key: log[key] for key in _OF_LOG if key in log}} if isinstance(log, Mapping) else {})
