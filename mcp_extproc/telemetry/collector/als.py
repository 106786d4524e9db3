"""The gRPC service to which Envoy sends its records."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Final

import grpc

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.telemetry import _pb as pb
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.records.messages import Unreadable, read

MAX_MESSAGE_BYTES: Final = 16 << 20
"""Envoy sends what its buffer holds, which is a few KiB, and one record more."""

_LOG = log.logger("collector")


async def serve(
    address: Address, take: Callable[[Iterable[Exchange]], None], credentials: grpc.ServerCredentials | None = None
) -> grpc.aio.Server:
    """Serve. A Unix socket is reached by this user only; one that is there is replaced: its process has ended.

    Args:
        address: where Envoy sends records.
        take: what is done with records.
        credentials: for TLS.

    Raises:
        OSError: it can't be bound.
    """
    if isinstance(address, UnixAddress):
        Path(address.path).unlink(missing_ok=True)
    # Of two gateways at a TCP address, each would get some records of both.
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    method = grpc.stream_unary_rpc_method_handler(_reader(take))  # bytes in, bytes out
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(pb.SERVICE_NAME, {pb.STREAM_METHOD: method})])
    before = os.umask(0o077)
    try:
        if credentials is None:
            server.add_insecure_port(str(address))
        else:
            server.add_secure_port(str(address), credentials)
    except RuntimeError:
        raise OSError(f"{address} is in use, or may not be used") from None
    finally:
        os.umask(before)
    await server.start()
    return server


def _reader(take: Callable[[Iterable[Exchange]], None]) -> Callable[[AsyncIterator[bytes], Any], Any]:
    async def stream(messages: AsyncIterator[bytes], _: Any) -> bytes:
        async for message in messages:
            try:
                take(read(message))
            except Unreadable:
                log.event(_LOG, logging.ERROR, "record_unreadable", {"bytes": len(message)})
        return b""

    return stream
