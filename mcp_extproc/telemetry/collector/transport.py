"""How OTLP is sent: requests that are encoded already, by gRPC or over HTTP.

A request is tried again while whoever gets it says that this helps, or is not there, for as long as it may take. When the
first one is given up, the log says why, and again when one arrives.

Source: OpenTelemetry Protocol specification, sections OTLP/gRPC and OTLP/HTTP, "Failures".
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import grpc

from mcp_extproc.config.otlp_tls import ClientTls
from mcp_extproc.pem import TlsError
from mcp_extproc.proxies import proxy_of
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.receiver_tls import ReceiverTls
from mcp_extproc.telemetry.collector.spec import Export

TIMEOUT: Final = 5.0
"""Seconds for one request, all attempts together."""

TRACES: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

_SIGNALS: Final = {TRACES: "traces", METRICS: "metrics", LOGS: "logs"}

_AGAIN: Final = frozenset({429, 502, 503, 504})
_AGAIN_OVER_GRPC: Final = frozenset({
    grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED, grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS,
})  # fmt: skip
_HEADERS: Final = {"content-type": "application/x-protobuf"}

_OWN_WORDS: Final = ("failed to connect to all addresses", "DNS resolution failed", "errors resolving")
"""With which gRPC itself begins, where nobody answered. What a receiver says may quote a key."""

_WORDS: Final = 300
"""Most characters of them."""

_LOG = log.logger("collector")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request did not arrive.

    Attributes:
        why: for people, without what the receiver wrote.
        helps_again: whether it may be tried again.
    """

    why: str
    helps_again: bool


Attempt = Callable[[bytes], Awaitable[Refusal | None]]
"""``None``: the request arrived."""


class Transport:
    """Sends the requests of one signal, one after the other. Make it where its event loop runs.

    Args:
        export: where to.
        method: of gRPC: :data:`TRACES`, :data:`METRICS` or :data:`LOGS`.
        setting: the configuration's key that says where to, for the log: the access log and the audit are both logs.
    """

    def __init__(self, export: Export, method: str, setting: str) -> None:
        self._attempt: Attempt
        if export.is_grpc:
            self._attempt, self._close = _over_grpc(export, method)
        else:
            self._attempt, self._close = _over_http(export)
        protocol = "grpc" if export.is_grpc else "http/protobuf"
        self._about = {"signal": _SIGNALS[method], "setting": setting, "to": export.host, "protocol": protocol}
        self._fails = False

    async def send(self, request: bytes) -> bool:
        """Whether it arrived."""
        why = "no answer"
        try:
            async with asyncio.timeout(TIMEOUT):
                for pause in _pauses():
                    refusal = await self._attempt(request)
                    if refusal is None:
                        self._tell_of_success()
                        return True
                    why = refusal.why
                    if not refusal.helps_again:
                        break
                    await asyncio.sleep(pause)
        except TimeoutError:
            pass
        except asyncio.CancelledError:  # at the end of the process
            self._tell_of_failure(why)
            raise
        self._tell_of_failure(why)
        return False

    def _tell_of_failure(self, why: str) -> None:
        if not self._fails:
            log.event(_LOG, logging.WARNING, "otlp_not_sent", {**self._about, "why": why})
        self._fails = True

    def _tell_of_success(self) -> None:
        if self._fails:
            log.event(_LOG, logging.INFO, "otlp_sent_again", self._about)
        self._fails = False

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
    tls = None if export.tls is None else ReceiverTls(export.tls)
    # Not aiohttp's `trust_env`, which looks for a proxy and a password anew for each request, in threads: half of its cost.
    session, proxy = aiohttp.ClientSession(headers={**export.headers, **_HEADERS}), proxy_of(export.url)

    async def attempt(request: bytes) -> Refusal | None:
        try:
            context = True if tls is None else tls.current().context
            posted = session.post(export.url, data=request, allow_redirects=False, ssl=context, proxy=proxy)
            async with posted as response:
                pass  # It may answer whatever it likes: what is behind the head is not read.
        except TlsError as error:
            return Refusal(str(error), helps_again=True)
        except UnicodeError:  # of DNS' encoding of names
            return Refusal("the host, or the proxy's, is no name that can have an address", helps_again=False)
        except (aiohttp.ClientError, OSError) as error:
            return Refusal(_said_by_http(error), helps_again=True)
        if 200 <= response.status < 300:
            return None
        return Refusal(f"HTTP {response.status}", helps_again=response.status in _AGAIN)

    return attempt, session.close


def _said_by_http(error: aiohttp.ClientError | OSError) -> str:
    """Not by an answer that could not be read: that may quote anything."""
    if isinstance(error, aiohttp.ClientResponseError):
        return "what answers there does not speak HTTP/1"
    return getattr(error, "strerror", None) or type(error).__name__


def _over_grpc(export: Export, method: str) -> tuple[Attempt, Callable[[], Awaitable[None]]]:
    channel = _Channel(export)
    headers = tuple((name.lower(), value) for name, value in export.headers.items())

    async def attempt(request: bytes) -> Refusal | None:
        try:
            call = (await channel.current()).unary_unary(method)  # bytes in, bytes out
            await call(request, metadata=headers)
        except TlsError as error:
            return Refusal(str(error), helps_again=True)
        except grpc.aio.AioRpcError as error:
            return Refusal(_said_by_grpc(error), helps_again=error.code() in _AGAIN_OVER_GRPC)
        return None

    return attempt, channel.close


class _Channel:
    """Of gRPC, which takes TLS for good: another one where that has changed."""

    def __init__(self, export: Export) -> None:
        self._url = urlsplit(export.url)
        self._tls = None if export.tls is None else ReceiverTls(export.tls)
        self._made_with: ClientTls | None = None
        self._channel: grpc.aio.Channel | None = None

    async def current(self) -> grpc.aio.Channel:
        """The one to call.

        Raises:
            TlsError: there is none.
        """
        tls = None if self._tls is None else self._tls.current()
        if self._channel is None or tls is not self._made_with:
            await self.close()
            self._channel, self._made_with = self._made(tls), tls
        return self._channel

    def _made(self, tls: ClientTls | None) -> grpc.aio.Channel:
        if self._url.scheme != "https":
            return grpc.aio.insecure_channel(self._url.netloc)
        files = () if tls is None else (tls.ca, tls.key, tls.certificate)
        return grpc.aio.secure_channel(self._url.netloc, grpc.ssl_channel_credentials(*files))

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def _said_by_grpc(error: grpc.aio.AioRpcError) -> str:
    details = error.details() or ""
    return f"{error.code().name}: {details[:_WORDS]}" if details.startswith(_OWN_WORDS) else error.code().name
