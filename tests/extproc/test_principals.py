"""Who called is part of every request, also where all of its other bytes are those of one before."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping

import grpc
import pytest

from mcp_extproc.contract import PRINCIPAL_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.mcp.sessions import Sealer
from tests.extproc import rig as rigs
from tests.extproc.rig import SECRET, Rig, Transport, call, configuration, seal
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import Ended, RawExchange, common, error_of, facts, headers_message, kind

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


# -- Claims in a header -----------------------------------------------------------------------------------------------

ISSUER = "https://idp.example"
TOKENS = {"oauth": {"issuers": [{"issuer": ISSUER, "audiences": ["x"]}]}, "api_keys": {"file": "k"}}


def with_claims(rig: Rig[FakeUpstreams], subject: str, **said: str) -> pb.ProcessingRequest:
    """A call in alice's session, with claims in the header; `said` by Envoy in metadata."""
    session = seal(Sealer(SECRET), principal=Principal("token", ISSUER, "alice").key)
    claims = base64.urlsafe_b64encode(json.dumps({"iss": ISSUER, "sub": subject}).encode()).rstrip(b"=").decode()
    message = headers_message(rig.fields(mcp_session_id=session, x_mcp_claims=claims))
    for name, value in said.items():
        message.metadata_context.filter_metadata[PRINCIPAL_NAMESPACE].fields[name].string_value = value
    return message


@pytest.fixture
async def oauth(transport: Transport) -> AsyncIterator[Rig[FakeUpstreams]]:
    async with rigs.rig(transport, rigs.fakes, configuration(authentication=TOKENS)) as running:
        yield running


async def test_claims_are_believed_where_envoy_says_that_no_client_wrote_them(oauth: Rig[FakeUpstreams]) -> None:
    """The same bytes are a client's own where it does not, as on a listener of an earlier release that is being drained,
    also once they were known as the filter's. No server gets them either way."""
    for _ in range(2):
        for subject, said, status in (
            ("alice", {"claims": "1"}, 0),
            ("bob", {"claims": "1"}, 404),
            ("alice", {}, 401),
            ("alice", {"other": "1"}, 401),
            ("alice", {"api_key": "bob"}, 404),
            ("alice", {"claims": "1", "api_key": "bob"}, 404),
        ):
            answer = await (await asked(oauth, with_claims(oauth, subject, **said))).receive()
            if status:
                error_of(answer)
                assert answer.immediate_response.status.code == status, (subject, said)
            else:
                assert kind(answer) == "request_headers"
                assert facts(answer)["principal"] == "alice"
                assert "x-mcp-claims" in common(answer).header_mutation.remove_headers


@pytest.mark.parametrize("claims", ["x", "W10", ""])
async def test_claims_that_cannot_be_read_end_the_stream(oauth: Rig[FakeUpstreams], claims: str) -> None:
    message = with_claims(oauth, "alice", claims="1")
    [header] = [one for one in message.request_headers.headers.headers if one.key == "x-mcp-claims"]
    header.raw_value = claims.encode()
    exchange = oauth.client.exchange()
    await exchange.send(message)
    with pytest.raises(Ended) as ended:
        await exchange.receive()
    assert ended.value.code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
