"""Virtual servers, held against what servers list. Plain functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mcp_extproc.check.tool_names import Names, Problem, shown
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authorization import Kind
from mcp_extproc.config.config_error import field
from mcp_extproc.config.endpoint import Endpoint, endpoints, url_of
from mcp_extproc.gateway.catalog import Catalog

_KINDS: Final[tuple[Kind, ...]] = ("tools", "prompts")
"""Whose lists are complete. Resources may be there without standing in one."""

_HINT: Final = "is there a typo, or was it renamed at the server?"


@dataclass(frozen=True, slots=True)
class VirtualReport:
    """One virtual server."""

    name: str
    url: str
    """Where clients on this machine find it."""
    headers: Mapping[str, str]
    """What their requests have to have."""
    tools: int
    """How many it offers, before rules, of those servers that responded."""
    prompts: int


def reports(config: GatewayConfig, listed: Mapping[str, Names]) -> list[VirtualReport]:
    """All virtual servers.

    Args:
        config: the whole configuration.
        listed: by server, for those that responded.
    """
    return [_report(config, one, Catalog(one), listed) for one in endpoints(config) if one.name]


def problems(config: GatewayConfig, listed: Mapping[str, Names]) -> list[Problem]:
    """What virtual servers name that servers do not list, and what can't be reached by its name."""
    found: list[Problem] = []
    for one in filter(lambda endpoint: endpoint.name, endpoints(config)):
        catalog = Catalog(one)
        for kind in _KINDS:
            for server in one.servers:
                if server in listed:
                    own = listed[server].get(kind, ())
                    found += _selected(one, server, kind, own)
                    found += _hidden(one, catalog, server, kind, own)
            found += _renamed(one, catalog, kind, listed)
    return found


def _report(config: GatewayConfig, endpoint: Endpoint, catalog: Catalog, listed: Mapping[str, Names]) -> VirtualReport:
    counts = {
        kind: sum(
            catalog.visible(kind, server, name) is not None
            for server in endpoint.servers
            for name in _offered(endpoint, server, kind, listed.get(server, {}).get(kind, ()))
        )
        for kind in _KINDS
    }
    return VirtualReport(
        endpoint.name, url_of(endpoint, config.listen), endpoint.told_headers, counts["tools"], counts["prompts"]
    )


def _offered(endpoint: Endpoint, server: str, kind: Kind, own: Sequence[str]) -> list[str]:
    assert endpoint.offered is not None
    return list(filter(endpoint.offered[server].allowing(kind), own))


def _selected(endpoint: Endpoint, server: str, kind: Kind, own: Sequence[str]) -> Iterator[Problem]:
    """Selectors that match nothing."""
    assert endpoint.offered is not None
    for number, selector in enumerate(endpoint.offered[server].of(kind)):
        if not any(map(selector.matcher(), own)) and selector.text.strip("*"):
            place = field(("virtual_servers", endpoint.name, "servers", server, kind, number))
            yield Problem(
                "selector_matches_nothing",
                server,
                f"{place} {shown(selector.text)} matches none of its {kind}: {_HINT}",
            )


def _hidden(endpoint: Endpoint, catalog: Catalog, server: str, kind: Kind, own: Sequence[str]) -> Iterator[Problem]:
    """What a new name takes the place of."""
    for name in _offered(endpoint, server, kind, own):
        found = catalog.resolve(kind, catalog.names.join(server, name))
        if found is not None and found[1] != name and not catalog.is_renamed(kind, server, name):
            yield Problem(
                "name_hidden",
                server,
                f"its {kind.removesuffix('s')} {shown(name)} can't be reached at the virtual server {endpoint.name}: another"
                " one has this as its new name. Choose another new name",
            )


def _renamed(endpoint: Endpoint, catalog: Catalog, kind: Kind, listed: Mapping[str, Names]) -> Iterator[Problem]:
    """New names of what is not there."""
    for former in endpoint.rename.of(kind):
        found = catalog.names.split(former)
        if found is not None and found[0] in listed and found[1] not in listed[found[0]].get(kind, ()):
            place = field(("virtual_servers", endpoint.name, "rename", kind, former))
            yield Problem(
                "rename_matches_nothing", found[0], f"{place}: it lists no such {kind.removesuffix('s')}: {_HINT}"
            )
