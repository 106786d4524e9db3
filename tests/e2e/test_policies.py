"""Policies that read MCP, through real Envoy: the same verdicts as behind Envoy's own MCP filter, and what a client gets."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mcp_extproc.run.process import StartError
from tests.e2e.conftest import StartGateway
from tests.support.gateway import ACCEPT, TestGateway
from tests.support.native_mcp import native
from tests.support.scripted import Handler, ScriptedServer, fixed, tool

RBAC = "envoy.filters.http.rbac"
TYPE = "type.googleapis.com/envoy.extensions.filters.http"
NEW, OLD = "envoy.filters.http.mcp", "mcp_proxy"

DENIED = {
    "code": -32600,
    "message": "A policy of the gateway refuses this request.",
    "data": {"reason": "denied", "status": 403},
}


def is_(namespace: str, path: str, *values: str) -> dict[str, Any]:
    """A permission as Envoy's documentation of its MCP filter writes it: metadata at a path is one of these values."""
    exact: list[dict[str, Any]] = [{"string_match": {"exact": value}} for value in values]
    return {
        "sourced_metadata": {
            "metadata_matcher": {
                "filter": namespace,
                "path": [{"key": key} for key in path.split(".")],
                "value": exact[0] if len(exact) == 1 else {"or_match": {"value_matchers": exact}},
            }
        }
    }


def policies(namespace: str, safe: str) -> dict[str, Any]:
    """The policies of Envoy's documentation: three methods and one tool for all, the other tools for admins."""
    anyone = [{"any": True}]
    admins = [{"header": {"name": "x-user-role", "string_match": {"exact": "system:serviceaccount:default:admin"}}}]
    return {
        "policies": {
            "allow-anyone-to-initialize-and-list-tools": {
                "permissions": [
                    {
                        "and_rules": {
                            "rules": [is_(namespace, "method", "initialize", "notifications/initialized", "tools/list")]
                        }
                    }
                ],
                "principals": anyone,
            },
            "allow-admins-to-call-tools": {
                "permissions": [{"and_rules": {"rules": [is_(namespace, "method", "tools/call")]}}],
                "principals": admins,
            },
            "allow-users-to-call-safe-tools": {
                "permissions": [
                    {
                        "and_rules": {
                            "rules": [is_(namespace, "method", "tools/call"), is_(namespace, "params.name", safe)]
                        }
                    }
                ],
                "principals": anyone,
            },
        }
    }


def denying(namespace: str) -> dict[str, Any]:
    """The other way round: what is named is forbidden."""
    forbidden = [
        is_(namespace, "params.name", "alpha__delete"),
        is_(namespace, "params.uri", "alpha+file:///secret"),
        is_(namespace, "params.ref.name", "alpha__hidden"),
        is_(namespace, "params.level", "debug"),
        is_(namespace, "method", "prompts/list", "__jsonrpc_response", "notifications/cancelled"),
    ]
    return {"action": "DENY", "policies": {"forbidden": {"permissions": forbidden, "principals": [{"any": True}]}}}


def rbac(rules: dict[str, Any] | None) -> dict[str, Any]:
    return {"name": RBAC, "typed_config": {"@type": f"{TYPE}.rbac.v3.RBAC", **({"rules": rules} if rules else {})}}


def per_route(rules: dict[str, Any]) -> dict[str, Any]:
    return {RBAC: {"@type": f"{TYPE}.rbac.v3.RBACPerRoute", "rbac": {"rules": rules}}}


def request(method: str, params: Any = None, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, **({} if params is None else {"params": params}), **more}


def notification(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}


ADMIN = {"x-user-role": "system:serviceaccount:default:admin"}
INITIALIZE = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}

TABLE: dict[str, tuple[Any, dict[str, str]]] = {
    "initialize": (request("initialize", INITIALIZE), {}),
    "initialized": (notification("notifications/initialized"), {}),
    "list": (request("tools/list"), {}),
    "list, other": (request("prompts/list"), {}),
    "resources": (request("resources/list"), {}),
    "templates": (request("resources/templates/list"), {}),
    "ping": (request("ping"), {}),
    "safe": (request("tools/call", {"name": "alpha__get_weather", "arguments": {"city": "Ulm"}}), {}),
    "safe, id of text": (request("tools/call", {"name": "alpha__get_weather"}, id="7"), {}),
    "safe, large": (request("tools/call", {"name": "alpha__get_weather", "arguments": {"a": "b" * 4000}}), {}),
    "safe, arguments first": (
        request("tools/call", {"arguments": {"name": "alpha__delete"}, "name": "alpha__get_weather"}), {}
    ),
    "unsafe": (request("tools/call", {"name": "alpha__delete"}), {}),
    "unsafe, for admins": (request("tools/call", {"name": "alpha__delete"}), ADMIN),
    "unsafe, safe in the arguments": (
        request("tools/call", {"name": "alpha__delete", "arguments": {"name": "alpha__get_weather"}}), {}
    ),
    "unsafe, spoofed": (
        request("tools/call", {"name": "alpha__delete"}),
        {"mcp-name": "get_weather", "x-mcp-server": "alpha", "mcp-method": "tools/list", "x-mcp-method": "ping"},
    ),
    "unsafe, not quite": (request("tools/call", {"name": "alpha__get_weather "}), {}),
    "unknown": (request("tools/call", {"name": "alpha__nothing"}), {}),
    "unknown, for admins": (request("tools/call", {"name": "nobody__nothing"}), ADMIN),
    "no name": (request("tools/call", {}), {}),
    "no params": (request("tools/call"), {}),
    "name of a wrong type": (request("tools/call", {"name": 5}), {}),
    "no name, for admins": (request("tools/call", {}), ADMIN),
    "prompt of that name": (request("prompts/get", {"name": "alpha__get_weather"}), {}),
    "other method with that name": (request("tools/list", {"name": "alpha__delete"}), {}),
    "unknown method with that name": (request("tools/frobnicate", {"name": "alpha__delete"}), {}),
    "resource": (request("resources/read", {"uri": "alpha+file:///a"}), {}),
    "secret resource": (request("resources/read", {"uri": "alpha+file:///secret"}), {}),
    "secret subscription": (request("resources/subscribe", {"uri": "alpha+file:///secret"}), {}),
    "completion": (
        request("completion/complete", {
            "ref": {"type": "ref/prompt", "name": "alpha__hidden"}, "argument": {"name": "a", "value": ""}
        }),
        {},
    ),
    "level": (request("logging/setLevel", {"level": "debug"}), {}),
    "other level": (request("logging/setLevel", {"level": "error"}), {}),
    "cancelled": (notification("notifications/cancelled", {"requestId": 4}), {}),
    "unknown notification": (notification("notifications/whatever"), {}),
    "response": ({"jsonrpc": "2.0", "id": 9, "result": {}}, {}),
    "unknown method": (request("foo/bar"), {}),
}  # fmt: skip


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """One that has everything."""
    offers: dict[str, Any] = {name: {} for name in ("tools", "prompts", "resources", "completions", "logging")}
    names = ("get_weather", "delete")
    async with ScriptedServer("alpha", capabilities=offers, pages=[[tool(name) for name in names]]) as server:
        for method in (
            "prompts/get",
            "resources/read",
            "resources/subscribe",
            "completion/complete",
            "logging/setLevel",
        ):
            server.on[method] = fixed(result={})
        yield server


def is_denied(status: int, body: bytes) -> bool:
    """Whether a policy refused the request, in either form."""
    return status == 403 or (status == 200 and b'"reason":"denied"' in body)


async def verdict(url: str, message: Any, headers: dict[str, str], session: str, http: aiohttp.ClientSession) -> bool:
    fields = {"content-type": "application/json", "accept": ACCEPT, **headers}
    if not (isinstance(message, dict) and message.get("method") == "initialize"):
        fields["mcp-session-id"] = session
    async with http.post(url, data=json.dumps(message), headers=fields) as response:
        return not is_denied(response.status, await response.read())


RULES = {
    "allowing": lambda namespace: policies(namespace, "alpha__get_weather"),
    "denying": denying,
}


@pytest.mark.parametrize("namespace", [OLD, NEW])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("on_route", [False, True], ids=["filter", "route"])
async def test_the_same_verdicts_as_behind_envoys_own_filter(
    tmp_path: Path, start: StartGateway, server: ScriptedServer, rules: str, namespace: str, on_route: bool
) -> None:
    written = RULES[rules](namespace)
    filters = [rbac(None if on_route else written)]
    routes = per_route(written) if on_route else {}
    envoy = {"http_filters": filters, "typed_per_filter_config": routes}
    ours, theirs = {}, {}
    async with (
        native(tmp_path, filters, routes, new_namespace=namespace == NEW) as url,
        start({"alpha": server.url}, envoy=envoy) as gateway,
    ):
        session = await gateway.initialize("2025-03-26")
        for name, (message, headers) in TABLE.items():
            theirs[name] = await verdict(url, message, headers, "s", gateway.http)
            ours[name] = await verdict(gateway.url, message, headers, session, gateway.http)
        for method in ("GET", "DELETE"):
            fields = {"accept": "text/event-stream", "mcp-session-id": session}
            async with gateway.http.request(method, url, headers=fields) as answer:
                theirs[method] = not is_denied(answer.status, b"")
            async with gateway.http.request(method, gateway.url, headers=fields) as answer:
                ours[method] = not is_denied(answer.status, b"")
    assert ours == theirs
    assert set(ours.values()) == {True, False}
    assert ours["safe"]
    assert not ours["secret resource"]
    if rules == "allowing":
        assert not ours["unsafe"]
        assert ours["unsafe, for admins"]


async def test_what_is_denied_never_happens(start: StartGateway, server: ScriptedServer) -> None:
    """Policies come before anything is done: no server hears of it, nothing is remembered of it, no session ends by it."""
    rules = policies(OLD, "alpha__get_weather")
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}) as gateway:
        session = await gateway.initialize()
        before = len(server.received)
        for method, params in (
            ("tools/call", {"name": "alpha__delete"}),
            ("resources/subscribe", {"uri": "alpha+file:///a"}),
            ("logging/setLevel", {"level": "debug"}),
            ("prompts/list", None),
        ):
            answer = await gateway.rpc(method, params, id="x", mcp_session_id=session)
            assert (answer.status, answer.json) == (200, {"jsonrpc": "2.0", "id": "x", "error": DENIED})
        deleted = await gateway.send(None, method="DELETE", mcp_session_id=session)
        assert (deleted.status, deleted.json) == (403, {"jsonrpc": "2.0", "error": DENIED})
        assert len(server.received) == before
        assert (await gateway.call(session, "alpha__get_weather")).result["content"]


async def test_ids_survive_and_notifications_get_a_status(start: StartGateway, server: ScriptedServer) -> None:
    """A request gets an error with its id, digit for digit. Who waits for none gets HTTP's own word (transports, Sending)."""
    rules = policies(OLD, "alpha__get_weather")
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}) as gateway:
        session = await gateway.initialize()
        for id in (b"0", b"-12", b"12345678901234567890123", b'"7"', b'"\\u00e4\\"\\n"', b'""'):
            body = b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % id
            answer = await gateway.send(body, mcp_session_id=session)
            assert answer.status == 200
            assert answer.body.startswith(b'{"jsonrpc":"2.0","id":%b,"error":' % id)
            assert answer.headers["content-type"] == "application/json"
            assert answer.error == DENIED
        for message in (
            notification("notifications/cancelled", {"requestId": 1}),
            {"jsonrpc": "2.0", "id": 9, "result": {}},
        ):
            answer = await gateway.send(json.dumps(message).encode(), mcp_session_id=session)
            assert (answer.status, answer.json) == (403, {"jsonrpc": "2.0", "error": DENIED})


async def test_native_status(start: StartGateway, server: ScriptedServer) -> None:
    rules = policies(OLD, "alpha__get_weather")
    async with start(
        {"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}, errors={"status": "native"}
    ) as gateway:
        session = await gateway.initialize()
        answer = await gateway.call(session, "alpha__delete", id=5)
        assert (answer.status, answer.json) == (403, {"jsonrpc": "2.0", "id": 5, "error": DENIED})


async def test_the_log_says_which_policy_it_was(start: StartGateway, server: ScriptedServer) -> None:
    """And the client does not learn it."""
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(denying(OLD))]}) as gateway:
        session = await gateway.initialize()
        answer = await gateway.call(session, "alpha__delete")
        assert b"forbidden" not in answer.body
        entry = await gateway.logged(mcp_name="alpha__delete")
        assert entry["response_code_details"] == "rbac_access_denied_matched_policy[forbidden]"
        assert (entry["mcp.server"], entry["gen_ai.tool.name"], entry["status"]) == ("alpha", "delete", 200)


async def test_each_message_of_a_batch_is_judged(start: StartGateway, server: ScriptedServer) -> None:
    rules = policies(OLD, "alpha__get_weather")
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}) as gateway:
        session = await gateway.initialize("2025-03-26")
        messages = [
            request("tools/call", {"name": "alpha__get_weather"}, id=1),
            request("tools/call", {"name": "alpha__delete"}, id=2),
            request("prompts/list", id=3),
        ]
        answer = await gateway.send(json.dumps(messages).encode(), mcp_session_id=session)
        assert answer.status == 200
        got = {message["id"]: message for message in json.loads(answer.body)}
        assert "result" in got[1]
        assert got[2]["error"] == got[3]["error"] == DENIED
        role = {"x_user_role": "system:serviceaccount:default:admin"}
        answer = await gateway.send(json.dumps(messages).encode(), mcp_session_id=session, **role)
        assert ["result" in message for message in json.loads(answer.body)] == [True, True, False]


async def test_a_batch_can_not_make_up_an_address(start: StartGateway, server: ScriptedServer) -> None:
    """Its messages come from where it came from, as Envoy says, and not as the client does."""
    trusted = {"remote_ip": {"address_prefix": "9.9.9.9", "prefix_len": 32}}
    rules = {"policies": {
        "trusted": {"permissions": [is_(OLD, "method", "tools/call")], "principals": [trusted]},
        "anyone": {"permissions": [is_(OLD, "method", "initialize")], "principals": [{"any": True}]},
    }}  # fmt: skip
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}) as gateway:
        session = await gateway.initialize("2025-03-26")
        message = request("tools/call", {"name": "alpha__delete"})
        for body in (message, [message]):
            answer = await gateway.send(json.dumps(body).encode(), mcp_session_id=session, x_forwarded_for="9.9.9.9")
            got = json.loads(answer.body)
            assert (got if body is message else got[0])["error"] == DENIED


async def test_a_batch_does_not_change_what_headers_say(start: StartGateway, server: ScriptedServer) -> None:
    """Neither bytes beyond ASCII nor headers that are there twice: a rule for an exact value holds for each message."""
    rules = {"action": "DENY", "policies": {"team": {
        "permissions": [
            {"and_rules": {"rules": [
                is_(OLD, "method", "tools/call"),
                {"header": {"name": "x-team", "string_match": {"exact": value}}},
            ]}}
            for value in ("caf\xe9", "b", "c, d")
        ],
        "principals": [{"any": True}],
    }}}  # fmt: skip
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}) as gateway:
        session = await gateway.initialize("2025-03-26")
        message = request("tools/call", {"name": "alpha__delete"})
        for sent, denied in ((["caf\xe9"], True), (["a", "b"], True), (["c, d"], True), (["c", "d"], False)):
            for body in (message, [message]):
                headers = [
                    ("content-type", "application/json"), ("accept", ACCEPT), ("mcp-session-id", session),
                    *(("x-team", value) for value in sent),
                ]  # fmt: skip
                async with gateway.http.post(gateway.url, data=json.dumps(body), headers=headers) as response:
                    got = await response.json()
                assert ((got if body is message else got[0]).get("error") == DENIED) is denied, (sent, got)


async def test_a_policy_for_one_server(start: StartGateway, server: ScriptedServer, beta: ScriptedServer) -> None:
    """``typed_per_filter_config`` of a server, in front of the endpoint's."""
    beta.pages = [[tool("delete")]]
    everything = {"@type": f"{TYPE}.rbac.v3.RBACPerRoute"}
    endpoint = per_route({"action": "DENY", "policies": {"x": {
        "permissions": [is_(OLD, "tool", "delete")], "principals": [{"any": True}]}}})  # fmt: skip
    for mode in ("all", "calls"):
        async with start(
            {"alpha": server.url, "beta": {"url": beta.url, "typed_per_filter_config": {RBAC: everything}}},
            envoy={"http_filters": [rbac(None)], "typed_per_filter_config": endpoint, "policies": mode},
        ) as gateway:
            session = await gateway.initialize()
            assert (await gateway.call(session, "alpha__delete")).error == DENIED
            assert (await gateway.call(session, "beta__delete")).result["content"]


async def test_calls_only(start: StartGateway, server: ScriptedServer) -> None:
    """``policies: calls``: one visit; what is answered in front of the filters is not judged, and calls as they leave."""
    rules = {"policies": {"x": {"permissions": [is_(OLD, "tool", "get_weather")], "principals": [
        {"header": {"name": "mcp-name", "string_match": {"exact": "get_weather"}}}]}}}  # fmt: skip
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)], "policies": "calls"}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.rpc("ping", mcp_session_id=session)).result == {}
        assert (await gateway.call(session, "alpha__get_weather")).result["content"]
        assert (await gateway.call(session, "alpha__delete")).error == DENIED
        await assert_spoofing_changes_nothing(gateway, session)


async def assert_spoofing_changes_nothing(gateway: TestGateway, session: str) -> None:
    spoofed = {"mcp_name": "get_weather", "x_mcp_server": "alpha", "mcp_method": "ping"}
    answer = await gateway.rpc("tools/call", {"name": "alpha__delete"}, mcp_session_id=session, **spoofed)
    assert answer.error == DENIED


async def test_headers_that_policies_match_on_tell_the_truth(start: StartGateway, server: ScriptedServer) -> None:
    """With ``policies: all`` too, where all other headers are still the client's."""
    named = {"header": {"name": "mcp-name", "string_match": {"exact": "get_weather"}}}
    no_name = {"not_id": {"header": {"name": "mcp-name", "present_match": True}}}
    rules = {
        "policies": {
            "safe": {"permissions": [is_(OLD, "method", "tools/call")], "principals": [named]},
            "rest": {"permissions": [{"not_rule": is_(OLD, "method", "tools/call")}], "principals": [no_name]},
        }
    }
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "alpha__get_weather")).result["content"]
        assert (await gateway.rpc("ping", mcp_session_id=session, mcp_name="x")).result == {}
        await assert_spoofing_changes_nothing(gateway, session)


async def test_bare_names_are_judged_by_their_server(start: StartGateway, server: ScriptedServer) -> None:
    rules = {"action": "DENY", "policies": {"x": {
        "permissions": [{"and_rules": {"rules": [is_(OLD, "server", "alpha"), is_(OLD, "tool", "delete")]}}],
        "principals": [{"any": True}]}}}  # fmt: skip
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(rules)]}, bare_names=True) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "get_weather")).result["content"]
        assert (await gateway.call(session, "delete")).error == DENIED
        assert (await gateway.call(session, "nothing")).error["code"] == -32602


async def test_lists_that_differ_between_the_visits_lead_past_no_policy(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer
) -> None:
    """A server that lists the tool only when it is asked for the second time, and one that lists it the first time. The third
    is away, so that nothing of it is remembered."""
    for server, read in ((alpha, 2), (beta, 1)):
        server.on["tools/list"] = _listing("delete", server, read)
    rules = {"action": "DENY", "policies": {"x": {
        "permissions": [{"and_rules": {"rules": [is_(OLD, "server", "alpha"), is_(OLD, "tool", "delete")]}}],
        "principals": [{"any": True}]}}}  # fmt: skip
    servers = {"alpha": alpha.url, "beta": beta.url, "away": "http://127.0.0.1:1/mcp"}
    async with start(servers, envoy={"http_filters": [rbac(rules)]}, bare_names=True) as gateway:
        session = await gateway.initialize()
        for _ in range(3):
            await gateway.call(session, "delete")
        assert alpha.calls("tools/call") == []
        assert len(beta.calls("tools/call")) == 1


def _listing(name: str, server: ScriptedServer, read: int) -> Handler:
    async def answer(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        listed = [tool(name)] if len(server.calls("tools/list")) == read else []
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": listed}})

    return answer


async def test_no_server_is_asked_before_policies_have_judged(start: StartGateway, server: ScriptedServer) -> None:
    rules = {"action": "DENY", "policies": {"x": {
        "permissions": [is_(OLD, "method", "tools/call", "resources/read")], "principals": [{"any": True}]}}}  # fmt: skip
    changed: dict[str, Any] = {"bare_names": True, "resources": "unprefixed"}
    servers = {"alpha": server.url, "beta": server.url}
    async with start(servers, envoy={"http_filters": [rbac(rules)]}, **changed) as gateway:
        session = await gateway.initialize()
        before = len(server.received)
        assert (await gateway.call(session, "delete")).error == DENIED
        assert (await gateway.rpc("resources/read", {"uri": "x:y"}, mcp_session_id=session)).error == DENIED
        assert len(server.received) == before


async def test_streams_pass_the_policies(start: StartGateway, server: ScriptedServer) -> None:
    """A GET that is allowed opens a stream, a DELETE ends the session: both without a method."""
    async with start({"alpha": server.url}, envoy={"http_filters": [rbac(denying(OLD))]}) as gateway:
        session = await gateway.initialize()
        fields = {"accept": "text/event-stream", "mcp-session-id": session}
        async with gateway.http.get(gateway.url, headers=fields) as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert (await gateway.send(None, method="DELETE", mcp_session_id=session)).status == 204
        assert (await gateway.rpc("ping", mcp_session_id=session)).status == 404


def jwt_authn(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """As in Envoy's documentation of its MCP filter: the subject becomes a header, whatever the client sent in it."""
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": _b64(numbers.x.to_bytes(32)), "y": _b64(numbers.y.to_bytes(32))}
    provider = {
        "issuer": "https://issuer",
        "local_jwks": {"inline_string": json.dumps({"keys": [jwk]})},
        "claim_to_headers": [{"claim_name": "sub", "header_name": "x-user-role"}],
        # The messages of a batch are authenticated like any other. No server gets the token.
        "forward": True,
    }
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{TYPE}.jwt_authn.v3.JwtAuthentication",
            "providers": {"issuer": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
        },
    }


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key: ec.EllipticCurvePrivateKey, subject: str) -> str:
    """A JWT (ES256)."""
    parts: list[dict[str, Any]] = [{"alg": "ES256"}, {"iss": "https://issuer", "sub": subject, "exp": 2**40}]
    text = ".".join(_b64(json.dumps(part).encode()) for part in parts)
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_b64(r.to_bytes(32) + s.to_bytes(32))}"


async def test_authentication_in_front(start: StartGateway, server: ScriptedServer) -> None:
    """The documentation's whole example: who calls is proved by a token, and decides which tools there are.

    401 stays 401, with what OAuth discovery needs, and neither gateway nor server are asked.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    filters = {"http_filters_before": [jwt_authn(key)], "http_filters": [rbac(policies(OLD, "alpha__get_weather"))]}
    async with start({"alpha": server.url}, envoy=filters) as gateway:
        answer = await gateway.rpc("initialize", INITIALIZE)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.error == {"code": -32600, "message": "Authentication is required, or was refused."}
        assert server.received == []
        for subject, allowed in (("system:serviceaccount:default:admin", True), ("user", False)):
            who = {"authorization": f"Bearer {token(key, subject)}", "x_user_role": ADMIN["x-user-role"]}
            opened = await gateway.rpc("initialize", INITIALIZE, **who)
            session = opened.headers["mcp-session-id"]
            call = {"name": "alpha__delete"}
            answer = await gateway.rpc("tools/call", call, mcp_session_id=session, **who)
            assert ("result" in answer.json) is allowed
            batch = json.dumps([request("tools/call", call)]).encode()
            [part] = json.loads((await gateway.send(batch, mcp_session_id=session, **who)).body)
            assert ("result" in part) is allowed
        assert all("authorization" not in received.headers for received in server.received)


async def test_faults(start: StartGateway, server: ScriptedServer) -> None:
    """Any other filter that answers by itself: a request that was read gets a JSON-RPC error, whatever the status was."""
    fault = {
        "name": "envoy.filters.http.fault",
        "typed_config": {
            "@type": f"{TYPE}.fault.v3.HTTPFault",
            "abort": {"http_status": 503, "percentage": {"numerator": 100}},
            "headers": [{"name": "mcp-name", "string_match": {"exact": "delete"}}],
        },
    }
    async with start({"alpha": server.url}, envoy={"http_filters": [fault]}) as gateway:
        session = await gateway.initialize()
        answer = await gateway.call(session, "alpha__delete", id="f")
        assert (answer.status, answer.json["id"], answer.error["data"]) == (200, "f", {"reason": "refused"})
        assert "FaultInjected" in answer.error["message"]
        assert (await gateway.call(session, "alpha__get_weather")).result["content"]


async def test_a_misspelled_key_is_no_policy(start: StartGateway, alpha: ScriptedServer) -> None:
    """In files that it watches, Envoy would pass over the key, and the policy would let everything pass."""
    rbac = {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rulez": {"action": "DENY", "policies": {"all": {"permissions": [{"any": True}]}}},
        },
    }
    with pytest.raises(StartError, match="rulez"):
        async with start({"alpha": alpha.url}, envoy={"http_filters": [rbac]}):
            pass
