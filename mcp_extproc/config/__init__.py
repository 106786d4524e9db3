"""The operator's configuration, parsed and validated, as one immutable value."""

from mcp_extproc.config.commands import only_commands
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.load import Loaded, load, loads
from mcp_extproc.config.model import GatewayConfig, Limits, Listen, Log, Server, Session, Tools, UpstreamTls
from mcp_extproc.config.source import EnvoysSource, FileSource, Source

__all__ = [
    "ConfigError",
    "EnvoysSource",
    "FileSource",
    "GatewayConfig",
    "Limits",
    "Listen",
    "Loaded",
    "Log",
    "Server",
    "Session",
    "Source",
    "Tools",
    "UpstreamTls",
    "load",
    "loads",
    "only_commands",
]
