"""Configuration: what the operator wrote, read and checked, as one immutable value."""

from mcp_extproc.config.model import GatewayConfig, Limits, Listen, Log, Server, Session, Tools, UpstreamTls

__all__ = ["GatewayConfig", "Limits", "Listen", "Log", "Server", "Session", "Tools", "UpstreamTls"]
