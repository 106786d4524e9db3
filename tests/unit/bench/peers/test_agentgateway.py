"""What agentgateway reads, and from where its dependencies come."""

from __future__ import annotations

import tomllib

import yaml

from bench.peers.agentgateway import configuration, from_registry

MANIFEST = """[patch.crates-io]
schemars = { git = "https://example.com/schemars", rev = "f3e45a5" }
http-serde = { git = "https://example.com/http-serde", rev = "c2e482b" }

[workspace]
members = ["crates/one"]

[workspace.dependencies]
bytes = "1.11"
google-cloud-auth = { git = "https://example.com/google-cloud/", rev = "5805811", default-features = false, features = [
    "idtoken",
] }
schemars = { version = "=1.2.1", git = "https://example.com/schemars", rev = "f3e45a5", features = [
    "arcstr1",
    "chrono04",
] }
wiremock = { version = "0.6", features = ["tls"] }
"""


def test_all_dependencies_come_from_the_registry() -> None:
    changed = from_registry(MANIFEST)
    assert "git =" not in changed
    assert "wiremock" not in changed
    found = tomllib.loads(changed)
    assert found["workspace"]["members"] == ["crates/one"]
    assert found["workspace"]["dependencies"] == {
        "bytes": "1.11",
        "google-cloud-auth": {"version": "1", "default-features": False, "features": ["idtoken"]},
        "schemars": {"version": "=1.2.1", "features": ["chrono04"]},
    }
    assert from_registry(changed) == changed


def test_every_server_is_a_target() -> None:
    found = yaml.safe_load(configuration(3000, {"one": "http://127.0.0.1:7001/one"}))
    (bind,) = found["binds"]
    assert bind["port"] == 3000
    (backend,) = bind["listeners"][0]["routes"][0]["backends"]
    assert backend["mcp"]["targets"] == [{"name": "one", "mcp": {"host": "http://127.0.0.1:7001/one"}}]
    assert found["config"]["adminAddr"] == "off"
