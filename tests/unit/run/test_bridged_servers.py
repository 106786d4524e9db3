"""What the bridge is told, from what a configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_extproc.address import TcpAddress
from mcp_extproc.bridge.spec import SseServer, StdioServer
from mcp_extproc.config import GatewayConfig
from mcp_extproc.run.bridged_servers import sse_servers, stdio_servers


def test_http_sse_servers() -> None:
    config = GatewayConfig.model_validate({
        "servers": {
            "old": {
                "endpoints": ["old.example:80", "10.0.0.7:81"], "path": "/deep/sse?key=hush", "transport": "sse",
                "headers": {"X-Key": "hush"}, "discovery_timeout": "5s",
            },
            "new": {"url": "http://new.example/mcp"},
            "some": {"url": "http://some.example/mcp", "transport": "auto"},
        },
    })  # fmt: skip
    told = sse_servers(config, TcpAddress("127.0.0.1", 9003))
    assert told.keys() == {"old"}
    assert told["old"] == SseServer(
        authority="old.example:80", upstreams="127.0.0.1:9003", path="/deep/sse?key=hush", headers=(("x-key", "hush"),),
        origins=("http://10.0.0.7:81", "http://old.example:80"), start_timeout=4.0, answer_within=4.0,
        timeout_key="discovery_timeout", request_bytes=4 << 20, event_bytes=10 << 20, most=1000, timeout=300.0,
        lent_after=2.5, idle_timeout=600.0,
    )  # fmt: skip
    assert "hush" not in repr(told["old"])


def test_stdio_servers() -> None:
    """Paths are the bridge's to find, which has no folder of its own."""
    config = GatewayConfig.model_validate({
        "servers": {
            "local": {
                "command": ["tool", "--token", "hush-hush", "/data"], "env": {"A": "1", "B": None}, "env_file": "x.env",
                "cwd": "/srv", "inherit_env": ["C"], "max_processes": 3, "start_timeout": "50s", "discovery_timeout": "5s",
            },
            "new": {"url": "http://new.example/mcp"},
        },
    })  # fmt: skip
    told = stdio_servers(config, Path("/etc/gateway"))
    assert told.keys() == {"local"}
    assert told["local"] == StdioServer(
        authority=config.servers["local"].authority, command=("tool", "--token", "hush-hush", "/data"),
        secret_words=("hush-hush",), env={"A": "1", "B": None}, env_file="/etc/gateway/x.env", cwd="/srv",
        inherit_env=("C",), most=3, start_timeout=50.0, answer_within=4.0, doubted_within=1.0,
        lent_after=2.5, idle_timeout=config.servers["local"].child_idle_timeout, request_bytes=4 << 20, event_bytes=10 << 20,
    )  # fmt: skip
    assert "hush" not in repr(told["local"])


@pytest.mark.parametrize(("discovery", "seconds"), [("500ms", 0.25), ("5s", 2.5), ("60s", 3.0)])
def test_a_list_is_lent_before_its_time_is_over(discovery: str, seconds: float) -> None:
    config = GatewayConfig.model_validate({"servers": {"a": {"command": ["tool"], "discovery_timeout": discovery}}})
    assert stdio_servers(config, Path("/"))["a"].lent_after == seconds
