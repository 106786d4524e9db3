"""What agentgateway reads."""

from __future__ import annotations

import yaml

from bench.peers.agentgateway import configuration


def test_every_server_is_a_target() -> None:
    found = yaml.safe_load(configuration(3000, {"one": "http://127.0.0.1:7001/one"}))
    (bind,) = found["binds"]
    assert bind["port"] == 3000
    (backend,) = bind["listeners"][0]["routes"][0]["backends"]
    assert backend["mcp"]["targets"] == [{"name": "one", "mcp": {"host": "http://127.0.0.1:7001/one"}}]
    assert found["config"]["adminAddr"] == "off"
