"""What `aigw` reads."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from bench.peers.aigw import resources

SERVERS = {"one": "http://127.0.0.1:7001/one", "two": "http://127.0.0.1:7001/two"}


def specs(*, log: bool) -> dict[str, Any]:
    found = yaml.safe_load_all(resources(1975, SERVERS, "1.40.0", log=log))
    return {f"{each['kind']}/{each['metadata']['name']}": each["spec"] for each in found}


def test_every_server_is_a_backend_of_the_route() -> None:
    found = specs(log=True)
    assert found["Gateway/aigw-run"]["listeners"][0]["port"] == 1975
    backends = found["MCPRoute/mcp-route"]["backendRefs"]
    assert [(each["name"], each["path"]) for each in backends] == [("one", "/one"), ("two", "/two")]
    for each in backends:
        assert found[f"Backend/{each['name']}"] == {"endpoints": [{"ip": {"address": "127.0.0.1", "port": 7001}}]}


@pytest.mark.parametrize("log", [True, False])
def test_its_envoy_is_ours_and_logs_as_it_does(log: bool) -> None:
    proxy = specs(log=log)["EnvoyProxy/envoy-ai-gateway"]
    assert proxy["provider"]["host"] == {"envoyVersion": "1.40.0"}
    assert proxy["concurrency"] == 1
    log_of_calls = proxy["telemetry"]["accessLog"]
    assert ("settings" in log_of_calls, log_of_calls.get("disable", False)) == (log, not log)
