"""What is known of a response travels in metadata, to a worker that knows nothing but the secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from mcp_extproc.contract import READS_ALL, READS_EVENTS, READS_KEY
from mcp_extproc.gateway.authorization.items import DEFAULTS
from mcp_extproc.gateway.decision import Forward
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.effects import Unsubscribe
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay import awaited
from mcp_extproc.gateway.relay.awaited import ID_KEY, NotAnnounced
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.mcp.uris import MAX_URI_CHARS
from mcp_extproc.upstreams.client import MAX_SESSION_ID_CHARS
from tests.unit.gateway.support import NOW, Rig, config, message, upstream

TRACE = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)


def told(forward: Forward, context: RequestContext) -> dict[str, str]:
    expected = forward.response
    assert expected is not None
    assert expected.id is not None
    return {
        **awaited.told(expected),
        READS_KEY: READS_ALL if expected.reads_json else READS_EVENTS,
        ID_KEY: expected.id.decode(),
        **awaited.told_besides(expected, forward.undoing, context),
    }


def other(rig: Rig, secret: str = "s" * 32) -> Gateway:
    """Another worker."""
    return Gateway(rig.config, secret, SessionMemory())


@pytest.mark.parametrize("id", ["1", '"7"', '"\\u00e4"'])
@pytest.mark.parametrize("progress", ["", ',"_meta":{"progressToken":"p"}'])
def test_any_worker_knows_what_to_expect(id: str, progress: str) -> None:
    rig = Rig()
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a__x"{progress}}}}}'.encode()
    forward = rig.forward(body)
    expected = forward.response
    assert expected is not None
    found = rig.gateway.awaited(told(forward, RequestContext(TRACE, "p1"))).expected
    for gateway in (rig.gateway, other(rig, rig.secret)):
        read = gateway.awaited(told(forward, RequestContext(TRACE, "p1")))
        assert read.context == RequestContext(TRACE, "p1", expected.id)
        assert read.undoing == ()
        assert read.expected.relay.view == expected.relay.view
        assert read.expected == msgspec.structs.replace(
            expected, relay=read.expected.relay, identifiers=read.expected.identifiers
        )
    assert found.relay is rig.gateway.awaited(told(forward, RequestContext())).expected.relay, "it is made once"


LINKS = {"content": [{"type": "resource_link", "uri": uri, "name": "x"} for uri in ("f:x", "a+f:x", "b+f:x", "ui://x")]}
ELICITATION = {"mode": "url", "elicitationId": "1", "url": "https://x", "message": "m"}


@pytest.mark.parametrize(
    "said",
    [{"result": LINKS}, {"error": {"code": -32042, "message": "m", "data": {"elicitations": [ELICITATION]}}}],
    ids=["links", "elicitations"],
)
@pytest.mark.parametrize("left", ["a", "ac"])
@pytest.mark.parametrize("prefix", ["b", "bee", ""])
@pytest.mark.parametrize("resources", ["prefixed", "unprefixed"])
def test_a_worker_without_the_server_reads_the_same(resources: str, prefix: str, left: str, said: Any) -> None:
    """Running calls outlive the removal of their server."""
    servers: dict[str, Mapping[str, Any]] = {"a": {}, "b": {"prefix": prefix}, "c": {}}
    rig = Rig(config(servers, resources=resources), client_flags=frozenset({"elicitation.url"}))
    forward = rig.call(f"{prefix}__x" if prefix else "x")
    after = config({name: servers[name] for name in left}, resources=resources)
    text, seen = json.dumps({"jsonrpc": "2.0", "id": 7, **said}).encode(), []
    for gateway in (rig.gateway, Gateway(after, rig.secret, SessionMemory())):
        expected = gateway.awaited(told(forward, RequestContext())).expected
        assert expected.server == "b"
        seen.append(expected.relay.message("b", expected.session, text, expected.call).down)
    assert seen[0] == seen[1] != text


@pytest.mark.parametrize("own", ["x:1", "x:" + "\U00020000" * (MAX_URI_CHARS - 4)])
def test_a_subscription_is_taken_back_by_whoever_reads_the_refusal(own: str) -> None:
    id = "i" * MAX_SESSION_ID_CHARS
    rig = Rig(
        upstreams={"a": upstream("a", capabilities=("resources", "resources.subscribe"), id=id), "b": upstream("b")}
    )
    forward = rig.forward(message("resources/subscribe", {"uri": f"a+{own}"}))
    [taken_back] = forward.undoing
    assert isinstance(taken_back, Unsubscribe)
    [undone] = rig.gateway.awaited(told(forward, RequestContext())).undoing
    assert isinstance(undone, Unsubscribe)
    assert (undone.session.server, undone.session.anchor, undone.uri) == ("a", taken_back.session.anchor, own)


def test_nobody_else_reads_it() -> None:
    """It names the session with the server."""
    rig = Rig(upstreams={"a": upstream("a", id="secret-session"), "b": upstream("b")})
    metadata = told(rig.call("a__x"), RequestContext())
    assert "secret-session" not in str(metadata)
    with pytest.raises(NotAnnounced, match="not sealed here"):
        other(rig, "x" * 32).awaited(metadata)


@pytest.mark.parametrize("key", ["of", "undo"])
@pytest.mark.parametrize(("blob", "why"), [(b"\x02\x90", "version"), (b"\x96", "version"), (b"\x01\x01", "layout")])
def test_what_another_release_tells_is_not_read(key: str, blob: bytes, why: str) -> None:
    rig = Rig()
    metadata = told(rig.call("a__x"), RequestContext()) | {key: rig.gateway.identifiers.hidden(blob)}
    with pytest.raises(NotAnnounced, match=why):
        rig.gateway.awaited(metadata)


@pytest.mark.parametrize("missing", ["of", READS_KEY])
def test_what_is_not_told(missing: str) -> None:
    rig = Rig()
    metadata = {key: text for key, text in told(rig.call("a__x"), RequestContext()).items() if key != missing}
    with pytest.raises(NotAnnounced):
        rig.gateway.awaited(metadata)


LINKS = {"content": [{"type": "resource_link", "uri": f"f:{name}", "name": name} for name in ("open", "secret")]}


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ([{"action": "deny", "resources": ["*secret"]}, {"action": "allow"}], ["a+f:open"]),
        (
            [{"action": "deny", "resources": ["*secret"], "when": "request.mcp.backend == 'a'"}, {"action": "allow"}],
            ["a+f:open"],
        ),
        # Who reads it knows of no claims.
        ([{"action": "deny", "resources": ["*"], "when": "request.auth.jwt.claims.x == 1"}, {"action": "allow"}], []),
    ],
)
def test_whoever_reads_it_leaves_out_what_its_client_may_not_see(rules: list[dict[str, Any]], left: list[str]) -> None:
    rig = Rig(config(authorization={"rules": rules}))
    rig.memory.remember_listed(rig.session, "tools/list", {"a": {"x": DEFAULTS}}, NOW)
    forward = rig.call("a__x")
    metadata = told(forward, RequestContext())
    assert metadata[READS_KEY] == READS_ALL
    text = json.dumps({"jsonrpc": "2.0", "id": 7, "result": LINKS}).encode()

    def links(gateway: Gateway) -> list[str]:
        expected = gateway.awaited(metadata).expected
        relayed = expected.relay.message("a", upstream("a"), text, expected.call)
        return [block["uri"] for block in json.loads(relayed.down or b"")["result"]["content"]]

    assert links(other(rig, rig.secret)) == left
    stricter = config(authorization={"rules": [*rules, {"action": "deny"}]})
    assert links(Gateway(stricter, rig.secret, SessionMemory())) == [], "judged by other rules"
