"""The report: the state of each server, and all problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp_extproc.check import tool_names
from mcp_extproc.check.causes import causes
from mcp_extproc.check.temporary_envoy import upstreams
from mcp_extproc.check.tool_names import Problem
from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.decision import Failed, Listed
from mcp_extproc.mcp import jsontext
from mcp_extproc.upstreams.probe import Survey, address_of, survey

_KINDS = {"tools": "name", "prompts": "name", "resources": "uri"}
"""What is listed, and the member by which an entry is known."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One server."""

    name: str
    address: str
    """``host:port``, of the first replica where there are several."""
    prefix: str
    version: str | None
    """Negotiated protocol version; ``None`` where the server could not be asked."""
    tools: int | None
    """How many it lists, before any filter; ``None`` where they could not be read."""
    prompts: int | None
    resources: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """All servers."""

    servers: Sequence[ServerReport]
    problems: Sequence[Problem]


async def check(config: GatewayConfig, envoy: str) -> Report:
    """Ask every server, and look at what clients would see.

    Args:
        config: the whole configuration.
        envoy: the Envoy binary.

    Raises:
        StartError: Envoy does not take the configuration.
    """
    async with upstreams(config, envoy) as (address, admin):
        surveyed = await survey(config, address, list(_KINDS))
        silent = [
            asked.name for asked in surveyed if isinstance(asked.opened, Failed) and asked.opened.reason == "connect"
        ]
        return report(config, surveyed, await causes(admin, silent))


def report(config: GatewayConfig, surveyed: Sequence[Survey], causes: Mapping[str, str]) -> Report:
    """What the answers say, and why there are none."""
    servers, problems, listed = [], [], {}
    for asked in surveyed:
        problems += _failures(config, asked, causes.get(asked.name))
        counts: dict[str, int | None] = dict.fromkeys(_KINDS)
        version = None
        if not isinstance(asked.opened, Failed):
            version = asked.opened.session.version
            own = {kind: _names(asked, kind) for kind in _KINDS}
            counts = {kind: None if found is None else len(found) for kind, found in own.items()}
            if None not in own.values():
                listed[asked.name] = {kind: found or [] for kind, found in own.items()}
        address, prefix = address_of(config, asked.name), config.prefix_of(asked.name)
        servers.append(ServerReport(asked.name, address, prefix, version, **counts))
    return Report(servers, [*problems, *tool_names.problems(config, listed)])


def _failures(config: GatewayConfig, asked: Survey, cause: str | None) -> list[Problem]:
    if isinstance(asked.opened, Failed):
        text = f"{address_of(config, asked.name)} {asked.opened.message}{f': {cause}' if cause is not None else ''}"
        return [Problem("unreachable", asked.name, text)]
    found = []
    for kind, outcome in asked.lists.items():
        if isinstance(outcome, Failed):
            found.append(Problem("list_failed", asked.name, f"{kind}/list: {outcome.message}"))
        elif outcome.truncated is not None:
            found.append(Problem("list_cut_short", asked.name, f"{kind}/list: it {outcome.truncated} (`limits`)"))
    return found


def _names(asked: Survey, kind: str) -> list[str] | None:
    """What a server lists; ``None`` where that is not known, and empty where it has none of the kind."""
    outcome = asked.lists.get(kind, Listed(asked.name, ()))
    if isinstance(outcome, Failed):
        return None
    return [name for entry in outcome.items if (name := jsontext.text_at(entry, _KINDS[kind])) is not None]
