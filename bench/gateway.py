"""This gateway as users start it: with its command line and a configuration file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from bench.children import Child, Measured, Part
from bench.clock import command_of, family
from bench.errors import BenchError
from bench.slices import SERVER

_COMMAND = Path(sys.executable).with_name("mcp-extproc")
_REPOSITORY = Path(__file__).resolve().parent.parent

STDIO_SERVER = (sys.executable, "-m", "bench.stdio_server")
"""The command of the benchmark's stdio server, in the repository's folder."""


def policy(namespace: str) -> dict[str, Any]:
    """An HTTP filter that judges each call by its metadata of this namespace, and denies none of those measured."""
    name = {
        "filter": namespace,
        "path": [{"key": "params"}, {"key": "name"}],
        "value": {"string_match": {"safe_regex": {"regex": ".*__delete_.*"}}},
    }
    denied = {
        "permissions": [{"sourced_metadata": {"metadata_matcher": name}}],
        "principals": [{"any": True}],
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"no-deletion": denied}},
        },
    }


_MOST_CHILDREN = 2000

_PATIENCE = "2m"
"""For children that start at the same time: with less, sessions would begin without them."""

Server = Mapping[str, object]
"""A server in the configuration."""


def http_server(port: int) -> Server:
    """A server at a loopback port."""
    return {"url": f"http://127.0.0.1:{port}/mcp", "tools": _filter()}


def stdio_server(sharing: str) -> Server:
    """A server whose children the gateway starts.

    Args:
        sharing: `session` for one in each session, `shared` for one in all.
    """
    return {
        "command": list(STDIO_SERVER),
        "cwd": str(_REPOSITORY),
        "sharing": sharing,
        "max_processes": _MOST_CHILDREN,
        "start_timeout": _PATIENCE,
        "discovery_timeout": _PATIENCE,
        "tools": _filter(),
    }


def _filter() -> dict[str, list[str]]:
    """One that has to be evaluated for every name, and hides none of those measured."""
    return {"exclude": ["delete_everything"], "excludeRegex": ["^admin_", "_internal$"]}


class Gateway:
    """One gateway: its configuration file, the Envoy bootstrap rendered from it, and the workers."""

    def __init__(
        self,
        directory: Path,
        port: int,
        servers: Mapping[str, Server],
        transport: str = "http2",
        workers: int = 1,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Writes the configuration.

        Args:
            directory: for the file, the sockets and the logs; created if missing, not shared.
            port: where Envoy listens.
            servers: the MCP servers by name.
            transport: value of `serve --transport`.
            workers: number of processes.
            more: of the configuration, in place of what it has by default here.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._file = directory / "gateway.yaml"
        self._transport = transport
        self._sockets = [directory / f"worker{number}.sock" for number in range(1, workers + 1)]
        config = {
            "listen": {"port": port},
            "servers": {name: dict(server) for name, server in servers.items()},
            "session": {"secret": "a secret for benchmarks, known to all"},
            "log": {"access": "", "level": "warning"},  # The other systems don't log accesses either.
            **more,
        }
        self._file.write_text(yaml.safe_dump(config))
        # By default, both commands use the same Unix sockets for Envoy's private listeners.
        self._environment = {"XDG_RUNTIME_DIR": str(directory)}

    def bootstrap(self) -> str:
        """Envoy's configuration. Raises BenchError with the command's error if it failed."""
        where = [word for socket in self._sockets for word in ("--extproc", f"unix:{socket}")]
        done = subprocess.run(
            [_COMMAND, "envoy", "bootstrap", self._file, *where],
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(
                f"mcp-extproc envoy bootstrap failed with status {done.returncode}:\n{done.stderr.strip()}"
            )
        return done.stdout

    def start(self, children: ExitStack) -> dict[str, Child]:
        """The ext_proc workers, by their names in the report."""
        names = ["worker", *(f"worker {number}" for number in range(2, len(self._sockets) + 1))]
        return {
            name: children.enter_context(self._worker(name, socket))
            for name, socket in zip(names, self._sockets, strict=True)
        }

    def _worker(self, name: str, socket: Path) -> Child:
        command: list[str | Path] = [_COMMAND, "serve", self._file, "--transport", self._transport]
        command += ["--listen", f"unix:{socket}"]
        return Child(name, command, self._directory, environment=self._environment)


def with_bridge(serving: Child) -> dict[str, Measured]:
    """What a `serve` for stdio servers consists of. Its supervisor, which does nothing during calls, is part of the worker."""
    return {
        "worker": Part(serving, _without_bridge),
        "bridge": Part(serving, lambda pids: _bridge(pids)[:1]),
        SERVER: Part(serving, lambda pids: _bridge(pids)[1:]),
    }


def _bridge(pids: Iterable[int]) -> tuple[int, ...]:
    """The bridge and its children, or nothing while there is none."""
    return next((family(pid) for pid in pids if b"bridge-process" in command_of(pid)), ())


def _without_bridge(pids: Iterable[int]) -> tuple[int, ...]:
    others = set(_bridge(pids))
    return tuple(pid for pid in pids if pid not in others)
