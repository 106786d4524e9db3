"""This gateway as its users start it: by its command line, from a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from bench.children import Child
from bench.errors import BenchError

_COMMAND = Path(sys.executable).with_name("mcp-extproc")


class Gateway:
    """One gateway: its configuration file, Envoy's bootstrap rendered from it, and the worker."""

    def __init__(self, directory: Path, port: int, servers: Mapping[str, int]) -> None:
        """Writes the configuration.

        Args:
            directory: for the file and the sockets.
            port: where Envoy listens.
            servers: loopback ports of the MCP servers by name.
        """
        self._directory = directory
        self._file = directory / "gateway.yaml"
        config = {
            "listen": {"port": port},
            "servers": {name: {"url": f"http://127.0.0.1:{server}/mcp"} for name, server in servers.items()},
            "session": {"secret": "a secret for benchmarks, known to all"},
            "log": {"access": "", "level": "warning"},  # nor do the other systems log accesses
        }
        self._file.write_text(yaml.safe_dump(config))
        # Envoy and the worker meet on the Unix sockets that both commands put there by default.
        self._environment = {"XDG_RUNTIME_DIR": str(directory)}

    def bootstrap(self) -> str:
        """Envoy's configuration. Raises BenchError with what the command said if it failed."""
        done = subprocess.run(
            [_COMMAND, "envoy", "bootstrap", self._file],
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

    def worker(self) -> Child:
        """The ext_proc worker, started."""
        command: list[str | Path] = [_COMMAND, "serve", self._file]
        return Child("worker", command, self._directory, environment=self._environment)
