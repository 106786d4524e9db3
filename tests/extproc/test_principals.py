"""Who called is part of every request, also where all of its other bytes are those of one before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.mcp.sessions import Sealer
from tests.extproc import rig as rigs
from tests.extproc.rig import SECRET, Rig, Transport, call, configuration, seal
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import RawExchange, error_of, facts, headers_message, kind

NAMESPACE = "their.filter"
AUTHENTICATION = {"existing": {"subject": [NAMESPACE, "user"], "scopes": [NAMESPACE, "scopes"]}}


@pytest.fixture
async def rig(transport: Transport) -> AsyncIterator[Rig[FakeUpstreams]]:
    async with rigs.rig(transport, rigs.fakes, configuration(authentication=AUTHENTICATION)) as running:
        yield running


def head(rig: Rig[FakeUpstreams], token: str, verified: Mapping[str, str], **headers: str) -> pb.ProcessingRequest:
    message = headers_message(rig.fields(mcp_session_id=token, **headers))
    for name, value in verified.items():
        message.metadata_context.filter_metadata[NAMESPACE].fields[name].string_value = value
    return message


async def asked(rig: Rig[FakeUpstreams], message: pb.ProcessingRequest) -> RawExchange:
    exchange = rig.client.exchange()
    await exchange.send(message)
    await exchange.send_body(call())
    return exchange


def session_of(subject: str) -> str:
    return seal(Sealer(SECRET), principal=Principal("existing", "", subject).key)


async def test_the_same_bytes_of_another_one_are_not_its(rig: Rig[FakeUpstreams]) -> None:
    """A head that is known is known with its principal, and so is the session."""
    token = session_of("alice")
    for _ in range(2):
        for verified, status in (({"user": "alice"}, 0), ({"user": "bob"}, 404), ({}, 401), ({"user": ""}, 401)):
            answer = await (await asked(rig, head(rig, token, verified))).receive()
            if status:
                error_of(answer)
                assert answer.immediate_response.status.code == status
            else:
                assert kind(answer) == "request_headers"
                assert facts(answer)["principal"] == "alice"


async def test_scopes_are_of_each_request(rig: Rig[FakeUpstreams]) -> None:
    """The session goes on, whatever they are."""
    token = session_of("alice")
    for scopes in ("a b", "", "a"):
        exchange = await asked(rig, head(rig, token, {"user": "alice", "scopes": scopes}))
        assert kind(await exchange.receive()) == "request_headers"


async def test_what_a_client_says_of_itself_is_nothing(rig: Rig[FakeUpstreams]) -> None:
    token = session_of("alice")
    spoofed = {"x_mcp_client": "alice", "x_user": "alice", "authorization": "Bearer alice", "x_verified": "alice"}
    answer = await (await asked(rig, head(rig, token, {}, **spoofed))).receive()
    error_of(answer)
    assert answer.immediate_response.status.code == 401
