"""envoy.extensions.resource_monitors.downstream_connections.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class DownstreamConnectionsConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'max_active_downstream_connections'})
    max_active_downstream_connections: int = 0
