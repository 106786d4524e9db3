"""Services that Envoy's policy filters ask: authorization over gRPC and HTTP, and rate limits. They record what was asked."""

from __future__ import annotations

import math
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from aiohttp import web
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, QueryParameter
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy_data_plane.envoy.service.ratelimit.v3 import (
    RateLimitRequest,
    RateLimitResponse,
    RateLimitResponseCode,
    RateLimitResponseDescriptorStatus,
    RateLimitResponseRateLimit,
    RateLimitResponseRateLimitUnit,
)
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Struct
from envoy_data_plane.google.rpc import Status

from tests.support.tls import Authority

SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}

_PERMISSION_DENIED = 7


@asynccontextmanager
async def _grpc_service(
    service: str, method: str, handler: Any, authority: Authority | None = None
) -> AsyncIterator[int]:
    """``authority``: of its certificate, if it uses TLS."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    if authority is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        own = authority.key("server").read_bytes(), authority.certificate("server").read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([own]))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@dataclass
class Authorization:
    """An authorization service (envoy.service.auth.v3). ``denies`` says with which HTTP status, 0 to allow."""

    denies: Callable[[dict[str, Any], dict[str, str]], int]
    """Takes the metadata ``mcp_proxy`` and the request's headers."""
    port: int = 0
    asked: list[tuple[dict[str, Any], dict[str, str]]] = field(default_factory=list)
    requests: list[CheckRequest] = field(default_factory=list)
    """The same as they came, with all that there is."""
    query: dict[str, str] = field(default_factory=dict)
    """What it adds to the paths of requests that it allows."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Authorization]:
        handler = grpc.unary_unary_rpc_method_handler(
            self._check, request_deserializer=CheckRequest.parse, response_serializer=bytes
        )
        async with _grpc_service("envoy.service.auth.v3.Authorization", "Check", handler) as self.port:
            yield self

    async def _check(self, request: CheckRequest, _: Any) -> CheckResponse:
        assert request.attributes is not None
        assert request.attributes.request is not None
        assert request.attributes.request.http is not None
        metadata = request.attributes.metadata_context
        known = {} if metadata is None else {name: s.to_dict() for name, s in metadata.filter_metadata.items()}
        headers = dict(request.attributes.request.http.headers)
        self.requests.append(request)
        self.asked.append((known.get("mcp_proxy", {}), headers))
        status = self.denies(*self.asked[-1])
        if not status:
            query = [QueryParameter(key=key, value=value) for key, value in self.query.items()]
            user = HeaderValueOption(header=HeaderValue(key="x-user", value="ann"))
            allowed = OkHttpResponse(headers=[user], query_parameters_to_set=query)
            return CheckResponse(status=Status(code=0), ok_response=allowed)
        challenge = (
            [HeaderValueOption(header=HeaderValue(key="www-authenticate", value="Bearer"))] if status == 401 else []
        )
        return CheckResponse(
            status=Status(code=_PERMISSION_DENIED),
            denied_response=DeniedHttpResponse(
                status=HttpStatus(code=StatusCode(status)), headers=challenge, body='secret "reasons"'
            ),
        )


@asynccontextmanager
async def http_authorization(denies: Callable[[web.Request], Awaitable[bool]]) -> AsyncIterator[int]:
    """An authorization service of plain HTTP: 200 allows, 403 does not. Yields its port."""

    async def check(request: web.Request) -> web.Response:
        return web.Response(status=403 if await denies(request) else 200, text='secret "reasons"')

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", check)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Verdict:
    """What a service says of a request: who sends it, or why it is refused."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """gRPC only."""
    on_response: Mapping[str, str] = field(default_factory=dict)
    """Headers for the response to a request that passes. gRPC only."""


@dataclass
class Callers:
    """A service that says who calls, over gRPC and over HTTP."""

    judge: Callable[[Mapping[str, str]], Verdict]
    """Takes the request's headers."""
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Path and headers."""
    contexts: list[Mapping[str, str]] = field(default_factory=list)
    """What Envoy's configuration says besides, where it is asked over gRPC."""
    authority: Authority | None = None
    """Of its certificate, if it uses TLS."""
    grpc_port: int = 0
    http_port: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Callers]:
        handler = grpc.unary_unary_rpc_method_handler(
            self._check, request_deserializer=CheckRequest.parse, response_serializer=bytes
        )
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls()).start()
            self.http_port = runner.addresses[0][1]
            service = "envoy.service.auth.v3.Authorization"
            async with _grpc_service(service, "Check", handler, self.authority) as self.grpc_port:
                yield self
        finally:
            await runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        if self.authority is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority.certificate("server"), self.authority.key("server"))
        return context

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.path, headers))
        verdict = self.judge(headers)
        return web.Response(status=verdict.status, headers=verdict.headers, text='secret "reasons"')

    async def _check(self, request: CheckRequest, _: Any) -> CheckResponse:
        assert request.attributes is not None
        assert request.attributes.request is not None
        assert request.attributes.request.http is not None
        asked = request.attributes.request.http
        self.asked.append((asked.path, dict(asked.headers)))
        self.contexts.append(dict(request.attributes.context_extensions))
        verdict = self.judge(asked.headers)
        headers = [
            HeaderValueOption(header=HeaderValue(key=name, value=value)) for name, value in verdict.headers.items()
        ]
        metadata = Struct.from_dict(dict(verdict.metadata))
        if verdict.status == 200:
            told = [HeaderValueOption(header=HeaderValue(key=k, value=v)) for k, v in verdict.on_response.items()]
            allowed = OkHttpResponse(headers=headers, response_headers_to_add=told)
            return CheckResponse(status=Status(code=0), ok_response=allowed, dynamic_metadata=metadata)
        refused = DeniedHttpResponse(
            status=HttpStatus(code=StatusCode(verdict.status)), headers=headers, body='secret "reasons"'
        )
        return CheckResponse(status=Status(code=_PERMISSION_DENIED), denied_response=refused, dynamic_metadata=metadata)


@dataclass
class RateLimits:
    """A rate limit service (envoy.service.ratelimit.v3), as envoyproxy/ratelimit does it: fixed windows, numbers from its own
    configuration or with the request, which then count.
    """

    domain: str = "mcp"
    limits: dict[tuple[tuple[str, str], ...], tuple[int, str]] = field(default_factory=dict)
    """By descriptor: how many in which unit. A value of ``""`` stands for any."""
    clock: Callable[[], float] = time.time
    port: int = 0
    asked: list[list[tuple[tuple[str, str], ...]]] = field(default_factory=list)
    _counts: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RateLimits]:
        handler = grpc.unary_unary_rpc_method_handler(
            self._should, request_deserializer=RateLimitRequest.parse, response_serializer=bytes
        )
        async with _grpc_service(
            "envoy.service.ratelimit.v3.RateLimitService", "ShouldRateLimit", handler
        ) as self.port:
            yield self

    async def _should(self, request: RateLimitRequest, _: Any) -> RateLimitResponse:
        assert request.domain == self.domain
        self.asked.append([tuple((e.key, e.value) for e in d.entries) for d in request.descriptors])
        statuses = [self._status(d, entries) for d, entries in zip(request.descriptors, self.asked[-1], strict=True)]
        over = any(status.code == RateLimitResponseCode.OVER_LIMIT for status in statuses)
        code = RateLimitResponseCode.OVER_LIMIT if over else RateLimitResponseCode.OK
        return RateLimitResponse(overall_code=code, statuses=statuses)

    def _status(self, descriptor: Any, entries: tuple[tuple[str, str], ...]) -> RateLimitResponseDescriptorStatus:
        any_value = tuple((key, "") for key, _ in entries)
        limit = self.limits.get(entries, self.limits.get(any_value))
        if descriptor.limit is not None:
            limit = (descriptor.limit.requests_per_unit, descriptor.limit.unit.name)
        if limit is None:
            return RateLimitResponseDescriptorStatus(code=RateLimitResponseCode.OK)
        requests, unit = limit
        window = SECONDS[unit]
        now = self.clock()
        key = (entries, now // window)
        self._counts[key] += 1
        return RateLimitResponseDescriptorStatus(
            code=RateLimitResponseCode.OVER_LIMIT if self._counts[key] > requests else RateLimitResponseCode.OK,
            current_limit=RateLimitResponseRateLimit(
                requests_per_unit=requests, unit=RateLimitResponseRateLimitUnit[unit]
            ),
            limit_remaining=max(0, requests - self._counts[key]),
            duration_until_reset=timedelta(seconds=math.ceil(window - now % window)),
        )
