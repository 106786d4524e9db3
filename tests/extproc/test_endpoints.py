"""Which endpoint a request is at is said by Envoy's route, in the metadata of the gRPC call, and by nothing in the request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from mcp_extproc.contract import ENDPOINT_KEY, ROUTE_KEY
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.mcp.sessions import Sealer
from tests.extproc import rig as rigs
from tests.extproc.rig import SECRET, Rig, Transport, call, configuration, seal
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import error_of, facts, headers_message, kind

VIRTUAL = {"all": {"servers": {"github": "all", "weather": "all"}}, "team/streams": {"servers": {"github": "all"}}}


@pytest.fixture
async def rig(transport: Transport) -> AsyncIterator[Rig[FakeUpstreams]]:
    async with rigs.rig(transport, rigs.fakes, configuration(virtual_servers=VIRTUAL)) as running:
        yield running


async def answer(rig: Rig[FakeUpstreams], told: Mapping[str, str], audience: str) -> pb.ProcessingResponse:
    """The answer to a call with a session of an endpoint. All of the request's bytes are the same each time."""
    token = _tokens.setdefault(audience, seal(Sealer(SECRET), audience=audience))
    exchange = rig.client.exchange(**told)
    await exchange.send(headers_message(rig.fields(mcp_session_id=token)))
    await exchange.send_body(call())
    return await exchange.receive()


_tokens: dict[str, str] = {}

ROUTES: list[tuple[dict[str, str], str]] = [
    ({}, "/mcp"),
    ({ROUTE_KEY: "mcp/endpoint"}, "/mcp"),
    ({ROUTE_KEY: "mcp/endpoint/streams"}, "/mcp"),
    ({ROUTE_KEY: "mcp/virtual/all"}, "all"),
    ({ROUTE_KEY: "mcp/virtual/all/events"}, "all"),
    ({ROUTE_KEY: "mcp/virtual/team:streams"}, "team/streams"),
    ({ENDPOINT_KEY: "all"}, "all"),
    ({ENDPOINT_KEY: "-"}, "/mcp"),
    ({ENDPOINT_KEY: ""}, "/mcp"),
]


@pytest.mark.parametrize(("told", "audience"), ROUTES, ids=str)
async def test_the_route_says_the_endpoint(rig: Rig[FakeUpstreams], told: dict[str, str], audience: str) -> None:
    for _ in range(2):  # a head that is known is known with its endpoint
        found = await answer(rig, told, audience)
        assert kind(found) == "request_headers"
        assert facts(found).get("endpoint", "/mcp") == audience
        for other in {"/mcp", "all", "team/streams"} - {audience}:
            refused = await answer(rig, told, other)
            error_of(refused)
            assert refused.immediate_response.status.code == 404


@pytest.mark.parametrize("route", ["mcp/virtual/gone", "mcp/other", "", "their/route"])
async def test_a_route_of_no_endpoint_is_refused(rig: Rig[FakeUpstreams], route: str) -> None:
    refused = await answer(rig, {ROUTE_KEY: route}, "/mcp")
    error_of(refused)
    assert refused.immediate_response.status.code == 404
