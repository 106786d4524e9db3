"""An OTLP receiver on the official protos, over HTTP and over gRPC."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mcp_extproc.extproc.certificates import TlsFiles

_SERVICES: dict[str, tuple[str, Any]] = {
    "/v1/traces": ("trace.v1.TraceService", trace_service_pb2.ExportTraceServiceRequest),
    "/v1/metrics": ("metrics.v1.MetricsService", metrics_service_pb2.ExportMetricsServiceRequest),
    "/v1/logs": ("logs.v1.LogsService", logs_service_pb2.ExportLogsServiceRequest),
}


@dataclass
class Received:
    """What came."""

    url: str = ""
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    """What it answers over HTTP."""

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            if isinstance(request, trace_service_pb2.ExportTraceServiceRequest)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> dict[str, Metric]:
        return {
            metric.name: metric
            for request in self.requests
            if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def logs(self) -> list[LogRecord]:
        return [
            record
            for request in self.requests
            if isinstance(request, logs_service_pb2.ExportLogsServiceRequest)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    found: dict[str, Any] = {}
    for pair in attributes:
        assert isinstance(pair, KeyValue)
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


@asynccontextmanager
async def over_http(tls: TlsFiles | None = None) -> AsyncIterator[Received]:
    """A receiver at `url`.

    Args:
        tls: its certificate, where it speaks TLS, and who issues those of its clients, where they need one.
    """
    received = Received()

    async def take(request: web.Request) -> web.Response:
        if received.status == 200:
            received.requests.append(_SERVICES[request.path][1].FromString(await request.read()))
            received.headers.append({name.lower(): value for name, value in request.headers.items()})
        return web.Response(status=received.status, content_type="application/x-protobuf")

    application = web.Application()
    for path in _SERVICES:
        application.router.add_post(path, take)
    runner = web.AppRunner(application)
    await runner.setup()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls.client_ca)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    received.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield received
    finally:
        await runner.cleanup()


@asynccontextmanager
async def over_grpc(tls: TlsFiles | None = None) -> AsyncIterator[Received]:
    """The same for gRPC."""
    received = Received()
    server = grpc.aio.server()
    for service, kind in _SERVICES.values():

        async def take(request: Any, context: Any) -> bytes:
            received.requests.append(request)
            received.headers.append(dict(context.invocation_metadata()))
            return b""

        method = grpc.unary_unary_rpc_method_handler(take, request_deserializer=kind.FromString)
        handler = grpc.method_handlers_generic_handler(f"opentelemetry.proto.collector.{service}", {"Export": method})
        server.add_generic_rpc_handlers([handler])
    if tls is None:
        received.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
        client_ca = None if tls.client_ca is None else tls.client_ca.read_bytes()
        asks = client_ca is not None
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], client_ca, asks))
        received.url = f"https://127.0.0.1:{port}"
    await server.start()
    try:
        yield received
    finally:
        await server.stop(None)
