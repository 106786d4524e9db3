"""Endpoints that authenticate in the same way, and so with the same filters.

A listener has the filters of all. Each refuses what it does not know, so they are on unless a route says otherwise: the routes
of an endpoint turn those of the others off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Authentication
from mcp_extproc.config.endpoint import Endpoint, endpoints


@dataclass(frozen=True, slots=True)
class Section:
    """What one section ``authentication`` says, and the endpoints that it is for."""

    name: str
    """The first endpoint's."""
    authentication: Authentication
    """Without ``existing``: filters of ours say who calls."""
    endpoints: tuple[Endpoint, ...]
    """Clients reach them by the same scheme and host, as far as that is told them."""
    beside_filters: bool
    """Whether the operator has configured filters of the listener, which may look at what ours verified."""

    @property
    def label(self) -> str:
        """The name, never empty."""
        return self.name or "/"

    def named(self, name: str) -> str:
        """A filter or cluster of this section."""
        return f"{name}/{self.name}" if self.name else name


def sections(config: GatewayConfig) -> list[Section]:
    """All sections for which there are filters."""
    found: list[tuple[tuple[Authentication, str | None], list[Endpoint]]] = []
    for endpoint in endpoints(config):
        authentication = endpoint.authentication
        if authentication is None or authentication.existing is not None:
            continue
        kind = authentication, endpoint.public_url if authentication.oauth is not None else None
        same = next((members for known, members in found if known == kind), None)
        if same is None:
            found.append((kind, [endpoint]))
        else:
            same.append(endpoint)
    beside_filters = bool(config.envoy.http_filters_before or config.envoy.http_filters)
    return [
        Section(members[0].name, authentication, tuple(members), beside_filters)
        for (authentication, _), members in found
    ]


def by_endpoint(among: Sequence[Section]) -> dict[str, Section]:
    """The section that is for an endpoint, by the endpoint's name."""
    return {endpoint.name: section for section in among for endpoint in section.endpoints}
