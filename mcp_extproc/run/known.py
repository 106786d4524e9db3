"""What the status page is told of a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec

from mcp_extproc import __version__
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import Endpoint, endpoints, url_of
from mcp_extproc.config.model import start_of
from mcp_extproc.envoy.layout import cluster_name
from mcp_extproc.status.known import Known, Server, Way
from mcp_extproc.upstreams.probe import ServerStatus, address_of

_MOST_CHARACTERS: Final = 1 << 20
"""Of a configuration that is shown."""

_FROM_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens on every address


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway as it is now.

    Attributes:
        config: what it serves.
        file: name of the configuration's file.
        command: that started it.
        port: of its listener for clients; ``None`` where that is somebody else's.
        workers: how many there are.
    """

    config: GatewayConfig
    file: str
    command: Literal["run", "serve"]
    port: int | None
    workers: int


class Texts(NamedTuple):
    """A configuration for people, as in :class:`Known`. With a thousand servers they take a third of a second to make."""

    given: str
    effective: str


def texts(config: GatewayConfig) -> Texts:
    """Those of a configuration, without anything that may be secret."""
    from mcp_extproc.config.writing import masked  # with YAML, which a configuration in JSON does not need

    return Texts(_cut(masked(config)), _cut(masked(config, defaults=True)))


def known(
    gateway: Gateway, texts: Texts, started: float, statuses: Mapping[str, ServerStatus], asked: float | None
) -> Known:
    """All of it.

    Args:
        gateway: the gateway.
        texts: of its configuration.
        started: when it was, in seconds since the epoch.
        statuses: what servers have answered, by name.
        asked: when.
    """
    config = gateway.config
    return Known(
        version=__version__,
        started=started,
        file=gateway.file,
        command=gateway.command,
        ways=[] if gateway.port is None else [_way(config, one, gateway.port) for one in endpoints(config)],
        servers=[_server(config, name, statuses.get(name)) for name in config.servers],
        asked=asked,
        given=texts.given,
        effective=texts.effective,
        workers=gateway.workers,
    )


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}\n# and so on"


def _server(config: GatewayConfig, name: str, status: ServerStatus | None) -> Server:
    server = config.servers[name]
    is_sse = server.transport == "sse"
    found = Server(
        name=name,
        kind="stdio" if server.command is not None else "sse" if is_sse else "http",
        address=address_of(config, name),
        replicas=max(1, len(server.addresses)),
        cluster=cluster_name(name),
        prefix=start_of(name, server, config.separator),
    )
    if status is None:
        return found
    return msgspec.structs.replace(
        found, state=status.state, version=status.version, tools=status.tools, problem=status.problem
    )


def _way(config: GatewayConfig, endpoint: Endpoint, port: int) -> Way:
    listen = config.listen.model_copy(update={"port": port})
    needs, key_header = _needs(endpoint)
    if listen.tls is not None and listen.tls.client_ca is not None:
        needs = [*needs, "certificate"]
    return Way(
        name=endpoint.name,
        url=url_of(endpoint, listen),
        headers={name: value for name, value in endpoint.headers.items() if isinstance(value, str)},
        is_reachable=all(isinstance(value, str) for value in endpoint.headers.values()),
        needs=needs,
        key_header=key_header,
        host=_FROM_HERE.get(listen.address, listen.address),
        port=port,
        certificate=None if listen.tls is None else listen.tls.certificate,
    )


def _needs(endpoint: Endpoint) -> tuple[list[str], str | None]:
    """What callers have to bring, and the header of an API key."""
    section = endpoint.authentication
    if section is None or section.anonymous:
        return [], None
    methods = {
        "oauth": section.oauth, "key": section.api_keys, "certificate": section.mtls, "external": section.external,
    }  # fmt: skip
    keys = section.api_keys
    header = None if keys is None else next((one.header for one in keys.sources if one.header is not None), None)
    return [name for name, method in methods.items() if method is not None], header
