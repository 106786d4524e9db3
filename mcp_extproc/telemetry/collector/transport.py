"""How OTLP is sent: requests that are encoded already, by gRPC or over HTTP.

A request is tried again while whoever gets it says that this helps, or is not there, for as long as it may take.

Source: OpenTelemetry Protocol specification, sections OTLP/gRPC and OTLP/HTTP, "Failures".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import grpc

from mcp_extproc.telemetry.collector.spec import Export

TIMEOUT: Final = 5.0
"""Seconds for one request, all attempts together."""

TRACES: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

_AGAIN: Final = frozenset({429, 502, 503, 504})
_AGAIN_OVER_GRPC: Final = frozenset({
    grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED, grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS,
})  # fmt: skip
_HEADERS: Final = {"content-type": "application/x-protobuf"}

Attempt = Callable[[bytes], Awaitable[bool | None]]
"""Whether a request arrived; ``None`` if it may be tried again."""


class Transport:
    """Sends the requests of one signal, one after the other. Make it where its event loop runs.

    Args:
        export: where to.
        method: of gRPC: :data:`TRACES`, :data:`METRICS` or :data:`LOGS`.
    """

    def __init__(self, export: Export, method: str) -> None:
        self._attempt: Attempt
        if export.is_grpc:
            self._attempt, self._close = _over_grpc(export, method)
        else:
            self._attempt, self._close = _over_http(export)

    async def send(self, request: bytes) -> bool:
        """Whether it arrived."""
        try:
            async with asyncio.timeout(TIMEOUT):
                for pause in _pauses():
                    arrived = await self._attempt(request)
                    if arrived is not None:
                        return arrived
                    await asyncio.sleep(pause)
        except TimeoutError:
            pass
        return False

    async def close(self) -> None:
        """Close its connections."""
        await self._close()


def _pauses() -> Iterator[float]:
    """Seconds: twice as long each time, and never as long as others wait."""
    pause = 0.25
    while True:
        yield pause * random.uniform(0.8, 1.2)  # noqa: S311 - nobody is to guess it
        pause *= 2


def _over_http(export: Export) -> tuple[Attempt, Callable[[], Awaitable[None]]]:
    session = aiohttp.ClientSession(headers={**export.headers, **_HEADERS}, trust_env=True)

    async def attempt(request: bytes) -> bool | None:
        try:
            async with session.post(export.url, data=request, allow_redirects=False) as response:
                pass  # It may answer whatever it likes: what is behind the head is not read.
        except (aiohttp.ClientError, OSError):
            return None
        return None if response.status in _AGAIN else 200 <= response.status < 300

    return attempt, session.close


def _over_grpc(export: Export, method: str) -> tuple[Attempt, Callable[[], Awaitable[None]]]:
    url = urlsplit(export.url)
    if url.scheme == "https":
        channel = grpc.aio.secure_channel(url.netloc, grpc.ssl_channel_credentials())
    else:
        channel = grpc.aio.insecure_channel(url.netloc)
    call = channel.unary_unary(method)  # bytes in, bytes out
    headers = tuple((name.lower(), value) for name, value in export.headers.items())

    async def attempt(request: bytes) -> bool | None:
        try:
            await call(request, metadata=headers)
        except grpc.aio.AioRpcError as error:
            return None if error.code() in _AGAIN_OVER_GRPC else False
        return True

    return attempt, channel.close
