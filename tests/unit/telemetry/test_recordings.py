"""What an exchange adds to the metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec
import pytest

from mcp_extproc.telemetry.exchange import Peer
from mcp_extproc.telemetry.instruments import ALL
from mcp_extproc.telemetry.recordings import Labels, recordings_of, series_key
from tests.unit.telemetry.support import CALL

OPERATION = {
    "mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "add",
    "mcp.server": "notes", "mcp.protocol.version": "2025-11-25", "network.protocol.name": "http",
    "network.protocol.version": "1.1", "network.transport": "tcp",
}  # fmt: skip


def recorded(**changes: Any) -> dict[str, tuple[dict[str, str], float]]:
    exchange = msgspec.structs.replace(CALL, **{"listed": True, **changes})
    return {name.name: (dict(labels), value) for name, labels, value in recordings_of(exchange)}


def test_a_call() -> None:
    found = recorded()
    assert found["mcp.server.operation.duration"] == (OPERATION, 0.03)
    there = {**OPERATION, "server.address": "10.0.0.2", "server.port": "8080"}
    del there["network.protocol.version"]
    assert found["mcp.client.operation.duration"] == (there, 0.02)
    names = {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "add",
        "mcp.server": "notes",
        "mcp.endpoint": "readonly",
    }
    assert found["mcp.gateway.requests"] == (names, 1)
    assert len(found) == 3


def test_an_error() -> None:
    found = recorded(reason="tool_error")
    assert found["mcp.server.operation.duration"][0]["error.type"] == "tool_error"
    assert found["mcp.gateway.errors"][0]["error.type"] == "tool_error"
    assert "mcp.gateway.denials" not in found


def test_a_denial() -> None:
    found = recorded(reason="rate_limited", details="local_rate_limited", upstream=None)
    assert found["mcp.gateway.denials"][0]["mcp.rule"] == "rate_limit"
    assert found["mcp.gateway.errors"][0]["error.type"] == "-32603"
    assert "mcp.client.operation.duration" not in found


def test_a_stream_that_was_denied() -> None:
    assert [*recorded(http_method="GET", method=None, reason="invalid_token", status=401)] == ["mcp.gateway.denials"]


def test_what_is_made_up_is_other() -> None:
    found = recorded(listed=False, method="made/up")
    labels, _ = found["mcp.gateway.requests"]
    assert (labels["mcp.method.name"], labels["gen_ai.tool.name"]) == ("other", "other")


def test_a_session_that_is_opened() -> None:
    found = recorded(method="initialize", tool=None, server=None)
    assert found["mcp.gateway.sessions.opened"] == (
        {"mcp.endpoint": "readonly", "mcp.protocol.version": "2025-11-25"},
        1,
    )
    assert "mcp.gateway.sessions.opened" not in recorded(method="initialize", tool=None, reason="internal", code=-32603)


def test_a_session_that_ends() -> None:
    found = recorded(http_method="DELETE", method=None, tool=None, session_seconds=90, client=Peer("/run/a.sock"))
    assert [*found] == ["mcp.server.session.duration"]
    labels, seconds = found["mcp.server.session.duration"]
    assert (labels["network.transport"], seconds) == ("unix", 90)


@pytest.mark.parametrize(
    "changes", [{"http_method": "GET", "method": None}, {"method": "__jsonrpc_response"}, {"batch": 2}]
)
def test_what_adds_nothing(changes: dict[str, Any]) -> None:
    assert recorded(**changes) == {}


def test_every_label_is_in_the_table() -> None:
    allowed = {instrument.name: instrument.labels for instrument in ALL}
    for name, (labels, _) in (recorded() | recorded(reason="denied")).items():
        assert set(labels) <= set(allowed[name])
    assert len(allowed) == len(ALL)


OTHER_VALUES: Mapping[str, Sequence[Any]] = {
    "http_method": ["GET", "DELETE"],
    "http_version": ["2", None],
    "status": [0, 202, 401, 503],
    "client": [None, Peer("/run/a.sock"), Peer("10.9.9.9", 1)],
    "upstream": [None],
    "upstream_peer": [None, Peer("10.0.0.3", 8080), Peer("10.0.0.2", 1)],
    "method": [None, "initialize", "prompts/get", "made/up", "__jsonrpc_response"],
    "protocol_version": ["2025-06-18", None],
    "endpoint": ["other", None],
    "server": ["wiki", None],
    "tool": ["sub", None],
    "prompt": ["greet"],
    "listed": [False],
    "batch": [2],
    "code": [-32602, -32000],
    "reason": [
        "server_error",
        "tool_error",
        "rate_limited",
        "denied",
        "consent_denied",
        "consent_busy",
        "unknown_tool",
    ],
    "details": ["local_rate_limited", "rbac_access_denied_matched_policy[p]", "via_upstream"],
    "decided_by": ["r", "s"],
    "has_another": [True],
    "session_seconds": [1.5],
}
"""Of whatever labels may be made of."""


def changed() -> Iterator[dict[str, Any]]:
    """What differs from a call in three ways at most."""
    each = [(name, value) for name, values in OTHER_VALUES.items() for value in values]
    for count in range(4):
        yield from (
            dict(changes) for changes in combinations(each, count) if len({name for name, _ in changes}) == count
        )


def test_exchanges_with_the_same_key_add_to_the_same_series() -> None:
    """Otherwise values of one would be added up where those of another are."""
    found: defaultdict[object, set[frozenset[tuple[str, Labels]]]] = defaultdict(set)
    for changes in changed():
        exchange = msgspec.structs.replace(CALL, **{"listed": True, **changes})
        found[series_key(exchange)].add(frozenset((one.instrument.name, one.labels) for one in recordings_of(exchange)))
    assert len(found) > 1000
    assert {key: series for key, series in found.items() if len(series) > 1} == {}
