"""Secrets of OAuth clients that are in files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mcp_extproc.config.config_error import ConfigError, Problem, field
from mcp_extproc.config.credentials import ClientCredentials, TokenExchange
from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.secret_file import read_secret


def secret_files(config: GatewayConfig) -> tuple[Path, ...]:
    """The files, with which the configuration changes."""
    return tuple(Path(file) for _, _, client in _clients(config) if (file := client.client_secret_file) is not None)


def with_client_secrets(config: GatewayConfig, name: str) -> GatewayConfig:
    """With what is in the files. One that is not there is left to whoever serves: where a configuration is only checked, it
    need not be.

    Args:
        config: the configuration.
        name: of its file, for errors.

    Raises:
        ConfigError: what is there can't be used, or read. Nothing of it is repeated.
    """
    problems: list[Problem] = []
    for server, key, client in _clients(config):
        file = Path(client.client_secret_file or "")
        if client.client_secret_file is None or not file.exists():
            continue
        try:
            secret = read_secret(file)
        except ConfigError as error:
            place = field(["servers", server, "credentials", key, "client_secret_file"])
            problems += [Problem(f"the file {one.message}", place) for one in error.problems]
        else:
            config = config.with_client(server, key, client.with_secret(secret))
    if problems:
        raise ConfigError(name, problems, secret_files(config))
    return config


def client_secrets(config: GatewayConfig) -> tuple[str | None, ...]:
    """Those of all clients, in the configuration's order."""
    return tuple(client.secret for _, _, client in _clients(config))


def _clients(config: GatewayConfig) -> Iterator[tuple[str, str, ClientCredentials | TokenExchange]]:
    for server, one in config.servers.items():
        yield from ((server, key, client) for key, client in one.credentials.clients.items())
