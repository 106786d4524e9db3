"""How one configuration takes the place of another, without an Envoy and without processes. With them:
tests/e2e/test_reload.py."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from mcp_extproc.config import ConfigError, Loaded, load
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run.process import StartError
from mcp_extproc.run.reload import LiveConfig
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from mcp_extproc.run.supervisor import Supervisor


class Workers:
    """Stands for the supervisor."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self.served: list[set[str]] = []
        self.known: list[set[str]] = []
        """What Envoy's files had when the workers were replaced."""
        self.fails = False
        self.gone = asyncio.Event()

    async def restart(self, config: Loaded) -> None:
        self.known.append(clusters(self.files))
        if self.fails:
            raise StartError("it does not start")
        self.served.append(set(config.config.servers))

    async def old_ones_gone(self) -> None:
        await self.gone.wait()


class Stage:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "gateway.yaml"
        self.files = directory
        self.write("a")
        self.workers = Workers(directory)
        layout = replace(Layout.in_directory(directory), admin=None)
        served = load(self.file, {})
        self.live = LiveConfig(self.file, served, None, cast("Supervisor", self.workers), layout, directory, {})
        self.live.write_watched()
        self.live.write_bootstrap()

    def write(self, *servers: str) -> None:
        self.file.write_text(json.dumps({"servers": {name: {"url": f"http://{name}.example/mcp"} for name in servers}}))

    def stamps(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.files.glob("*.json")}

    async def until_known(self, *servers: str) -> None:
        await eventually(lambda: clusters(self.files), f"clusters {servers}", until=lambda seen: seen == set(servers))


def clusters(directory: Path) -> set[str]:
    resources = json.loads((directory / "cds.json").read_text())["resources"]
    return {cluster["name"].removeprefix("mcp/") for cluster in resources} - {"mcp_extproc"}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_the_same_text_again_changes_nothing(stage: Stage) -> None:
    before = stage.stamps()
    stage.write("a")
    await stage.live.reload(even_if_same=False)
    assert (stage.workers.served, stage.stamps()) == ([], before)
    await stage.live.reload(even_if_same=True)
    assert (stage.workers.served, stage.stamps()) == ([{"a"}], before)
    await stage.live.close()


async def test_envoy_knows_a_server_before_the_workers_do_and_after(stage: Stage) -> None:
    stage.write("b")
    await stage.live.reload(even_if_same=False)
    assert stage.workers.known == [{"a", "b"}]
    assert stage.workers.served == [{"b"}]
    assert clusters(stage.files) == {"a", "b"}, "an old worker may still send to it"
    stage.workers.gone.set()
    await stage.until_known("b")
    await stage.live.close()


async def test_a_change_does_not_wait_for_what_is_left_of_the_one_before(stage: Stage) -> None:
    stage.write("b")
    await stage.live.reload(even_if_same=False)
    stage.write("c")
    await stage.live.reload(even_if_same=False)
    assert stage.workers.known == [{"a", "b"}, {"a", "b", "c"}]
    stage.write("a")
    await stage.live.reload(even_if_same=False)
    stage.workers.gone.set()
    await stage.until_known("a")
    await stage.live.close()


async def test_workers_that_do_not_start(stage: Stage) -> None:
    before = {path.name: path.read_bytes() for path in stage.files.glob("*.json")}
    stage.workers.fails = True
    stage.write("b")
    with pytest.raises(StartError):
        await stage.live.reload(even_if_same=False)
    assert {path.name: path.read_bytes() for path in stage.files.glob("*.json")} == before
    assert set(stage.live.served.config.servers) == {"a"}


async def test_a_file_that_is_wrong(stage: Stage) -> None:
    before = stage.stamps()
    stage.file.write_text("servers: {")
    with pytest.raises(ConfigError):
        await stage.live.reload(even_if_same=True)
    stage.file.unlink()
    with pytest.raises(ConfigError):
        await stage.live.reload(even_if_same=True)
    assert (stage.workers.known, stage.stamps()) == ([], before)
