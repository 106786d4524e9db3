"""Pass-through: MCP servers that an existing Envoy already routes to. Requests are inspected, not changed."""

from __future__ import annotations

from typing import Literal

from mcp_extproc.config.base import Model


class PassThrough(Model):
    """Routes of your own Envoy that were given to `mcp-extproc envoy attach --pass-through`: their requests are inspected for
    policies and forwarded unchanged. With this section, even as `{}`, `servers` is optional."""

    traffic_mode: Literal["reject_no_mcp", "pass_through"] = "reject_no_mcp"
    """How to handle a request that is not valid MCP, which policies can't inspect. `reject_no_mcp`: it is rejected.
    `pass_through`: it is forwarded, with the metadata `is_mcp_request: false` and the reason in `passthrough_reason`."""

    clear_route_cache: bool = False
    """Whether Envoy selects the route again after inspection, for routes that match the metadata."""
