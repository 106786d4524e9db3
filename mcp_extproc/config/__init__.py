"""The operator's configuration, parsed and validated, as one immutable value."""

from mcp_extproc.config.commands import only_commands, without_programs
from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.load import Loaded, Part, load, loads, whole
from mcp_extproc.config.model import GatewayConfig, Limits, Listen, Log, Server, Session, Tools
from mcp_extproc.config.source import EnvoysSource, FileSource, Source, TextSource
from mcp_extproc.config.tls import UpstreamTls

__all__ = [
    "ConfigError",
    "EnvoysSource",
    "FileSource",
    "GatewayConfig",
    "Limits",
    "Listen",
    "Loaded",
    "Log",
    "Part",
    "Server",
    "Session",
    "Source",
    "TextSource",
    "Tools",
    "UpstreamTls",
    "load",
    "loads",
    "only_commands",
    "whole",
    "without_programs",
]
