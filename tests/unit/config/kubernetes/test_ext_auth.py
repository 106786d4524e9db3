"""Services that are asked whether to let a request in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.config.kubernetes.support import PEM, backend, config_map, error_of, load, pair, quiet, route, secret

TO_BACKEND = {"name": "authz", "group": "gateway.envoyproxy.io", "kind": "Backend"}
HTTP: dict[str, Any] = {"http": {"backendRefs": [TO_BACKEND]}}


GRPC: dict[str, Any] = {"grpc": {"backendRefs": [TO_BACKEND]}}


def of_value(kind: str, key: str = "k") -> dict[str, Any]:
    reference = {"group": "", "kind": kind, "name": kind[0].lower(), "key": key}
    return {"name": "a", "type": "ValueRef", "valueRef": reference}


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


def test_what_the_service_is_told() -> None:
    """Of the one route's filter, or of each route's own."""
    told = [{"name": "tenant", "value": "acme"}, of_value("ConfigMap")]
    others = [backend(), backend("authz"), config_map(k="v")]
    per_route = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        "check_settings": {"context_extensions": {"tenant": "acme", "a": "v"}},
    }
    config = quiet(asking(**GRPC, contextExtensions=told), *others).config
    assert config.envoy.typed_per_filter_config == {"ext-auth": per_route}
    several = [asking(**GRPC, contextExtensions=told), asking("open", "/open", **GRPC)]
    config = quiet(*several, *others).config
    found = [
        config.virtual_servers[name].typed_per_filter_config[f"ext-auth/{name}"]["config"] for name in ("r", "open")
    ]
    assert found == [per_route, {}]


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
        ([asking(**HTTP, statusOnError=299)], ".statusOnError: expected the status of an error, such as 503"),
        (
            [asking(http=HTTP["http"] | {"path": "/a", "pathOverride": "/b"})],
            ".http: only one of path or pathOverride can be specified",
        ),
        ([asking(**HTTP)], ".http.backendRefs[0].name: names the Backend default/authz"),
        (
            [asking(grpc={"backendRefs": [TO_BACKEND, TO_BACKEND]}), backend("authz")],
            ".grpc: expected one backend reference",
        ),
        (
            [
                asking(**HTTP),
                backend("authz", tls={"insecureSkipVerify": True, "clientCertificateRef": {"name": "s"}}),
                secret(**pair()),
            ],
            ".http.backendRefs[0]: leads to a service with a clientCertificateRef",
        ),
        (
            [asking(**HTTP, contextExtensions=[{"name": "a", "value": "b"}]), backend("authz")],
            ".contextExtensions: Envoy tells them to services with gRPC alone",
        ),
        (
            [asking(**GRPC, contextExtensions=[{"name": "a"}]), backend("authz")],
            ".contextExtensions[0]: Exactly one of value or valueRef must be set with correct type.",
        ),
        (
            [asking(**GRPC, contextExtensions=[{"name": "a", "value": "b"}] * 2), backend("authz")],
            ".contextExtensions: a name is listed twice",
        ),
        (
            [asking(**GRPC, contextExtensions=[of_value("Secret")]), backend("authz"), secret(k="v")],
            ".contextExtensions[0].valueRef.kind: expected a ConfigMap: what is told would stand in Envoy's configuration",
        ),
        (
            [asking(**GRPC, contextExtensions=[of_value("ConfigMap")]), backend("authz")],
            ".contextExtensions[0].valueRef: names the ConfigMap default/c, and there is no such document",
        ),
        ([asking(**HTTP, timeout="soon"), backend("authz")], ".timeout: expected a duration"),
        (
            [asking(http={"backendRefs": [TO_BACKEND], "headersToBackend": ["host"]}), backend("authz")],
            ".http.headersToBackend: host is set by the gateway",
        ),
    ],
)
def test_problems(documents: list[dict[str, Any]], problem: str) -> None:
    assert error_of(*documents, backend()).startswith(f"MCPRoute default/r spec.securityPolicy.extAuth{problem}")


def test_several_routes_ask_services_of_their_own() -> None:
    """Each is asked about its own route's requests, and no other's are cleaned."""
    http = {"backendRefs": [TO_BACKEND], "headersToBackend": ["x-user"]}
    config = load(asking(http=http), asking("b", "/b", grpc={"backendRef": TO_BACKEND}), route(name="c", path="/c"), backend(),
                  backend("authz")).config  # fmt: skip
    names = [one["name"] for one in config.envoy.http_filters_before]
    assert names == ["ext-auth/r-headers", "ext-auth/r", "ext-auth/b"]
    assert [cluster["name"] for cluster in config.envoy.clusters] == ["ext-auth/r", "ext-auth/b"]
    assert {name: one["disabled"] for name, one in config.envoy.typed_per_filter_config.items()} == dict.fromkeys(
        names, True
    )
    assert {name: list(one.typed_per_filter_config) for name, one in config.virtual_servers.items()} == {
        "r": ["ext-auth/r-headers", "ext-auth/r"], "b": ["ext-auth/b"], "c": [],
    }  # fmt: skip


def test_a_service_with_tls() -> None:
    """By its Backend, and by a policy that wins over it; at a Unix socket, too."""

    def cluster(**spec: Any) -> Any:
        authorities = [config_map(**{"ca.crt": PEM})] if "caCertificateRefs" in spec.get("tls", {}) else []
        documents = [backend(), backend("authz", **spec), *authorities]
        [found] = quiet(asking(grpc={"backendRef": TO_BACKEND}), *documents).config.envoy.clusters
        return found

    tls: dict[str, Any] = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "c"}], "minVersion": "1.3"}
    context = cluster(tls=tls)["transport_socket"]["typed_config"]
    common = context["common_tls_context"]
    assert (context["sni"], common["alpn_protocols"]) == ("authz.example", ["h2"])
    assert common["validation_context"] == {
        "trusted_ca": {"inline_string": PEM},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "authz.example"}}],
    }
    assert common["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"
    }  # fmt: skip
    skipped = cluster(tls={"insecureSkipVerify": True, "sni": "x.example"})["transport_socket"]["typed_config"]
    assert (skipped["sni"], "validation_context" in skipped["common_tls_context"]) == ("x.example", False)
    at = cluster(endpoints=[{"unix": {"path": "/run/authz.sock"}}])
    [[endpoint]] = [one["lb_endpoints"] for one in at["load_assignment"]["endpoints"]]
    assert endpoint["endpoint"]["address"] == {"pipe": {"path": "/run/authz.sock"}}
