"""Pass-through: MCP servers that somebody else's Envoy routes to already, whose requests are only read."""

from __future__ import annotations

from typing import Literal

from mcp_extproc.config.base import Model


class PassThrough(Model):
    """Routes of an Envoy of your own that `mcp-extproc envoy attach --pass-through` was given: their requests are read for
    policies, and go on as they are. With this section, even `{}`, no `servers` are needed."""

    traffic_mode: Literal["reject_no_mcp", "pass_through"] = "reject_no_mcp"
    """What becomes of a request that is no valid MCP, which a policy can't look into. `reject_no_mcp`: it is refused.
    `pass_through`: it passes, and the metadata say so: `is_mcp_request` is false, and `passthrough_reason` says why."""

    clear_route_cache: bool = False
    """Whether Envoy chooses the route again once a request was read, for routes that match on the metadata."""
