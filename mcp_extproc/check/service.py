"""Whether services that say who calls (``authentication.external``) are there: Envoy asks them, as it does about clients."""

from __future__ import annotations

from mcp_extproc.address import Address
from mcp_extproc.check.causes import service_cause
from mcp_extproc.check.tool_names import Problem
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import field
from mcp_extproc.contract import AUTHENTICATION_UNAVAILABLE
from mcp_extproc.envoy.layout import EXTERNAL_CLUSTER
from mcp_extproc.envoy.render.authentication.filters import services_alone
from mcp_extproc.envoy.render.authentication.sections import Section, sections
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.upstreams.questions import is_answered

_PATIENCE = 10.0
"""Seconds to connect and to be told by Envoy, besides the service's own time."""


async def problems(config: GatewayConfig, address: Address, admin: Admin) -> list[Problem]:
    """One for each that is not there. What it says of a request without credentials is none.

    Args:
        config: the whole configuration.
        address: Envoy's listener that asks them.
        admin: that Envoy's.
    """
    alone = sections(services_alone(config))
    found = [await _problem(section, config, address, admin) for section in alone]
    return [problem for problem in found if problem is not None]


async def _problem(section: Section, config: GatewayConfig, address: Address, admin: Admin) -> Problem | None:
    external = section.authentication.external
    assert external is not None
    path, patience = section.endpoints[0].path, external.timeout + _PATIENCE
    if await is_answered(address, section.label, path, patience):
        return None
    cause = await service_cause(admin, section.named(EXTERNAL_CLUSTER)) or (
        "it answers no requests to envoy.service.auth.v3.Authorization" if external.grpc else "its answer is an error"
    )
    place = next(place for place, one in config.authentications() if one.external == external)
    text = f"{field([*place, 'external'])}: {external.grpc or external.http} can't be asked: {cause}"
    return Problem(AUTHENTICATION_UNAVAILABLE, None, text)
