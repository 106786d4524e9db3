"""What ``run`` says once it serves. With real agents: tests/servers/test_together.py."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.cli.announcement import adding, destinations
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.endpoint import shown
from mcp_extproc.telemetry.collector.spec import AuditTo, CollectorSpec, Export, PageAt

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


PAGE = "http://127.0.0.1:9901/"
TO = Export("https://collector.example:4318/k3y/v1/traces", is_grpc=False, headers={"x-key": "k3y"})
HOST = "https://collector.example:4318"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, ""),
        ({"page": PageAt(7, has_metrics=False, records_on_demand=True)}, ""),
        ({"page": PageAt(7, has_metrics=True, records_on_demand=True)}, "Metrics at http://127.0.0.1:9901/metrics"),
        ({"metrics_address": "127.0.0.1:0"}, ""),
        ({"traces": TO, "ratio": 0.01}, f"Traces (1 % of them) to {HOST}"),
        (
            {
                "traces": TO, "metrics": TO, "logs": TO, "audit": TO, "metrics_address": "127.0.0.1:9464",
                "audit_file": AuditTo("/var/log/audit.jsonl", 1, 1),
            },
            (
                f"Traces to {HOST}, metrics at http://127.0.0.1:9464/metrics, metrics to {HOST}, access log to {HOST}, "
                f"audit in /var/log/audit.jsonl, audit to {HOST}"
            ),
        ),
    ],
)  # fmt: skip
def test_where_all_of_it_goes(told: dict[str, Any], said: str) -> None:
    """The host alone: a path may have a key in it."""
    assert destinations(CollectorSpec(listen="unix:/c.sock", resource={}, **told), PAGE) == said
