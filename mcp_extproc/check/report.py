"""The report: the state of each server, and all problems."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcp_extproc.address import Address
from mcp_extproc.check import acceptance, destinations, service, temporary_envoy, tool_names, unmatched, virtual_servers
from mcp_extproc.check.causes import causes
from mcp_extproc.check.temporary_envoy import TemporaryEnvoy
from mcp_extproc.check.tool_names import Problem
from mcp_extproc.check.virtual_servers import VirtualReport
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.model import prefix_of
from mcp_extproc.config.named_files import unusable_files
from mcp_extproc.gateway.legs import Failed, Listed
from mcp_extproc.mcp import jsontext
from mcp_extproc.upstreams.probe import State, Survey, address_of, lists_more_to_callers, survey, survey_started

_KINDS = {"tools": "name", "prompts": "name", "resources": "uri"}
"""The kinds of lists, and the member that identifies an entry."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One server."""

    name: str
    address: str
    """``host:port`` of the first replica."""
    prefix: str
    version: str | None
    """Negotiated protocol version; ``None`` if the server could not be reached."""
    state: State
    tools: int | None
    """Number of listed tools, before any filter; ``None`` if they could not be read."""
    tools_offered: int | None
    """Those that the filter (``servers.<name>.tools``) leaves to clients."""
    prompts: int | None
    resources: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """All servers."""

    servers: Sequence[ServerReport]
    problems: Sequence[Problem]
    virtual_servers: Sequence[VirtualReport] = ()
    notes: Sequence[Problem] = ()
    """What can't be told here, and is no problem: servers that answer callers alone, addresses that others have, receivers of
    telemetry that are not there."""


async def check(
    config: GatewayConfig, folder: Path, envoy: str, tell_waiting: Callable[[Sequence[str]], object] = lambda _: None
) -> Report:
    """Connect to every server, and check its lists. Those that are starting have until their ``start_timeout``. If a service
    says who calls, it is asked, too; files with keys are read, Envoy is asked whether it takes the configuration, and it is
    tried whether audit and telemetry can go where they are to go.

    Args:
        config: the whole configuration.
        folder: of its file.
        envoy: the Envoy binary.
        tell_waiting: given the names of servers that are still starting, where this waits for them.

    Raises:
        StartError: Envoy rejects the configuration.
    """
    found, refused, remarks = await asyncio.gather(
        temporary_envoy.asked(config, folder, envoy, lambda known, running: _report(known, running, tell_waiting)),
        acceptance.problems(config, envoy),
        destinations.notes(config, os.environ),
    )
    files = [Problem("file_unusable", None, str(problem)) for problem in unusable_files(config)]
    files += destinations.problems(config, folder)
    return replace(found, problems=[*files, *refused, *found.problems], notes=[*found.notes, *remarks])


async def _report(
    config: GatewayConfig, running: TemporaryEnvoy, tell_waiting: Callable[[Sequence[str]], object]
) -> Report:
    address, admin = running.upstreams, running.admin
    surveyed, unavailable = await asyncio.gather(
        when_started(config, address, list(_KINDS), tell_waiting), service.problems(config, running.service, admin)
    )
    found = report(config, surveyed, await causes(admin.stats, surveyed))
    return replace(found, problems=[*unavailable, *found.problems])


async def when_started(
    config: GatewayConfig, address: Address, kinds: Sequence[str], tell_waiting: Callable[[Sequence[str]], object]
) -> Sequence[Survey]:
    """What all servers list. Those that are starting have until their ``start_timeout``.

    Args:
        config: the servers.
        address: Envoy's private listener.
        kinds: of lists.
        tell_waiting: given the names of servers that are still starting, where this waits for them.
    """
    surveyed = await survey(config, address, kinds)
    if starting := [asked.name for asked in surveyed if asked.state == "starting"]:
        tell_waiting(starting)
        started = await asyncio.gather(*(survey_started(config, address, kinds, name) for name in starting))
        surveyed = [{one.name: one for one in started}.get(asked.name, asked) for asked in surveyed]
    return surveyed


def report(config: GatewayConfig, surveyed: Sequence[Survey], causes: Mapping[str, str]) -> Report:
    """The report of the servers' responses, and of the causes of missing ones."""
    servers, listed = [], {}
    problems: list[Problem] = []
    notes: list[Problem] = []
    for asked in surveyed:
        (notes if asked.state == "unknown" else problems).extend(_failures(config, asked, causes.get(asked.name)))
        counts: dict[str, int | None] = dict.fromkeys([*_KINDS, "tools_offered"])
        version = None
        if not isinstance(asked.opened, Failed):
            version = asked.opened.session.version
            own = {kind: _names(asked, kind) for kind in _KINDS}
            counts |= {kind: None if found is None else len(found) for kind, found in own.items()}
            if (tools := own["tools"]) is not None:
                counts["tools_offered"] = len([*filter(config.servers[asked.name].tools.allowing(), tools)])
            if None not in own.values():
                listed[asked.name] = {kind: found or [] for kind, found in own.items()}
        address, prefix = address_of(config, asked.name), prefix_of(asked.name, config.servers[asked.name])
        servers.append(ServerReport(asked.name, address, prefix, version, asked.state, **counts))
    whole = {asked.name: listed[asked.name] for asked in surveyed if asked.name in listed and _is_whole(config, asked)}
    problems += [
        *tool_names.problems(config, listed), *virtual_servers.problems(config, listed), *unmatched.problems(config, whole)
    ]  # fmt: skip
    return Report(servers, problems, virtual_servers.reports(config, listed), notes)


def _failures(config: GatewayConfig, asked: Survey, cause: str | None) -> list[Problem]:
    if isinstance(asked.opened, Failed):
        text = f"{address_of(config, asked.name)} {asked.opened.message}{f': {cause}' if cause is not None else ''}"
        kind: str = "unreachable" if asked.state == "failed" else asked.state
        return [Problem(kind, asked.name, text)]
    found = []
    for kind, outcome in asked.lists.items():
        if isinstance(outcome, Failed):
            found.append(Problem("list_failed", asked.name, f"{kind}/list: {outcome.message}"))
        elif outcome.truncated is not None:
            found.append(Problem("list_cut_short", asked.name, f"{kind}/list: it {outcome.truncated} (`limits`)"))
    return found


def _is_whole(config: GatewayConfig, asked: Survey) -> bool:
    """Whether a server's lists have all that it offers to anybody."""
    is_cut = any(isinstance(one, Listed) and one.truncated is not None for one in asked.lists.values())
    return not is_cut and not lists_more_to_callers(config.servers[asked.name])


def _names(asked: Survey, kind: str) -> list[str] | None:
    """A server's names of one kind; ``None`` if they could not be read, and empty if it has none."""
    outcome = asked.lists.get(kind, Listed(asked.name, ()))
    if isinstance(outcome, Failed):
        return None
    return [name for entry in outcome.items if (name := jsontext.text_at(entry, _KINDS[kind])) is not None]
