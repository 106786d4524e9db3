"""What ``run`` says once it serves. With real agents: tests/servers/test_together.py."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.cli.announcement import adding
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import shown

COMMAND = "claude mcp add --transport http gateway http://localhost:1975/mcp"
KEYS: dict[str, Any] = {"keys": {"me": "0123456789abcdef"}}
OAUTH = {"resource": "http://localhost:1975/mcp", "issuers": [{"issuer": "http://localhost:9000"}]}
ONE = {"path": "/mcp", "headers": {"x-tenant": "a b"}}


@pytest.mark.parametrize(
    ("config", "headers"),
    [
        ({}, ""),
        ({"authentication": {"api_keys": KEYS}}, " --header 'x-api-key: YOUR-KEY'"),
        ({"authentication": {"api_keys": {**KEYS, "from": [{"header": "Authorization"}, {"query": "key"}]}}},
         " --header 'authorization: Bearer YOUR-KEY'"),
        ({"authentication": {"api_keys": {**KEYS, "from": [{"query": "key"}]}}}, ""),
        ({"authentication": {"api_keys": KEYS, "anonymous": True}}, ""),
        ({"authentication": {"api_keys": KEYS, "oauth": OAUTH}}, ""),
        ({"main_endpoint": False, "virtual_servers": {"one": ONE}}, " --header 'x-tenant: a b'"),
    ],
)  # fmt: skip
def test_the_command_that_adds_it_has_the_headers_that_it_needs(config: dict[str, Any], headers: str) -> None:
    loaded = GatewayConfig.model_validate({"servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}}, **config})
    assert adding(shown(loaded), "http://localhost:1975/mcp") == COMMAND + headers
