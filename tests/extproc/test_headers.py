"""What of a client's head reaches a server, whose session is used, and what policy and logs get to see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.gateway.headers import PASSED
from mcp_extproc.gateway.legs import Failed, Listed
from mcp_extproc.mcp.sessions import Sealer, UpstreamSession
from tests.extproc.rig import (
    FOR_A_SESSION,
    NOW,
    REPAIR_FIELDS,
    REPAIR_ROUTE,
    SECRET,
    WEATHER,
    Rig,
    assert_more_time,
    call,
    initialize,
    seal,
)
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    Fields,
    common,
    error_of,
    facts,
    kind,
    removed_headers,
    reply_headers,
    request_fields,
    rpc,
    seen_upstream,
    set_headers,
)

SPOOFED = {
    # the gateway's own words
    "x-mcp-server": "weather", "x-mcp-upstream-failure": "UpstreamConnectionFailure", "x-mcp-anything": "1",
    "mcp-method": "tools/list", "mcp-name": "delete_everything", "mcp-param-region": "eu", "last-event-id": "7",
    # the client's credentials
    "authorization": "Bearer of-the-client", "proxy-authorization": "Basic eDp5", "cookie": "session=1", "x-api-key": "k",
    # what other proxies, or Envoy itself, would obey
    "x-envoy-retry-on": "5xx", "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-original-path": "/admin",
    "x-envoy-attempt-count": "2", "x-forwarded-for": "10.0.0.1", "x-forwarded-host": "internal", "forwarded": "for=me",
    "x-http-method-override": "DELETE", "x-original-url": "/admin", "x-real-ip": "10.0.0.1",
    # a browser's
    "origin": "http://localhost", "referer": "http://localhost/", "sec-fetch-site": "cross-site",
}  # fmt: skip

SET_ON_A_CALL = {
    ":path": "/api",
    "accept-encoding": "identity",
    "mcp-method": "tools/call",
    "mcp-name": "sun",
    "mcp-protocol-version": "2025-06-18",
    "mcp-session-id": "w-1",
    "x-mcp-server": "weather",
}


class TestAllowList:
    async def test_a_server_gets_what_is_allowed_and_what_the_gateway_sets(self, rig: Rig[FakeUpstreams]) -> None:
        passed = {
            "accept-language": "de",
            "traceparent": "00-1-2-01",
            "tracestate": "a=b",
            "baggage": "k=v",
            "te": "trailers",
        }
        fields = [*rig.fields(), *passed.items(), *SPOOFED.items()]
        exchange = await rig.posted(call("weather__sun"), fields)
        answer = await exchange.receive()
        assert set_headers(answer) == SET_ON_A_CALL
        assert seen_upstream(fields, answer) == {
            ":authority": "localhost:1975",
            ":method": "POST",
            ":scheme": "http",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "user-agent": "raw/1",
            "x-forwarded-proto": "http",
            "x-request-id": dict(fields)["x-request-id"],
            **passed,
            **SET_ON_A_CALL,
        }

    @pytest.mark.parametrize("name", sorted(SPOOFED))
    async def test_each_spoofed_header_is_removed_or_overwritten(self, rig: Rig[FakeUpstreams], name: str) -> None:
        fields = [*rig.fields(), (name, SPOOFED[name])]
        exchange = await rig.posted(call("weather__sun"), fields)
        answer = await exchange.receive()
        assert seen_upstream(fields, answer).get(name) == SET_ON_A_CALL.get(name)

    @pytest.mark.parametrize("name", ["X-MCP-Server", "Authorization", "Cookie"])
    async def test_whatever_their_case(self, rig: Rig[FakeUpstreams], name: str) -> None:
        """Envoy writes names in lower case, and so does the list of what goes."""
        exchange = await rig.posted(call("weather__sun"), [*rig.fields(), (name, "spoofed")])
        answer = await exchange.receive()
        assert name.lower() in removed_headers(answer) | set(set_headers(answer))

    async def test_a_spoofed_header_given_twice_goes_wholly(self, rig: Rig[FakeUpstreams]) -> None:
        twice = [("cookie", "a=1"), ("cookie", "b=2"), ("x-mcp-server", "a"), ("x-mcp-server", "b")]
        exchange = await rig.posted(call("weather__sun"), [*rig.fields(), *twice])
        answer = await exchange.receive()
        assert "cookie" in removed_headers(answer)
        assert set_headers(answer)["x-mcp-server"] == "weather"

    async def test_pseudo_headers_are_never_removed(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(call(), [*rig.fields(), *SPOOFED.items()])
        answer = await exchange.receive()
        assert not [name for name in removed_headers(answer) if name.startswith(":")]
        assert not removed_headers(answer) & PASSED

    async def test_the_servers_own_credentials_replace_the_clients(self, rig: Rig[FakeUpstreams]) -> None:
        fields = rig.fields(authorization="Bearer of-the-client")
        exchange = await rig.posted(call(), fields)
        answer = await exchange.receive()
        assert seen_upstream(fields, answer)["authorization"] == "Bearer of-the-gateway"

    async def test_a_server_without_sessions_gets_none(self, rig: Rig[FakeUpstreams]) -> None:
        """Neither the client's token nor a version header that the server's version does not know."""
        fields = rig.fields(mcp_session_id=rig.token(weather=UpstreamSession("2025-03-26", None, frozenset({"tools"}))))
        exchange = await rig.posted(call("weather__sun"), fields)
        seen = seen_upstream(fields, await exchange.receive())
        assert "mcp-session-id" not in seen
        assert "mcp-protocol-version" not in seen

    async def test_a_repair_removes_what_the_new_session_lacks(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(REPAIR_FIELDS, route=REPAIR_ROUTE)
        assert_more_time(await exchange.receive(), FOR_A_SESSION)
        session = UpstreamSession("2025-03-26", None, frozenset())
        (await rig.upstreams.next_session()).outcome.set_result(session)
        answer = await exchange.receive()
        assert kind(answer) == "request_headers"
        assert removed_headers(answer) == {"mcp-session-id", "mcp-protocol-version"}

    @pytest.mark.parametrize("spoofed", ["mcp-name", "x-mcp-server", "mcp-method"])
    async def test_spoofed_names_decide_nothing(self, rig: Rig[FakeUpstreams], spoofed: str) -> None:
        exchange = await rig.posted(call("nobody__knows"), [*rig.fields(), (spoofed, "weather__sun")])
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32602
        assert "server" not in facts(answer)


class TestHost:
    async def test_is_the_one_that_envoy_routes_by(self, rig: Rig[FakeUpstreams]) -> None:
        """HTTP/2 lets a client send both; a loopback ``Host`` does not excuse a foreign ``:authority``."""
        exchange = rig.client.exchange()
        await exchange.send_headers(request_fields(authority="evil.example", host="localhost"))
        answer = await exchange.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 403

    async def test_may_be_all_there_is(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(request_fields(authority="", host="localhost"))
        await exchange.send_body(b"junk")
        assert error_of(await exchange.receive())["error"]["code"] == -32700


class TestNames:
    """Names that a client made up reach headers in a form that cannot break them, and policy as they were sent."""

    @pytest.mark.parametrize(
        ("name", "header"),
        [
            ("naïve", "=?base64?bmHDr3Zl?="),
            ("\U0001f600", "=?base64?8J+YgA==?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
            ("a b", "a b"),
        ],
    )
    async def test_hostile(self, rig: Rig[FakeUpstreams], name: str, header: str) -> None:
        exchange = await rig.posted(call(f"gh__{name}"))
        answer = await exchange.receive()
        assert set_headers(answer)["mcp-name"] == header
        assert json.loads(common(answer).body_mutation.body)["params"]["name"] == name
        assert facts(answer)["params"] == {"name": f"gh__{name}"}
        assert facts(answer)["tool"] == name

    @pytest.mark.parametrize("name", ["a\r\nx-admin: 1", "nul\x00", " blank ", "x\u200b"])
    async def test_what_a_server_may_take_for_another_name_is_unknown(self, rig: Rig[FakeUpstreams], name: str) -> None:
        exchange = await rig.posted(call(f"gh__{name}"))
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32602
        assert facts(answer)["params"] == {"name": f"gh__{name}"}

    async def test_half_a_character_is_refused(self, rig: Rig[FakeUpstreams]) -> None:
        """A lone surrogate can be written neither in a header nor in metadata."""
        exchange = await rig.posted(call("gh__A").replace(b"A", rb"\ud800"))
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == -32700
        assert (await exchange.end()).name == "OK"

    @pytest.mark.parametrize("value", [b"\xff\xfe", b"\xc3\xa9", b"\x01"])
    async def test_header_values_of_any_bytes_are_read(self, rig: Rig[FakeUpstreams], value: bytes) -> None:
        fields = [*rig.fields(), ("x-odd", value), ("user-agent", value)]
        exchange = await rig.posted(call(), fields)
        assert "x-odd" in removed_headers(await exchange.receive())


class TestSession:
    """``Mcp-Session-Id`` opens only what was sealed for it."""

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"expires": int(NOW)}, "expired"),
            ({"audience": "/other"}, "of another endpoint"),
            ({"principal": "someone else"}, "of another principal"),
        ],
    )
    async def test_of_someone_else_is_unknown(self, rig: Rig[FakeUpstreams], changes: dict[str, Any], why: str) -> None:
        await self.is_unknown(rig, seal(Sealer(SECRET), **changes), why)

    async def test_of_another_gateway_is_unknown(self, rig: Rig[FakeUpstreams]) -> None:
        await self.is_unknown(rig, seal(Sealer("t" * 32)), "unknown key")

    async def test_tampered_with_is_unknown(self, rig: Rig[FakeUpstreams]) -> None:
        token = rig.token()
        flipped = "A" if token[40] != "A" else "B"
        await self.is_unknown(rig, token[:40] + flipped + token[41:], "tampered")

    @pytest.mark.parametrize("made_up", ["gh-1", "w-1", "x", "*", "\xe9"])
    async def test_made_up_is_unknown(self, rig: Rig[FakeUpstreams], made_up: str) -> None:
        """A server's own session id among them: it is nobody's key to the gateway."""
        await self.is_unknown(rig, made_up, "malformed")

    async def test_given_twice_is_unknown(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(call(), [*rig.fields(), ("mcp-session-id", rig.token())])
        answer = await exchange.receive()
        error_of(answer)
        assert answer.immediate_response.status.code == 404

    async def test_missing_is_told_apart(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.posted(call(id=2), request_fields())
        answer = await exchange.receive()
        assert error_of(answer)["id"] == 2
        assert answer.immediate_response.status.code == 400
        assert facts(answer)["error_reason"] == "session_missing"

    async def test_of_its_owner_is_replaced_by_the_servers_own(self, rig: Rig[FakeUpstreams]) -> None:
        """The token stays between client and gateway."""
        token = rig.token()
        fields = rig.fields(mcp_session_id=token)
        exchange = await rig.posted(call("weather__sun"), fields)
        answer = await exchange.receive()
        assert seen_upstream(fields, answer)["mcp-session-id"] == "w-1"
        assert token.encode() not in answer.SerializeToString()

    @staticmethod
    async def is_unknown(rig: Rig[FakeUpstreams], token: str, why: str) -> None:
        for body in (call(id="s"), rpc("tools/list", id="s"), rpc("ping", id="s")):
            exchange = await rig.posted(body, rig.fields(mcp_session_id=token))
            answer = await exchange.receive()
            assert error_of(answer)["id"] == "s"
            assert answer.immediate_response.status.code == 404
            told = facts(answer)
            assert (told["error_reason"], told["session_error"]) == ("session_unknown", why)
            assert not {"session", "client", "server"} & set(told)
            assert (await exchange.end()).name == "OK"


def short(token: str) -> str:
    return Sealer(SECRET).open(token, audience="/mcp", principal="", now=NOW).id


class TestMetadata:
    """Namespace ``mcp_proxy``, in the words of Envoy's own MCP filter, for what is forwarded and what is not."""

    async def test_of_a_forwarded_call(self, rig: Rig[FakeUpstreams]) -> None:
        token = rig.token()
        exchange = await rig.posted(call(id=7), rig.fields(mcp_session_id=token))
        assert facts(await exchange.receive()) == {
            "client": "raw/1",
            "id": 7,
            "id_json": "7",
            "method": "tools/call",
            "ordinary": True,
            "params": {"name": "gh__issue_read"},
            "protocol_version": "2025-11-25",
            "server": "github",
            "session": short(token),
            "tool": "issue_read",
        }

    @pytest.mark.parametrize(
        ("id", "told", "text"),
        [
            ("seven", "seven", '"seven"'),
            ("7", "7", '"7"'),
            (-7, -7, "-7"),
            (12345678901234567890, "12345678901234567890", "12345678901234567890"),
        ],
    )
    async def test_of_an_id(self, rig: Rig[FakeUpstreams], id: object, told: object, text: str) -> None:
        """``id_json`` is what errors of Envoy's own print, so it keeps type and digits."""
        exchange = await rig.posted(call(id=id))
        metadata = facts(await exchange.receive())
        assert (metadata["id"], metadata["id_json"]) == (told, text)

    async def test_of_what_is_answered_here(self, rig: Rig[FakeUpstreams]) -> None:
        token = rig.token()
        exchange = await rig.posted(rpc("ping"), rig.fields(mcp_session_id=token))
        assert facts(await exchange.receive()) == {
            "answered": True,
            "client": "raw/1",
            "id": 1,
            "id_json": "1",
            "method": "ping",
            "protocol_version": "2025-11-25",
            "session": short(token),
        }

    async def test_of_a_fan_out_that_lacks_a_server(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(rpc("tools/list"))
        work = await rig.upstreams.next_run()
        work.outcome.set_result([Listed("github", ()), Failed("weather", "timeout", "is slow")])
        metadata = facts(await exchange.receive())
        assert metadata["unavailable"] == "weather"
        assert metadata["answered"] is True
        assert rig.counters.value("mcp.upstream_failed", server="weather", reason="timeout") == 1

    async def test_of_an_initialize_that_failed(self, rig: Rig[FakeUpstreams]) -> None:
        exchange = await rig.waiting(initialize(), request_fields())
        failed = [Failed("github", "connect", "is down"), Failed("weather", "connect", "is down")]
        (await rig.upstreams.next_run()).outcome.set_result(failed)
        answer = await exchange.receive()
        error_of(answer)
        assert "mcp-session-id" not in reply_headers(answer)
        assert facts(answer) == {
            "answered": True,
            "client": "raw/1",
            "error_code": -32603,
            "error_reason": "upstream_unavailable",
            "id": 1,
            "id_json": "1",
            "method": "initialize",
            "protocol_version": "2025-11-25",
        }

    @pytest.mark.parametrize(
        ("head", "code", "reason"),
        [
            (request_fields("GET", accept="text/event-stream"), -32600, "no_stream"),
            (request_fields("PUT"), -32600, "http_method"),
            (request_fields("DELETE"), -32600, "session_missing"),
            (request_fields(path="/other"), -32600, "path"),
            (request_fields(authority="evil.example"), -32600, "host"),
            (request_fields(origin="https://evil.example"), -32600, "origin"),
            (request_fields(content_type=""), -32600, "content_type"),
            (request_fields(content_encoding="gzip"), -32600, "content_encoding"),
            (request_fields(accept="text/html"), -32600, "accept"),
            (request_fields(content_length="99999999999"), -32600, "too_large"),
            ([(":scheme", "http")], -32600, "path"),
        ],
        ids=str,
    )
    async def test_of_a_rejected_head(self, rig: Rig[FakeUpstreams], head: Fields, code: int, reason: str) -> None:
        exchange = rig.client.exchange()
        await exchange.send_headers(head)
        answer = await exchange.receive()
        assert error_of(answer)["error"]["code"] == code
        assert facts(answer) == {"answered": True, "error_code": code, "error_reason": reason}
        assert answer.immediate_response.details == f"mcp_{reason}"
        assert rig.counters.snapshot() == {f"mcp.rejected{{reason={reason}}}": 1}

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (b"junk", {"error_code": -32700, "error_reason": "parse_error"}),
            (b'{"jsonrpc":"2.0","id":1}', {"error_code": -32600, "error_reason": "invalid_request"}),
            (
                rpc("no/such", id="u"),
                {"error_code": -32601, "error_reason": "unknown_method", "id": "u", "id_json": '"u"', "method": "no/such"},
            ),
            (
                call("nobody__knows"),
                {"error_code": -32602, "error_reason": "unknown_tool", "id": 1, "id_json": "1", "method": "tools/call",
                 "params": {"name": "nobody__knows"}},
            ),
        ],
    )  # fmt: skip
    async def test_of_a_rejected_body(self, rig: Rig[FakeUpstreams], body: bytes, told: dict[str, Any]) -> None:
        token = rig.token()
        exchange = await rig.posted(body, rig.fields(mcp_session_id=token))
        answer = await exchange.receive()
        error_of(answer)
        session = {"client": "raw/1", "protocol_version": "2025-11-25", "session": short(token)} if "id" in told else {}
        assert facts(answer) == {"answered": True, **told, **session}

    async def test_never_holds_credentials(self, rig: Rig[FakeUpstreams]) -> None:
        fields = rig.fields(
            mcp_session_id=rig.token(github=WEATHER), authorization="Bearer of-the-client", cookie="c=1"
        )
        for body in (call(password="hunter2"), call("nobody__knows", password="hunter2")):
            exchange = await rig.posted(body, fields)
            metadata = (await exchange.receive()).dynamic_metadata.SerializeToString()
            for secret in (b"hunter2", b"of-the-client", b"of-the-gateway", b"w-1", b"c=1"):
                assert secret not in metadata
