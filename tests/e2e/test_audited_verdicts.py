"""Every way in which a request is decided, through a real Envoy: its line of the audit, its span, and the metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.e2e.test_policies import OLD, is_, rbac
from tests.e2e.test_policies_authz import cluster, over_grpc
from tests.e2e.test_telemetry import families, lines, values
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import TestGateway, gateway
from tests.support.otlp_receiver import over_http, plain
from tests.support.policy_services import Authorization
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, RESOURCE = "k" * 40, "https://gateway.example/mcp"
TOOLS = ("echo", "hidden", "forbidden", "unwanted", "few")


@dataclass(frozen=True)
class Decided:
    """What is told of a request.

    Attributes:
        verdict: in the audit.
        rule: there, and in the metric of denials.
        error: the JSON-RPC code.
        principal: who it was, where that is proven.
    """

    verdict: str
    rule: str | None = None
    error: str | None = None
    principal: str | None = "bob"


EXPECTED: Mapping[str, Decided] = {
    "echo": Decided("allow", "rest"),
    "hidden": Decided("deny", "no-hidden", "-32602"),
    "forbidden": Decided("deny", "rbac:no-forbidden", "-32600"),
    "unwanted": Decided("deny", "ext_authz", "-32600"),
    "few": Decided("deny", "rate_limit", "-32603"),
    "gone": Decided("error", "rest", "-32603"),
    "no key": Decided("deny", "authentication_required", "-32600", None),
    "wrong key": Decided("deny", "invalid_api_key", "-32600", None),
    "wrong token": Decided("deny", "jwt_authn", "-32600", None),
    "no JSON": Decided("error", None, "-32700"),
}
"""By what was asked for, or what was wrong with it. It is the id of the request's trace, too."""


def trace_of(what: str) -> str:
    return what.encode().hex().ljust(32, "0")


@dataclass(frozen=True)
class Told:
    """All that was told: lines and spans by trace, and the metrics."""

    lines: list[dict[str, Any]]
    spans: dict[str, list[Span]]
    denials: Mapping[str, float]
    errors: Mapping[str, float]


async def ask(gateway: TestGateway, session: str) -> None:
    """All of these requests."""
    headers = {"x_api_key": KEY, "mcp_session_id": session}

    async def call(name: str, what: str, **headers: str) -> None:
        parent = f"00-{trace_of(what)}-b7ad6b7169203331-01"
        await gateway.rpc("tools/call", {"name": name, "arguments": {}}, id=what, traceparent=parent, **headers)

    await call("alpha__few", "the first one", **headers)
    for name in TOOLS:
        await call(f"alpha__{name}", name, **headers)
    await call("beta__echo", "gone", **headers)
    await call("alpha__echo", "no key", mcp_session_id=session)
    await call("alpha__echo", "wrong key", x_api_key="w" * 40, mcp_session_id=session)
    await call("alpha__echo", "wrong token", authorization="Bearer e30.e30.e30", mcp_session_id=session)
    await gateway.send(b"{", traceparent=f"00-{trace_of('no JSON')}-b7ad6b7169203331-01", **headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with AsyncExitStack() as stack:
        alpha = await stack.enter_async_context(ScriptedServer("alpha"))
        alpha.pages = [[tool(name) for name in TOOLS]]
        beta = await stack.enter_async_context(ScriptedServer("beta"))
        idp = await stack.enter_async_context(AuthorizationServer(audience=RESOURCE))
        received = await stack.enter_async_context(over_http())
        service = Authorization(lambda mcp, headers: 403 if mcp.get("tool") == "unwanted" else 0)
        await stack.enter_async_context(service.serving())
        forbidden = {"permissions": [is_(OLD, "tool", "forbidden")], "principals": [{"any": True}]}
        filters = [
            rbac({"action": "DENY", "policies": {"second-by-name": forbidden, "no-forbidden": forbidden}}),
            over_grpc(),
        ]
        audit, address = folder / "audit.jsonl", f"127.0.0.1:{free_port()}"
        running = await stack.enter_async_context(gateway(
            folder, {"alpha": alpha.url, "beta": beta.url},
            telemetry={"traces": {"endpoint": received.url}, "metrics": {"address": address}},
            audit={"file": str(audit)},
            envoy={"http_filters": filters, "clusters": [cluster(service.port, http2=True)]},
            rate_limits=[{"match": {"tool": "few"}, "requests": 1, "per": "hour"}],
            authentication={
                "api_keys": {"keys": {"bob": KEY}},
                "oauth": {"resource": RESOURCE, "issuers": [{"issuer": idp.issuer}]},
            },
            authorization={"rules": [
                {"name": "no-hidden", "action": "deny", "tools": ["hidden"]}, {"name": "rest", "action": "allow"},
            ]},
        ))  # fmt: skip
        session = await running.initialize(x_api_key=KEY)
        await running.rpc("tools/list", x_api_key=KEY, mcp_session_id=session)  # rules judge what is listed
        await beta.stop()
        await ask(running, session)
        await eventually(lambda: lines(audit), "all lines", until=lambda found: len(found) >= len(EXPECTED) + 3)
        wanted = {trace_of(what) for what in EXPECTED}
        await eventually(
            lambda: {span.trace_id.hex() for span in received.spans}, "all spans", until=lambda found: wanted <= found
        )
        found = await families(address)
        traces = {trace: [span for span in received.spans if span.trace_id.hex() == trace] for trace in wanted}
        yield Told(
            list(lines(audit)),
            traces,
            values(found, "mcp_gateway_denials_total", "mcp_rule"),
            values(found, "mcp_gateway_errors_total", "error_type"),
        )


@pytest.mark.parametrize("what", EXPECTED)
async def test_its_line(told: Told, what: str) -> None:
    """Where Envoy refused a request before it was read, neither its method nor its id is known."""
    expected = EXPECTED[what]
    mine = [
        line
        for line in told.lines
        if line.get("jsonrpc.request.id") == what
        or (
            "jsonrpc.request.id" not in line
            and line.get("rule") == expected.rule
            and line["verdict"] == expected.verdict
        )
    ]
    [line] = [line for line in mine if line.get("method") in (None, "tools/call")]
    assert (line["verdict"], line.get("rule"), line.get("error.type"), line.get("principal")) == (
        expected.verdict, expected.rule, expected.error, expected.principal,
    )  # fmt: skip
    assert {"time", "request_id", "duration"} <= line.keys()


@pytest.mark.parametrize("what", EXPECTED)
async def test_its_spans(told: Told, what: str) -> None:
    spans = told.spans[trace_of(what)]
    [span] = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    error = EXPECTED[what].error
    assert plain(span.attributes).get("error.type") == error
    assert (span.status.code == Status.STATUS_CODE_ERROR) == (error is not None)
    assert any(span.kind == Span.SPAN_KIND_CLIENT for span in spans) == (what == "echo"), "no other reached a server"


async def test_metrics(told: Told) -> None:
    denied = [expected.rule for expected in EXPECTED.values() if expected.verdict == "deny"]
    assert told.denials == dict.fromkeys(denied, 1)
    errors = [expected.error for expected in EXPECTED.values() if expected.error]
    assert told.errors == {error: errors.count(error) for error in errors}
