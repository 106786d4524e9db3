"""The compared systems, and their start."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from bench import native
from bench.children import Child
from bench.gateway import Gateway
from bench.upstream import Ports


@dataclass(frozen=True, slots=True)
class Stage:
    """Parameters of a system's start."""

    children: ExitStack
    """Ends the processes."""
    directory: Path
    """For configurations, logs and sockets; short, because the path of a Unix socket is limited."""
    envoy: Path
    upstream: Ports
    servers: tuple[str, ...]
    """Names of the MCP servers, all of them the same upstream."""

    def envoy_child(self, name: str, bootstrap: str) -> Child:
        """An Envoy with one worker thread."""
        file = self.directory / f"{name}.json"
        file.write_text(bootstrap)
        arguments: list[str | Path] = [
            self.envoy,
            "-c",
            file,
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warn",
        ]
        return self.children.enter_context(Child(f"envoy {name}", arguments, self.directory))


@dataclass(frozen=True, slots=True)
class Running:
    """A started system, which may not respond yet."""

    port: int
    processes: Mapping[str, Child]
    """By their names in the report: `envoy`, and `worker` if there is one."""


@dataclass(frozen=True, slots=True)
class System:
    """One system to compare."""

    letter: str
    title: str
    start: Callable[[Stage], Running]
    is_gateway: bool = True
    """Whether it merges all servers, with prefixed names. Otherwise there is one server."""

    def tools(self, servers: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """Client-visible names of the tools, which all servers have."""
        return prefixed(servers, names) if self.is_gateway else tuple(names)


def _native(name: str, render: Callable[[int, int, Sequence[str]], Bootstrap]) -> Callable[[Stage], Running]:
    def start(stage: Stage) -> Running:
        port = free_port()
        bootstrap = render(port, stage.upstream.sessions, stage.servers)
        return Running(port, {"envoy": stage.envoy_child(name, bootstrap.to_json())})

    return start


def _gateway(name: str, transport: str, *, stateless: bool = False, workers: int = 1) -> Callable[[Stage], Running]:
    def start(stage: Stage) -> Running:
        port = free_port()
        servers = dict.fromkeys(stage.servers, stage.upstream.stateless if stateless else stage.upstream.sessions)
        gateway = Gateway(stage.directory / name, port, servers, transport, workers)
        processes = gateway.start(stage.children)
        return Running(port, {"envoy": stage.envoy_child(name, gateway.bootstrap()), **processes})

    return start


def prefixed(servers: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Client-visible names of a gateway for tools that all servers have."""
    return tuple(f"{server}__{name}" for server in servers for name in names)


def free_port() -> int:
    """A free loopback port. Another process may take it before Envoy does, which Envoy's error would show."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


SYSTEMS: Mapping[str, System] = {
    "plain": System("a", "plain Envoy, no filter", _native("plain", native.plain), is_gateway=False),
    "mcp": System("b", "Envoy's mcp filter", _native("mcp", native.parsing), is_gateway=False),
    "router": System("c", "Envoy's mcp + mcp_router", _native("router", native.routing)),
    "gateway": System("d", "this gateway", _gateway("d", "http2")),
    "stateless": System("d", "servers without sessions", _gateway("d-stateless", "http2", stateless=True)),
    "workers": System("d", "two workers", _gateway("d-workers", "http2", workers=2)),
    "grpcio": System("e", "this gateway on grpcio", _gateway("e", "grpcio")),
    "grpcio-stateless": System("e", "servers without sessions", _gateway("e-stateless", "grpcio", stateless=True)),
    "grpcio-workers": System("e", "two workers", _gateway("e-workers", "grpcio", workers=2)),
}


class Variants(NamedTuple):
    """The systems for this gateway on one transport."""

    gateway: str
    stateless: str
    """With servers without sessions."""
    workers: str
    """With two workers."""


TRANSPORTS: Mapping[str, Variants] = {
    "http2": Variants("gateway", "stateless", "workers"),
    "grpcio": Variants("grpcio", "grpcio-stateless", "grpcio-workers"),
}
"""By the values of --transports."""
