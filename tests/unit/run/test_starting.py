"""Start these, or stop what was started: also where the stopping of one of them breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import FileSource, Loaded, load
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.nursery import Programs
from mcp_extproc.run.process import StartError
from mcp_extproc.run.reload import LiveConfig
from mcp_extproc.run.standalone import StandaloneGateway
from mcp_extproc.run.supervisor import Supervisor
from mcp_extproc.run.workers import Workers
from tests.support.processes import free_port
from tests.support.waiting import eventually


class Bug(Exception):
    """Nobody expects it."""


def told(order: list[str], name: str, error: Exception | None = None) -> Callable[..., Awaitable[None]]:
    """A step that notes that it was taken, and may fail."""

    async def step(*_: Any) -> None:
        order.append(name)
        if error is not None:
            raise error

    return step


@pytest.fixture
def served(tmp_path: Path) -> Loaded:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"{{listen: {{port: {free_port()}}}, servers: {{a: {{url: 'http://a.example/mcp'}}}}}}")
    return load(file, {})


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in its order. The workers start and stop in name only."""
    order: list[str] = []
    monkeypatch.setattr(Supervisor, "open", told([], "open"))
    for name in ("start", "stop_keeping", "stop"):
        monkeypatch.setattr(Supervisor, name, told(order, name))
    monkeypatch.setattr(LiveConfig, "watch", lambda _: order.append("watch"))
    monkeypatch.setattr(LiveConfig, "close", told(order, "close"))
    return order


class TestStandalone:
    @pytest.fixture
    def gateway(self, served: Loaded, tmp_path: Path) -> StandaloneGateway:
        """Its Envoy does nothing but run."""
        envoy = tmp_path / "envoy"
        envoy.write_text("#!/bin/sh\nexec sleep 1000\n")
        envoy.chmod(0o700)
        return StandaloneGateway(
            FileSource(tmp_path / "gateway.yaml", {}), served, str(envoy), "s" * 32, tmp_path / "envoy.log"
        )

    @staticmethod
    def assert_gone(gateway: StandaloneGateway) -> None:
        assert gateway._envoy is not None
        assert gateway._envoy.returncode is not None
        assert not gateway._directory.exists()

    async def test_workers_that_do_not_start(
        self, gateway: StandaloneGateway, order: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Supervisor, "start", told(order, "start", StartError("no")))
        with pytest.raises(StartError):
            await gateway.__aenter__()
        assert order == ["start", "stop_keeping", "stop"]
        self.assert_gone(gateway)

    async def test_a_start_that_is_given_up(self, gateway: StandaloneGateway, order: list[str]) -> None:
        """Envoy never gets ready; Ctrl-C."""
        starting = asyncio.create_task(gateway.__aenter__())
        await eventually(lambda: order, "the workers are started", until=lambda seen: "start" in seen)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert order == ["start", "stop_keeping", "stop"]
        self.assert_gone(gateway)

    @pytest.mark.parametrize("broken", ["close", "stop_keeping", "stop"])
    async def test_the_rest_is_stopped_where_stopping_one_breaks(
        self, gateway: StandaloneGateway, order: list[str], broken: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(StandaloneGateway, "_until_ready", told(order, "ready"))
        monkeypatch.setattr(StandaloneGateway, "_drain", told(order, "drain"))
        owner = LiveConfig if broken == "close" else Supervisor
        monkeypatch.setattr(owner, broken, told(order, broken, Bug()))
        with pytest.raises(Bug):
            async with gateway:
                pass
        assert order == ["start", "ready", "watch", "close", "drain", "stop_keeping", "stop"]
        self.assert_gone(gateway)


@pytest.mark.parametrize(
    ("listen", "section", "key"),
    [
        ("127.0.0.1", "status: {{address: '127.0.0.1:{port}'}}", "status.address"),
        ("127.0.0.1", "status: {{address: 'localhost:{port}'}}", "status.address"),
        ("0.0.0.0", "telemetry: {{metrics: {{address: '127.0.0.1:{port}'}}}}", "telemetry.metrics.address"),
        ("127.0.0.1", "telemetry: {{metrics: {{address: '0.0.0.0:{port}'}}}}", "telemetry.metrics.address"),
    ],
)
async def test_a_port_that_is_given_twice(listen: str, section: str, key: str, tmp_path: Path) -> None:
    """Said before Envoy says that somebody else, who is the gateway itself, has its port."""
    port, file = free_port(), tmp_path / "gateway.yaml"
    file.write_text(
        f"listen: {{address: {listen}, port: {port}}}\nservers: {{a: {{url: 'http://a.example/mcp'}}}}\n"
        + section.format(port=port)
    )
    gateway = StandaloneGateway(FileSource(file, {}), load(file, {}), "true", "s" * 32, tmp_path / "envoy.log")
    with pytest.raises(StartError, match=rf"^{key} has the port that clients connect to, {port}\."):
        await gateway.__aenter__()


class TestWorkers:
    @pytest.fixture
    def workers(self, served: Loaded, tmp_path: Path) -> Workers:
        layout = Layout.in_directory(tmp_path)
        source = FileSource(tmp_path / "gateway.yaml", {})
        return Workers(source, served, Programs({}), layout, [], None, tmp_path, None, 0.0, inherits=False)

    @pytest.mark.parametrize("broken", ["write_watched", "start", "write_bootstrap"])
    async def test_what_does_not_start(
        self, workers: Workers, order: list[str], broken: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def breaks(*_: Any) -> None:
            raise OSError(28, "No space left")

        if broken == "start":
            monkeypatch.setattr(Supervisor, "start", told(order, "start", OSError(28, "No space left")))
        else:
            monkeypatch.setattr(LiveConfig, broken, breaks)
        with pytest.raises(OSError, match="No space left"):
            await workers.__aenter__()
        assert order == (["stop"] if broken == "write_watched" else ["start", "stop"])

    async def test_the_workers_are_stopped_where_the_watcher_is_not(
        self, workers: Workers, order: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LiveConfig, "close", told(order, "close", Bug()))
        with pytest.raises(Bug):
            async with workers:
                pass
        assert order == ["start", "watch", "close", "stop"]
