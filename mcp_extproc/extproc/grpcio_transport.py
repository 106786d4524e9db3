"""The reference transport, on grpc.aio. Other transports are tested against it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mcp_extproc.address import Address, TcpAddress
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.certificates import Certificates, Identity
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.exchanges import AnyExchange, exchange_for
from mcp_extproc.telemetry import log

_MESSAGE_OVERHEAD = 256 * 1024
"""Headroom in a gRPC message for headers and metadata besides a body."""

_LOG = log.logger("grpcio")


class GrpcioServer:
    """Serves exchanges at one address.

    Args:
        processor: creates exchanges.
        address: where to listen, or a TCP socket that has the right to share its address, and does not listen.
        body_bytes: maximum size of a body that Envoy sends in one message.
        tls: for TLS, on TCP.
    """

    def __init__(
        self,
        processor: Processor,
        address: Address | socket.socket,
        body_bytes: int,
        tls: Certificates | None = None,
    ) -> None:
        self._processor = processor
        self._address = _of_socket(address) if isinstance(address, socket.socket) else address
        self._tls = tls
        limit = body_bytes + _MESSAGE_OVERHEAD
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),  # Merged lists have their own limits.
                ("grpc.so_reuseport", int(isinstance(address, socket.socket))),
            ]
        )
        self._health = health.aio.HealthServicer()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address can't be used.
        """
        handlers = grpc.method_handlers_generic_handler(
            pb.SERVICE_NAME,
            {
                pb.PROCESS_METHOD: grpc.stream_stream_rpc_method_handler(
                    self._process,
                )
            },
        )
        self._server.add_generic_rpc_handlers((handlers,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            if self._tls is None:
                self._server.add_insecure_port(str(self._address))
            else:
                self._server.add_secure_port(str(self._address), credentials(self._tls))
        except RuntimeError:
            raise OSError(f"cannot listen on {self._address}: the address is in use or may not be used") from None
        await self._server.start()
        for service in ("", pb.SERVICE_NAME):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Stop: report NOT_SERVING by gRPC health, and give running exchanges ``grace`` seconds to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def _process(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        exchange = exchange_for(self._processor, metadata)
        try:
            async for message in requests:
                try:
                    async for answer in _answers(exchange, message):
                        yield answer
                except messages.Unreadable as error:
                    await context.abort(grpc.StatusCode.INTERNAL, str(error))
                except Exception:  # noqa: BLE001 - answered and logged
                    # A bug in the gateway, limited to this exchange.
                    _LOG.exception("exchange_failed")
                    failure = exchange.fail()
                    if not failure:
                        await context.abort(grpc.StatusCode.INTERNAL, "the exchange failed; the gateway's log says why")
                    for answer in failure:
                        yield answer
                if exchange.is_over:
                    break
        except asyncio.CancelledError:
            if context.cancelled():
                raise
            # Cancelled by the gateway, not by Envoy. grpc.aio itself would leave the stream open without a status.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the exchange was cancelled")
        finally:
            exchange.closed()
        if not exchange.decided:
            # Ending with OK would let the request pass unprocessed.
            await context.abort(grpc.StatusCode.ABORTED, "the exchange ended before it was decided")


def _of_socket(shared: socket.socket) -> TcpAddress:
    host, port, *_ = shared.getsockname()
    return TcpAddress(host, port)


async def _answers(exchange: AnyExchange, message: bytes) -> AsyncIterator[bytes]:
    answers = exchange.receive(message)
    if callable(answers):
        answers = answers()  # grpc.aio does not tell what else has come
    if isinstance(answers, list):
        for answer in answers:
            yield answer
    else:
        async for answer in answers:
            yield answer


def credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Provides the newest certificate for each connection, called from a gRPC thread."""
    used = certificates.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        newest = certificates.current()
        if newest is used:
            return None  # gRPC keeps the current one.
        used = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used), renewed, require_client_authentication=certificates.asks_clients
    )


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.certificate)], root_certificates=identity.client_ca
    )


logging.getLogger("grpc").setLevel(logging.WARNING)
