"""What the supervisor tells the page of the gateway, as JSON on a line. It holds no secrets."""

from __future__ import annotations

from typing import Final

import msgspec

WATCHED: Final = b"watched\n"
UNWATCHED: Final = b"unwatched\n"
"""What the page tells the supervisor: whether anybody looks."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server.

    Attributes:
        kind: how it is reached: ``http``, ``sse``, ``stdio``.
        address: ``host:port`` or program.
        replicas: how many addresses it has.
        cluster: Envoy's name for it.
        prefix: what its names start with, for clients.
        state: ``ready``, ``starting``, ``failed``; ``None`` while nobody has asked it.
        version: of the protocol, as negotiated.
        tools: how many clients see.
        problem: what is wrong.
    """

    name: str
    kind: str
    address: str
    replicas: int
    cluster: str
    prefix: str
    state: str | None = None
    version: str | None = None
    tools: int | None = None
    problem: str | None = None


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and how the page reaches it: as any client on this machine, through the listener for clients.

    Attributes:
        name: empty for the main one.
        url: where clients find it.
        headers: that its requests have to have.
        is_reachable: whether the page can call it: nobody knows a value of a header that a regular expression has to match.
        needs: what callers have to bring: ``oauth``, ``key``, ``certificate``, in any combination.
        key_header: header of an API key.
        host, port: of the listener, as seen from here.
        certificate: path of the listener's certificate; ``None`` for plain HTTP.
    """

    name: str
    url: str
    headers: dict[str, str]
    is_reachable: bool
    needs: list[str]
    key_header: str | None
    host: str
    port: int
    certificate: str | None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        version: of this program.
        started: seconds since the epoch.
        file: name of the configuration's file.
        command: ``run`` or ``serve``.
        ways: the endpoints; none where the listener is not the gateway's.
        servers: in the configuration's order.
        asked: when servers were asked, in seconds since the epoch; ``None`` before.
        given: the configuration as it was written, masked, as YAML.
        effective: the same with all defaults.
        workers: how many there are.
    """

    version: str
    started: float
    file: str
    command: str
    ways: list[Way]
    servers: list[Server]
    asked: float | None
    given: str
    effective: str
    workers: int
