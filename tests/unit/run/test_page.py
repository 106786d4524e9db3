"""What the page is told, and when."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import msgspec
import pytest

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.run import page as module
from mcp_extproc.run.known import Gateway, Texts, texts
from mcp_extproc.run.page import Page
from mcp_extproc.status.known import Known


async def test_attack_a_configuration_is_written_for_people_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many servers that takes as long as the supervisor should do nothing else, and whoever looks brings it about."""
    made = []

    def counted(config: GatewayConfig) -> Texts:
        made.append(config)
        return texts(config)

    monkeypatch.setattr(module, "texts", counted)
    configs = [GatewayConfig.model_validate({"servers": {name: {"url": "http://h/mcp"}}}) for name in ("one", "two")]
    now = configs[0]
    page = Page(TcpAddress("127.0.0.1", 1), lambda: Gateway(now, "gateway.yaml", "run", None, 1))
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    async def told() -> str:
        assert process.stdout is not None
        await page._tell(process, {}, None)
        return msgspec.json.decode(await process.stdout.readline(), type=Known).given

    assert [await told() for _ in range(3)] == ["servers:\n  one:\n    url: http://h/mcp\n"] * 3
    assert made == configs[:1]
    now = configs[1]
    assert "two" in await told()
    assert made == configs
    process.stdin.close()
    await process.wait()
