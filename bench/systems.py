"""The systems compared, and how each is started."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from bench import native
from bench.children import Child
from bench.gateway import Gateway
from bench.upstream import TOOL


@dataclass(frozen=True, slots=True)
class Stage:
    """What systems are started with."""

    children: ExitStack
    """Ends them."""
    directory: Path
    """For configurations, logs and sockets; short, as the path of a Unix socket must be."""
    envoy: Path
    upstream_port: int

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
    """A system that has been started. It may not answer yet."""

    port: int
    processes: Mapping[str, Child]
    """By the names that the report has them under: `envoy`, and `worker` where there is one."""


@dataclass(frozen=True, slots=True)
class System:
    """One system to compare."""

    letter: str
    title: str
    tools: tuple[str, ...]
    """The names a client calls, in turn."""
    start: Callable[[Stage], Running]


def _native(name: str, render: Callable[[int, int], Bootstrap]) -> Callable[[Stage], Running]:
    def start(stage: Stage) -> Running:
        port = free_port()
        return Running(port, {"envoy": stage.envoy_child(name, render(port, stage.upstream_port).to_json())})

    return start


def _gateway(stage: Stage) -> Running:
    port = free_port()
    gateway = Gateway(stage.directory, port, dict.fromkeys(native.SERVERS, stage.upstream_port))
    worker = stage.children.enter_context(gateway.worker())
    return Running(port, {"envoy": stage.envoy_child("gateway", gateway.bootstrap()), "worker": worker})


def free_port() -> int:
    """A loopback port that nothing listens on. Another process may take it before Envoy does; Envoy's error says so then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_PREFIXED = tuple(f"{server}__{TOOL}" for server in native.SERVERS)

SYSTEMS: Mapping[str, System] = {
    "plain": System("a", "plain Envoy, no filter", (TOOL,), _native("plain", native.plain)),
    "mcp": System("b", "Envoy's mcp filter", (TOOL,), _native("mcp", native.parsing)),
    "router": System("c", "Envoy's mcp + mcp_router", _PREFIXED, _native("router", native.routing)),
    "gateway": System("d", "this gateway", _PREFIXED, _gateway),
}
"""By the names that --systems takes."""
