"""agentgateway: a proxy of its own in Rust, without Envoy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.children import Child
from bench.peers.peer import Peer, urls
from bench.peers.workshop import Release, Workshop, without
from bench.systems import Running, Stage, free_port

_RELEASE = Release(
    "https://github.com/agentgateway/agentgateway", "v1.4.1", "163ea2146acb7b82082acea30ed691b29079095f", "2026-07-29"
)


class Agentgateway(Peer):
    """One process."""

    name = "agentgateway"
    title = "agentgateway"
    version = _RELEASE.tag.removeprefix("v")
    released = _RELEASE.date
    remark = "Rust, a proxy of its own: no Envoy. Built as its release. Without request log; stateful, as by default."

    def missing(self) -> str:
        """Rust, Git, and CMake for its TLS library."""
        return without("cargo", "git", "cmake")

    def built(self, workshop: Workshop) -> Path:
        """One binary."""
        return workshop.built(self.name, _RELEASE.tag)

    def build(self, workshop: Workshop) -> None:
        """From its repository."""
        target = self.built(workshop)
        if target.exists():
            return
        folder = workshop.source(self.name, _RELEASE)
        (folder / "rust-toolchain.toml").unlink(missing_ok=True)  # one that rustup would download
        output = workshop.root / "cargo-target" / self.name
        cargo = {"CARGO_HOME": workshop.root / "cargo", "CARGO_TARGET_DIR": output}
        build = ["cargo", "build", "--release", "--locked", "--package", "agentgateway-app", f"--jobs={workshop.jobs}"]
        workshop.run(self.name, build, folder, cargo)
        target.parent.mkdir(parents=True, exist_ok=True)
        (output / "release" / "agentgateway").rename(target)

    def named(self, server: str, tool: str) -> str:
        """With its separator."""
        return f"{server}_{tool}"

    def start(self, stage: Stage, built: Path) -> Running:
        """One process."""
        port = free_port()
        file = stage.directory / "agentgateway.yaml"
        file.write_text(configuration(port, urls(stage.servers, stage.upstream.sessions)))
        process = Child(self.name, [built, "--file", file], stage.directory, environment={"RUST_LOG": "warn"})
        return Running(port, {"gateway": stage.children.enter_context(process)})


def configuration(port: int, servers: Mapping[str, str]) -> str:
    """Its file.

    Args:
        port: of the clients' listener.
        servers: addresses by name.
    """
    targets = [{"name": name, "mcp": {"host": url}} for name, url in servers.items()]
    backend: dict[str, Any] = {"mcp": {"targets": targets}}
    closed = dict.fromkeys(("adminAddr", "statsAddr", "readinessAddr"), "off")
    configuration = {
        "config": {**closed, "logging": {"level": "warn", "filter": "false"}},
        "binds": [{"port": port, "listeners": [{"routes": [{"backends": [backend]}]}]}],
    }
    return yaml.safe_dump(configuration)
