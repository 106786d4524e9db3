"""What policies get to know before anything is done: the facts of Envoy's own MCP filter, and headers that tell the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mcp_extproc.gateway.decision import Preview, Stream
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.policy import preview
from mcp_extproc.gateway.relay.identifiers import Cursor, Position
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import envelope
from tests.unit.gateway.support import NOW, Rig, answer, as_reply, judged, message

SAYS = {"jsonrpc": "2.0", "is_mcp_request": True, "status": "mcp_ok"}


def facts(method: str, params: Any = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, **({} if params is None else {"params": params})}
    found = preview.native_facts(envelope.parse(json.dumps(message).encode(), 100, 100_000)).metadata()
    assert found.items() >= SAYS.items()
    assert found["method"] == method
    return {name: value for name, value in found.items() if name not in {*SAYS, "method", "id", "id_json"}}


# What Envoy 1.40's filter writes for the same messages.
@pytest.mark.parametrize(
    ("method", "params", "told"),
    [
        ("tools/call", {"name": "x", "arguments": {"a": 1}}, {"name": "x"}),
        ("tools/call", {"name": 5}, {"name": 5.0}),
        ("tools/call", {"name": True}, {"name": True}),
        ("tools/call", {"name": {"a": 1}}, None),
        ("tools/call", {"name": None}, None),
        ("tools/call", {}, None),
        ("tools/call", None, None),
        ("tools/list", {"name": "x"}, None),
        ("foo/bar", {"name": "x", "uri": "y"}, None),
        ("prompts/get", {"name": "p"}, {"name": "p"}),
        ("resources/read", {"uri": "file:///a", "name": "x"}, {"uri": "file:///a"}),
        ("resources/subscribe", {"uri": "file:///a"}, {"uri": "file:///a"}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "pp"}, "argument": {"name": "q", "value": "v"}},
            {"ref": {"type": "ref/prompt", "name": "pp"}},
        ),
        ("completion/complete", {"ref": "x"}, None),
        ("logging/setLevel", {"level": "info"}, {"level": "info"}),
        (
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
            {"protocolVersion": "2025-11-25", "clientInfo": {"name": "c"}},
        ),
    ],
)
def test_params_by_method(method: str, params: Any, told: Any) -> None:
    assert facts(method, params) == ({} if told is None else {"params": told})


def test_numbers_are_doubles_or_nothing() -> None:
    body = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":0.5}}'
    for token, told in ((b"7", 7.0), (b"1" * 20, float("1" * 20)), (b"1" + b"0" * 400, None), (b'"t"', "t")):
        params = preview.native_facts(envelope.parse(body % token, 100, 100_000)).metadata()["params"]
        assert params.get("progressToken") == told
        assert params["progress"] == 0.5


def test_long_names_are_cut() -> None:
    assert facts("tools/call", {"name": "x" * 5000}) == {"params": {"name": "x" * 1025}}


def test_answers_of_clients() -> None:
    message = envelope.parse(b'{"jsonrpc":"2.0","id":9,"result":{}}', 100, 100_000)
    assert preview.native_facts(message).metadata() == {**SAYS, "id": 9, "id_json": "9", "method": "__jsonrpc_response"}


def test_headers_that_policies_match_on() -> None:
    head = RequestHead("POST", "/mcp", {
        "host": "h", "authorization": "a", "mcp-session-id": "s", "mcp-protocol-version": "v",
        "mcp-name": "spoofed", "mcp-param-x": "spoofed", "x-mcp-server": "spoofed", "x-mcp-anything": "spoofed",
    })  # fmt: skip
    shown = preview.show(head, RequestFacts(method="tools/call", server="alpha", named=("tool", "ä")), "ä")
    assert dict(shown.set_headers) == {
        "mcp-method": "tools/call",
        "mcp-name": "=?base64?w6Q=?=",
        "x-mcp-server": "alpha",
    }
    assert set(shown.remove_headers) == {"mcp-param-x", "x-mcp-anything"}
    nothing = preview.show(head, RequestFacts())
    assert nothing.set_headers == ()
    assert set(nothing.remove_headers) == {"mcp-name", "mcp-param-x", "x-mcp-server", "x-mcp-anything"}


# -- The second visit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a__x", "b__x"])
def test_what_was_judged_is_carried_out(name: str) -> None:
    """The first call of its kind, and those like it."""
    rig = Rig()
    body = message("tools/call", {"name": name})
    for _ in range(2):
        _, head = rig.shown(body)
        assert rig.forward(body, head).server == name[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"x-mcp-server": "b"},
        {"x-mcp-server": None},
        {"mcp-name": "y"},
        {"mcp-name": None},
        {"mcp-method": "tools/list"},
        {"mcp-method": None},
    ],
)
def test_what_was_not_judged_is_refused(changed: dict[str, str | None]) -> None:
    """A worker with another configuration may have shown it, or a filter written another body. Also where a call like it was
    forwarded before."""
    rig = Rig()
    body = message("tools/call", {"name": "a__x"})
    for _ in range(2):
        _, head = rig.shown(body)
        fields = {name: value for name, value in {**head.headers, **changed}.items() if value is not None}
        reply = as_reply(rig.decide(body, replace(head, headers=fields)))
        assert (reply.status, answer(reply)["id"], reply.facts.error) == (200, 7, (-32603, "not_as_judged"))
        rig.forward(body)


def test_another_method_than_the_judged_one_has_no_effect() -> None:
    rig = Rig()
    _, head = rig.shown(message("ping"))
    for body in (message("tools/list"), message("initialize", {"protocolVersion": "2025-11-25"})):
        assert as_reply(rig.decide(body, head)).facts.error == (-32603, "not_as_judged")


def test_messages_without_an_answer_reach_no_server_that_was_not_judged() -> None:
    rig = Rig()
    body = b'{"jsonrpc":"2.0","id":%b,"result":{}}' % rig.own("request", "b", b"1")
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b}}'
    for sent in (body, progress % rig.own("progress", "b", b"1")):
        _, head = rig.shown(sent)
        assert [leg.server for leg in rig.fan_out(sent, head).legs] == ["b"]
        other = replace(head, headers={**head.headers, "x-mcp-server": "a"})
        assert as_reply(rig.decide(sent, other)).status == 202


def test_a_stream_is_not_resumed_at_a_server_that_was_not_judged() -> None:
    rig = Rig()
    last = rig.gateway.identifiers.event_id(rig.view, Position("tools/call", (Cursor("b", 1, "e"),)))
    head = rig.head("GET", accept="text/event-stream", last_event_id=last)
    shown = rig.gateway.preview_head(head, NOW)
    assert isinstance(shown, Preview)
    seen = judged(head, shown)
    assert isinstance(rig.gateway.admit(seen, NOW), Stream)
    other = replace(seen, headers={**seen.headers, "x-mcp-server": "a"})
    assert as_reply(rig.gateway.admit(other, NOW)).status == 405
