"""What the page is told of a gateway: without anything secret."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.run.known import Gateway, known, texts
from mcp_extproc.status.known import Known
from mcp_extproc.telemetry.collector.main import MESSAGE_BYTES
from mcp_extproc.upstreams.probe import ServerStatus

SERVERS = {
    "notes": {
        "url": "https://notes.example/v1/sk-1f9c0a7e55d04c11/mcp?key=hunter2222",
        "headers": {"authorization": "Bearer t0ken"},
    },
    "files": {"command": ["npx", "-y", "server-files", "--api-key", "s3cr3tk3y99"], "env": {"TOKEN": "zzzz"}},
    "old": {"url": "http://10.0.0.1:8080/sse", "transport": "sse", "prefix": ""},
    "many": {"endpoints": ["10.0.0.1:80", "10.0.0.2:80"]},
}  # fmt: skip
SECRETS = ("sk-1f9c0a7e55d04c11", "hunter2222", "t0ken", "s3cr3tk3y99", "zzzz", "k" * 40, "s" * 40)


def told(port: int | None = 1975, statuses: Any = None, **sections: Any) -> Known:
    config = GatewayConfig.model_validate({"servers": SERVERS, "session": {"secret": "s" * 40}, **sections})
    return known(Gateway(config, "gateway.yaml", "run", port, 2), texts(config), 1.0, statuses or {}, None)


def test_servers() -> None:
    status = ServerStatus("notes", "notes.example:443", "notes", "2025-11-25", 3, None, "ready")
    notes, files, old, many = told(statuses={"notes": status}).servers
    assert (notes.kind, notes.address, notes.cluster, notes.prefix) == (
        "http",
        "notes.example:443",
        "mcp/notes",
        "notes__",
    )
    assert (notes.state, notes.version, notes.tools) == ("ready", "2025-11-25", 3)
    assert (files.kind, files.address, files.state, files.tools) == ("stdio", "npx", None, None)
    assert (old.kind, old.prefix) == ("sse", "")
    assert many.replicas == 2


def test_nothing_secret_is_told() -> None:
    keys: dict[str, Any] = {"authentication": {"api_keys": {"keys": {"bob": "k" * 40}}}}
    text = msgspec.json.encode(told(**keys)).decode()
    assert not [secret for secret in SECRETS if secret in text]
    assert "bob" in text


@pytest.mark.parametrize(
    ("sections", "needs", "header"),
    [
        ({}, [], None),
        ({"authentication": {"api_keys": {"keys": {"bob": "k" * 40}}}}, ["key"], "x-api-key"),
        ({"authentication": {"anonymous": True, "api_keys": {"keys": {"bob": "k" * 40}}}}, [], None),
        ({"listen": {"tls": {"certificate": "/c", "key": "/k", "client_ca": "/a"}}}, ["certificate"], None),
    ],
)
def test_what_callers_need(sections: Any, needs: list[str], header: str | None) -> None:
    [way] = told(**sections).ways
    assert (way.needs, way.key_header) == (needs, header)


def test_how_endpoints_are_reached() -> None:
    sections = {
        "listen": {"address": "0.0.0.0"},
        "virtual_servers": {"readonly": {"servers": {"notes": {}}, "headers": {"x-team": "a"}}},
    }
    main, virtual = told(4000, **sections).ways
    assert (main.name, main.url, main.host, main.port) == ("", "http://localhost:4000/mcp", "127.0.0.1", 4000)
    assert (virtual.name, virtual.headers) == ("readonly", {"x-team": "a"})
    assert told(None).ways == [], "somebody else's listener may be anywhere"
    by_pattern: dict[str, Any] = {
        "virtual_servers": {"readonly": {"servers": {"notes": {}}, "headers": {"x-team": {"regex": "^a"}}}}
    }
    assert [way.is_reachable for way in told(**by_pattern).ways] == [True, False]


def test_a_large_configuration_is_cut() -> None:
    servers = {f"s{number}": {"url": f"http://{'a' * 50}{number}.example/mcp"} for number in range(3000)}
    found = told(servers=servers)
    assert len(msgspec.json.encode(found)) < MESSAGE_BYTES
    assert found.effective.endswith("# and so on")
