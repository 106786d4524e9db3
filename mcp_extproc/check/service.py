"""Whether the service that says who calls (``authentication.external``) is there: Envoy asks it, as it does about clients."""

from __future__ import annotations

from mcp_extproc.address import Address
from mcp_extproc.check.causes import service_cause
from mcp_extproc.check.tool_names import Problem
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import AUTHENTICATION_UNAVAILABLE
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.upstreams.questions import is_answered

_PATIENCE = 10.0
"""Seconds to connect and to be told by Envoy, besides the service's own time."""


async def problems(config: GatewayConfig, address: Address, admin: Admin) -> list[Problem]:
    """One, where it is not there. What it says of a request without credentials is none.

    Args:
        config: the whole configuration.
        address: Envoy's listener that asks it.
        admin: that Envoy's.
    """
    external = config.authentication.external if config.authentication is not None else None
    if external is None or await is_answered(address, config.listen.path, external.timeout + _PATIENCE):
        return []
    cause = await service_cause(admin) or (
        "it answers no requests to envoy.service.auth.v3.Authorization" if external.grpc else "its answer is an error"
    )
    text = f"authentication.external: {external.grpc or external.http} can't be asked: {cause}"
    return [Problem(AUTHENTICATION_UNAVAILABLE, None, text)]
