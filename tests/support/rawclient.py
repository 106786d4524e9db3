"""Envoy's side of ext_proc, message by message: what a real Envoy sends, and what none ever would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mcp_extproc.address import Address
from mcp_extproc.contract import LOST_HEADER, NAMESPACE, RESPONSE_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from tests.support.waiting import PATIENCE

DEADLINE = PATIENCE
"""Seconds that any single step may take; far more than it needs, so that only a hang runs into it."""

ATTRIBUTES = "envoy.filters.http.ext_proc"
"""Under which Envoy sends the attributes that the filter asks for."""

Fields = Iterable[tuple[str, str | bytes]]


class Ended(Exception):
    """The stream is over."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class RawClient:
    """A gRPC connection to a processor, as Envoy has one."""

    def __init__(self, address: Address) -> None:
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # Otherwise channels of one process share a connection, and what breaks one breaks all.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.aio.insecure_channel(str(address), options=options)
        self._open = self._channel.stream_stream(
            pb.PROCESS_PATH,
            request_serializer=lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
            response_deserializer=pb.ProcessingResponse.FromString,
        )
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    def exchange(self, **metadata: str) -> RawExchange:
        """A new stream, with gRPC metadata (underscores stand for hyphens). All of a client's streams share one connection."""
        return RawExchange(self._open(metadata=[(name.replace("_", "-"), value) for name, value in metadata.items()]))

    async def health(self, service: str) -> str:
        """The answer of ``grpc.health.v1.Health/Check``, such as ``SERVING``."""
        got = await self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(got.status))

    @asynccontextmanager
    async def watch_health(self, service: str) -> AsyncIterator[AsyncIterator[str]]:
        """The states that ``grpc.health.v1.Health/Watch`` tells, from the present one on."""
        call = self._health.Watch(health_pb2.HealthCheckRequest(service=service))

        async def states() -> AsyncIterator[str]:
            async for got in call:
                yield health_pb2.HealthCheckResponse.ServingStatus.Name(got.status)

        try:
            yield states()
        finally:
            call.cancel()


class RawExchange:
    """One ext_proc stream. Nothing is checked or put into order: a test may send what it likes."""

    def __init__(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        self._call = call

    async def send(self, message: pb.ProcessingRequest | bytes) -> None:
        """Send a message, or bytes that may be none.

        Raises:
            Ended: the processor has closed the stream.
        """
        await self._within(self._call.write(message))

    async def send_headers(
        self, fields: Fields, *, end_of_stream: bool = False, route: str | None = None, raw: bool = True
    ) -> None:
        """Send the request's head. Arguments as of :func:`headers_message`."""
        await self.send(headers_message(fields, end_of_stream=end_of_stream, route=route, raw=raw))

    async def send_body(self, body: bytes, *, end_of_stream: bool = True) -> None:
        """Send the request's body, or a piece of it."""
        await self.send(body_message(body, end_of_stream=end_of_stream))

    async def send_trailers(self, fields: Fields = ()) -> None:
        """Send the request's trailers."""
        await self.send(pb.ProcessingRequest(request_trailers=pb.HttpTrailers(trailers=header_map(fields))))

    async def receive(self) -> pb.ProcessingResponse:
        """The next answer.

        Raises:
            Ended: the processor has closed the stream.
        """
        got = await self._within(self._call.read())
        if got is grpc.aio.EOF:
            raise Ended(await self.code(), await self._call.details() or "")
        assert isinstance(got, pb.ProcessingResponse)
        return got

    async def half_close(self) -> None:
        """Say that no more messages follow."""
        await self._within(self._call.done_writing())

    async def opened(self) -> None:
        """Wait until the stream's head is on its way, so that a cancellation after it is one of a stream that exists."""
        await self._within(self._call.wait_for_connection())

    def cancel(self) -> None:
        """Reset the stream, as Envoy does when the client is gone."""
        self._call.cancel()

    async def code(self) -> grpc.StatusCode:
        """The status with which the stream ended."""
        async with asyncio.timeout(DEADLINE):
            return await self._call.code()

    async def rest(self) -> tuple[list[pb.ProcessingResponse], grpc.StatusCode]:
        """Half-close, and read what is left and the status."""
        answers: list[pb.ProcessingResponse] = []
        try:
            await self.half_close()
            while True:
                answers.append(await self.receive())
        except Ended as ended:
            return answers, ended.code

    async def end(self) -> grpc.StatusCode:
        """Half-close, read what is left, which has to be nothing, and return the status."""
        answers, code = await self.rest()
        assert not answers, "answers that nothing asked for"
        return code

    async def _within(self, step: Any) -> Any:
        try:
            async with asyncio.timeout(DEADLINE):
                return await step
        except grpc.aio.AioRpcError as error:
            raise Ended(error.code(), error.details() or "") from None
        except asyncio.InvalidStateError:  # grpc's word for a step on a stream that is over
            raise Ended(await self.code(), await self._call.details() or "") from None


# -- Envoy's messages -------------------------------------------------------------------------------------------------


def request_fields(
    method: str = "POST",
    path: str = "/mcp",
    *,
    authority: str = "localhost:1975",
    extra: Fields = (),
    **headers: str | bytes,
) -> list[tuple[str, str | bytes]]:
    """The head of a client's request as Envoy shows it.

    Args:
        method: ``:method``.
        path: ``:path``.
        authority: ``:authority``; Envoy puts HTTP/1's ``Host`` there too.
        extra: fields put at the end as they are, repeated names too.
        headers: more fields, names with underscores. They replace the usual ones; an empty one leaves them out.
    """
    fields: dict[str, str | bytes] = {
        ":authority": authority, ":path": path, ":method": method, ":scheme": "http",
        "user-agent": "raw/1", "x-forwarded-proto": "http", "x-request-id": "5c7a2b1e-0c5e-4f2d-8a63-2f6a6d1f0b9d",
    }  # fmt: skip
    if method == "POST":
        fields["content-type"] = "application/json"
        fields["accept"] = "application/json, text/event-stream"
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return [*((name, value) for name, value in fields.items() if value), *extra]


def header_map(fields: Fields, *, raw: bool = True) -> pb.HeaderMap:
    """Fields in order. Envoy fills ``raw_value``, and ``value`` (``raw=False``) where it is configured to."""
    return pb.HeaderMap(headers=[_field(name, value, raw) for name, value in fields])


def headers_message(
    fields: Fields, *, end_of_stream: bool = False, route: str | None = None, raw: bool = True
) -> pb.ProcessingRequest:
    """A request's head.

    Args:
        fields: pseudo-headers and headers, in order.
        end_of_stream: neither body nor trailers follow.
        route: name of Envoy's route, which only its repair listener tells.
        raw: as of :func:`header_map`.
    """
    message = pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=header_map(fields, raw=raw), end_of_stream=end_of_stream)
    )
    if route is not None:
        message.attributes[ATTRIBUTES].CopyFrom(_struct({"xds.route_name": route}))
    return message


def body_message(body: bytes, *, end_of_stream: bool = True) -> pb.ProcessingRequest:
    """A request's body, or a piece of it."""
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end_of_stream))


def response_head(status: str = "200", *, raw: bool = True, lost: bool = False) -> pb.ProcessingRequest:
    """The head of a server's response, which may be marked as that of a lost session."""
    fields = [(":status", status), *([(LOST_HEADER, "1")] if lost else [])]
    return pb.ProcessingRequest(
        response_headers=pb.HttpHeaders(headers=header_map(fields, raw=raw), end_of_stream=False)
    )


def later_messages() -> Mapping[str, pb.ProcessingRequest]:
    """Everything else that may follow a decision, by the kind of message, which is the kind of its answer too."""
    trailers = pb.HttpTrailers(trailers=header_map([("x-sum", "1")]))
    return {
        "response_headers": response_head(),
        "response_body": pb.ProcessingRequest(response_body=pb.HttpBody(body=b"{}", end_of_stream=True)),
        "response_trailers": pb.ProcessingRequest(response_trailers=trailers),
        "request_trailers": pb.ProcessingRequest(request_trailers=trailers),
    }


def rpc(method: str, params: Any = None, *, id: Any = 1) -> bytes:
    """A JSON-RPC request, or with ``id=None`` a notification, written compactly."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        message["id"] = id
    if params is not None:
        message["params"] = params
    return json.dumps(message, separators=(",", ":")).encode()


def _field(name: str, value: str | bytes, raw: bool) -> pb.HeaderValue:
    if raw:
        return pb.HeaderValue(key=name, raw_value=value.encode() if isinstance(value, str) else value)
    assert isinstance(value, str), "value is text; only raw_value holds any bytes"
    return pb.HeaderValue(key=name, value=value)


def _struct(values: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


# -- Reading answers --------------------------------------------------------------------------------------------------


def kind(answer: pb.ProcessingResponse) -> str | None:
    """Which answer it is; ``None`` is one that Envoy takes for a protocol error, unless it only asks for time."""
    which: str | None = answer.WhichOneof("response")
    return which


def asks_for_body(answer: pb.ProcessingResponse) -> bool:
    """Whether the answer to a head holds the request and orders its whole body."""
    return (
        kind(answer) == "request_headers"
        and answer.mode_override.request_body_mode == pb.ProcessingMode.BUFFERED
        and not answer.request_headers.HasField("response")
    )


def facts(answer: pb.ProcessingResponse) -> dict[str, Any]:
    """The dynamic metadata of our namespace; the answer must hold no other but what goes with the response. Empty where there
    is none."""
    if not answer.HasField("dynamic_metadata"):
        return {}
    metadata = json_format.MessageToDict(answer.dynamic_metadata)
    assert set(metadata) - {RESPONSE_NAMESPACE} == {NAMESPACE}
    told: dict[str, Any] = metadata[NAMESPACE]
    return told


def common(answer: pb.ProcessingResponse) -> pb.CommonResponse:
    """The response inside of an answer to headers or a body."""
    which = kind(answer)
    assert which in ("request_headers", "request_body"), answer
    inner: pb.CommonResponse = getattr(answer, which).response
    return inner


def set_headers(answer: pb.ProcessingResponse) -> dict[str, str]:
    """The headers that the answer sets. Each must overwrite what a client sent."""
    options = common(answer).header_mutation.set_headers
    assert all(option.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD for option in options)
    fields = {option.header.key: option.header.raw_value.decode("latin-1") for option in options}
    assert len(fields) == len(options), "a header is set twice"
    return fields


def removed_headers(answer: pb.ProcessingResponse) -> set[str]:
    """The client's headers that the answer removes."""
    return set(common(answer).header_mutation.remove_headers)


def seen_upstream(fields: Fields, answer: pb.ProcessingResponse) -> dict[str, str]:
    """The head that a server gets, once Envoy has carried out the answer: removals first, then overwrites."""
    gone = removed_headers(answer)
    kept = {name: value if isinstance(value, str) else value.decode("latin-1") for name, value in fields}
    return {name: value for name, value in kept.items() if name not in gone} | set_headers(answer)


def reply_headers(answer: pb.ProcessingResponse) -> dict[str, str]:
    """The headers of an immediate response."""
    assert kind(answer) == "immediate_response", answer
    options = answer.immediate_response.headers.set_headers
    return {option.header.key: option.header.raw_value.decode("latin-1") for option in options}


def error_of(answer: pb.ProcessingResponse) -> dict[str, Any]:
    """The JSON-RPC error message of an immediate response, which must say that it is JSON."""
    assert reply_headers(answer)["content-type"] == "application/json"
    message: dict[str, Any] = json.loads(answer.immediate_response.body)
    assert message["jsonrpc"] == "2.0"
    assert "error" in message, message
    return message


def is_answer_to_head(answer: pb.ProcessingResponse) -> bool:
    """Whether it lets the head of a response go on whose body is read: its length is no longer true then."""
    return "content-length" in answer.response_headers.response.header_mutation.remove_headers


class ReadPieces:
    """The body of a response that is read, behind its head, piece by piece.

    Args:
        exchange: to whose head there is an answer, or the wish for more time in its place.
    """

    def __init__(self, exchange: RawExchange) -> None:
        self._exchange = exchange
        self._unanswered = 0

    async def send(self, body: bytes, *, end: bool = False) -> bytes:
        """What the client gets now: nothing, as long as all is kept back."""
        await self._exchange.send(pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end)))
        self._unanswered += 1
        answer = await self._exchange.receive()
        if answer.HasField("override_message_timeout"):
            return b""
        if kind(answer) == "response_headers":
            assert is_answer_to_head(answer)
            answer = await self._exchange.receive()
        down = b""
        while True:
            mutation = answer.response_body.response.body_mutation
            assert mutation.WhichOneof("mutation") in ("body", "clear_body"), "the piece would pass as it is"
            down += mutation.body
            self._unanswered -= 1
            if not self._unanswered:
                return down
            answer = await self._exchange.receive()
