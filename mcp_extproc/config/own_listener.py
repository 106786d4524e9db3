"""What a gateway with a listener of its own needs beyond what an attached one does."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.load import Loaded
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.source import Source


class OwnListenersSource:
    """A source for an Envoy whose listener for clients is the gateway's own.

    Args:
        source: of the configuration.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def folder(self) -> Path:
        """That of the source."""
        return self._source.folder

    def load(self) -> Loaded:
        """The present configuration.

        Raises:
            ConfigError: it can't be read, is invalid, or :func:`check_own_listener` refuses it.
        """
        loaded = self._source.load()
        check_own_listener(loaded.config, loaded.name)
        return loaded

    def signature(self) -> Hashable:
        """That of the source."""
        return self._source.signature()


def check_own_listener(config: GatewayConfig, name: str) -> None:
    """Check that the gateway's own listener can do what a configuration says, which may be for an attached gateway.

    Args:
        config: the configuration.
        name: of its file, for errors.

    Raises:
        ConfigError: it asks for certificates without TLS.
    """
    if problems := certificates_without_tls(config):
        raise ConfigError(name, problems)


def certificates_without_tls(config: GatewayConfig) -> list[Problem]:
    """A problem for each section that asks for certificates, if the gateway's own listener has no TLS."""
    if config.listen.tls is not None:
        return []
    return [
        Problem("requires listen.tls: certificates come with the handshake", field([*place, "mtls"]))
        for place, section in config.authentications()
        if section.mtls is not None
    ]
