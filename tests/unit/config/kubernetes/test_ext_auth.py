"""Services that are asked whether to let a request in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.config.kubernetes.support import backend, error_of, load, quiet, route, tls_policy

TO_BACKEND = {"name": "authz", "group": "gateway.envoyproxy.io", "kind": "Backend"}
HTTP: dict[str, Any] = {"http": {"backendRefs": [TO_BACKEND]}}


def asking(name: str = "r", path: str = "/mcp", **ext_auth: Any) -> dict[str, Any]:
    return route(name=name, path=path, securityPolicy={"extAuth": ext_auth})


def test_a_service_over_http() -> None:
    http = {"backendRefs": [TO_BACKEND], "path": "/check"}
    config = quiet(
        asking(
            http=http, headersToExtAuth=["x-user"], bodyToExtAuth={"maxRequestBytes": 1024}, timeout="250ms",
            failOpen=True, statusOnError=503,
        ),
        backend(), backend("authz"),
    ).config  # fmt: skip
    assert config.envoy.http_filters_before == (
        {
            "name": "ext-auth",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "failure_mode_allow": True,
                "http_service": {
                    "server_uri": {"uri": "http://authz.example:8080", "cluster": "ext-auth", "timeout": "0.25s"},
                    "path_prefix": "/check",
                },
                "allowed_headers": {"patterns": [{"exact": "x-user", "ignore_case": True}]},
                "with_request_body": {"max_request_bytes": 1024},
                "status_on_error": {"code": 503},
            },
        },
    )
    [cluster] = config.envoy.clusters
    assert "typed_extension_protocol_options" not in cluster


def test_a_service_over_grpc() -> None:
    """It lets nobody in while it does not answer, and HTTP/2 is spoken to it."""
    config = quiet(asking(grpc={"backendRef": TO_BACKEND}), backend(), backend("authz")).config
    [one] = config.envoy.http_filters_before
    assert one["typed_config"]["failure_mode_allow"] is False
    assert one["typed_config"]["grpc_service"] == {"envoy_grpc": {"cluster_name": "ext-auth"}, "timeout": "10s"}
    [cluster] = config.envoy.clusters
    assert "typed_extension_protocol_options" in cluster


def test_headers_of_the_service_go_to_servers() -> None:
    """Clients can't write them, unless the service looks at what they write."""
    http = {"backendRefs": [TO_BACKEND], "headersToBackend": ["x-user", "X-Token", "authorization"]}
    config = load(asking(http=http, headersToExtAuth=["x-token"]), backend(), backend("authz")).config
    assert [one.target for one in config.servers["a"].credentials.forward] == ["x-user", "X-Token", "authorization"]
    cleaning, asked = (one["typed_config"] for one in config.envoy.http_filters_before)
    assert cleaning["mutations"] == {"request_mutations": [{"remove": "x-user"}]}
    allowed = asked["http_service"]["authorization_response"]["allowed_upstream_headers"]["patterns"]
    assert [one["exact"] for one in allowed] == http["headersToBackend"]


def test_what_has_no_effect() -> None:
    service = {"backendRefs": [TO_BACKEND], "backendSettings": {"retry": {}}}
    loaded = load(asking(http=service, recomputeRoute=True), backend(), backend("authz"))
    assert [warning.partition("extAuth")[2].partition(":")[0] for warning in loaded.warnings] == [
        ".recomputeRoute", ".http.backendSettings"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ([asking(**HTTP)], ".http.backendRefs[0].name: names the Backend default/authz"),
        (
            [asking(**HTTP), route(name="b", path="/b"), backend("authz")],
            ": is not supported where a file has several MCPRoutes",
        ),
        (
            [asking(grpc={"backendRefs": [TO_BACKEND, TO_BACKEND]}), backend("authz")],
            ".grpc: expected one backend reference",
        ),
        (
            [asking(**HTTP), backend("authz"), tls_policy("authz", wellKnownCACertificates="System")],
            ".http.backendRefs[0]: leads to a service that speaks TLS",
        ),
        ([asking(**HTTP, contextExtensions=[{"name": "a"}]), backend("authz")], ".contextExtensions: is not supported"),
        ([asking(**HTTP, timeout="soon"), backend("authz")], ".timeout: expected a duration"),
        (
            [asking(http={"backendRefs": [TO_BACKEND], "headersToBackend": ["host"]}), backend("authz")],
            ".http.headersToBackend: host is set by the gateway",
        ),
    ],
)
def test_problems(documents: list[dict[str, Any]], problem: str) -> None:
    assert error_of(*documents, backend()).startswith(f"MCPRoute default/r spec.securityPolicy.extAuth{problem}")


def test_not_together_with_oauth() -> None:
    oauth = {
        "issuer": "https://idp.example",
        "audiences": ["a"],
        "protectedResourceMetadata": {"resource": "https://r"},
    }
    document = route(securityPolicy={"extAuth": HTTP, "oauth": oauth})
    assert "the metadata, too, by which clients find out" in error_of(document, backend(), backend("authz"))
