from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mcp_extproc.config import Server, UpstreamTls
from tests.support.tls import Authority
from tests.unit.config.kubernetes.support import (
    PEM,
    backend,
    config_map,
    document,
    error_of,
    load,
    quiet,
    route,
    secret,
    tls_policy,
)


def server(*documents: dict[str, Any], **reference: Any) -> Server:
    return quiet(route(**reference), *documents).config.servers["a"]


def service(port: int = 80, **spec: Any) -> dict[str, Any]:
    given = {"type": "ExternalName", "externalName": "a.example", "ports": [{"port": port, "name": "web"}]}
    return document("Service", "v1", "a", given | spec)


TO_SERVICE: dict[str, Any] = {"backendRefs": [{"name": "a", "port": 80}]}


def test_one_place_is_a_url() -> None:
    assert server(backend()).url == "http://a.example:8080/mcp"
    assert server(backend(endpoints=[{"ip": {"address": "::1", "port": 80}}])).url == "http://[::1]/mcp"
    assert server(backend(), tls_policy()).url == "https://a.example:8080/mcp"


def test_several_are_endpoints() -> None:
    places = [{"ip": {"address": "10.0.0.1", "port": 81}}, {"ip": {"address": "::1", "port": 82}}]
    plain = server(backend(endpoints=places))
    assert (plain.endpoints, plain.path, plain.tls) == (("10.0.0.1:81", "[::1]:82"), "/mcp", None)
    assert server(backend(endpoints=places), tls_policy()).tls == UpstreamTls(sni="a.example")


def test_h2c() -> None:
    assert server(backend(appProtocols=["gateway.envoyproxy.io/h2c"])).http2


def test_tls_of_a_policy() -> None:
    assert server(backend(), tls_policy()).tls is None
    assert server(backend(), tls_policy(hostname="b.example")).tls == UpstreamTls(sni="b.example")
    names = [{"type": "Hostname", "hostname": "c.example"}, {"type": "URI", "uri": "spiffe://x/y"}]
    assert server(backend(), tls_policy(subjectAltNames=names)).tls == UpstreamTls(
        subject_alt_names=("c.example", "spiffe://x/y")
    )
    two = [{"group": "", "kind": "ConfigMap", "name": "c"}, {"group": "", "kind": "Secret", "name": "s"}]
    authorities = (config_map(**{"ca.crt": PEM}), secret(**{"ca.crt": PEM.strip()}))
    assert server(backend(), tls_policy(caCertificateRefs=two), *authorities).tls == UpstreamTls(ca_inline=PEM + PEM)


def test_tls_of_a_backend_and_the_policy_that_wins() -> None:
    assert server(backend(tls={"wellKnownCACertificates": "System"})).url == "https://a.example:8080/mcp"
    own = backend(tls={"insecureSkipVerify": True, "sni": "x.example"})
    assert server(own).tls == UpstreamTls(sni="x.example", insecure_skip_verify=True)
    reference = [{"group": "", "kind": "ConfigMap", "name": "c"}]
    both = backend(tls={"caCertificateRefs": reference, "sni": "x.example"})
    assert server(both, tls_policy(), config_map(**{"ca.crt": PEM})).tls is None


def test_a_policy_verifies_whatever_the_backend_says() -> None:
    own = backend(tls={"insecureSkipVerify": True})
    found = server(own, tls_policy())
    assert found.uses_tls
    assert found.tls is None


def test_a_unix_socket() -> None:
    at = server(backend(endpoints=[{"unix": {"path": "/run/mcp.sock"}}]))
    assert (at.url, at.unix_socket) == ("http://localhost/mcp", "/run/mcp.sock")
    named = {"unix": {"path": "/run/mcp.sock"}, "hostname": "tools.example"}
    secured = server(backend(endpoints=[named], tls={"wellKnownCACertificates": "System"}))
    assert (secured.url, secured.unix_socket, secured.tls) == ("https://tools.example/mcp", "/run/mcp.sock", None)


def test_connections_of_a_backend_whatever_a_policy_says(tmp_path: Path) -> None:
    _, key, certificate = (text.decode() for text in Authority(tmp_path).client_files())
    pair = secret(**{"tls.crt": certificate, "tls.key": key})
    own = {
        "wellKnownCACertificates": "System", "clientCertificateRef": {"name": "s"}, "minVersion": "1.2", "maxVersion": "Auto",
        "ciphers": ["ECDHE-RSA-AES128-GCM-SHA256"], "ecdhCurves": ["X25519"], "alpnProtocols": ["h2"],
        "signatureAlgorithms": ["ecdsa_secp256r1_sha256"], "sni": "x.example",
    }  # fmt: skip
    expected = UpstreamTls(
        client_certificate_inline=certificate,
        client_key_inline=SecretStr(key),
        min_version="1.2",
        ciphers=("ECDHE-RSA-AES128-GCM-SHA256",),
        ecdh_curves=("X25519",),
        signature_algorithms=("ecdsa_secp256r1_sha256",),
        sni="x.example",
    )
    found = server(backend(tls=own), pair)
    assert (found.tls, found.http2) == (expected, True)
    found = server(backend(tls=own), pair, tls_policy(hostname="b.example"))
    assert (found.tls, found.http2) == (expected.model_copy(update={"sni": "b.example"}), True)


def test_services() -> None:
    assert server(service(), **TO_SERVICE).url == "http://a.example/mcp"
    assert server(service(ports=[{"port": 80, "appProtocol": "kubernetes.io/h2c"}]), **TO_SERVICE).http2
    assert server(service(ports=[{"port": 80, "appProtocol": "https"}]), **TO_SERVICE).url == "https://a.example:80/mcp"
    assert server(service(), tls_policy(kind="Service"), **TO_SERVICE).uses_tls


@pytest.mark.parametrize(("section", "applies"), [("web", True), ("other", False)])
def test_a_policy_for_one_port_of_a_service(section: str, applies: bool) -> None:
    policy = tls_policy(kind="Service")
    policy["spec"]["targetRefs"][0]["sectionName"] = section
    ports = [{"port": 80, "name": "web"}, {"port": 81, "name": "other"}]
    assert server(service(ports=ports), policy, **TO_SERVICE).uses_tls is applies


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ({"name": "aa"}, ".name: has no effect: there is no Backend default/aa, did you mean a?"),
        ({"kind": "Service", "group": "", "name": "web"}, ".name: has no effect: there is no Service default/web"),
        ({"sectionName": "web"}, ".sectionName: has no effect: Backend default/a has no port of this name"),
        ({"kind": "Pod", "group": ""},
         ": has no effect: expected kind Backend with group gateway.envoyproxy.io, or kind Service"),
    ],
)  # fmt: skip
def test_a_policy_that_does_nothing_is_named(target: dict[str, Any], why: str) -> None:
    """The server is asked without TLS then."""
    policy = tls_policy()
    policy["spec"]["targetRefs"][0] |= target
    [warning] = load(route(), backend(), policy).warnings
    assert re.fullmatch(r"line \d+, BackendTLSPolicy default/\S+ spec.targetRefs\[0\]" + re.escape(why), warning)


def test_services_that_only_a_cluster_knows() -> None:
    cluster = service(type="ClusterIP", externalName=None)
    problem = (
        "MCPRoute default/r spec.backendRefs[0].name: names the Service default/a, whose document {}: add one with type"
        " ExternalName, or say where it is with --resolve a.default=HOST:PORT"
    )
    assert error_of(route(**TO_SERVICE)) == problem.format("is not there")
    assert error_of(route(**TO_SERVICE), cluster) == problem.format("has another type than ExternalName")
    where = {"a.default": "127.0.0.1:9000"}
    for documents in ((), (cluster,), (service(),)):
        loaded = load(route(**TO_SERVICE), *documents, resolve=where)
        assert loaded.config.servers["a"].url == "http://127.0.0.1:9000/mcp"
    assert (
        load(route(**TO_SERVICE), resolve={"a.default": "[::1]:9000"}).config.servers["a"].url
        == "http://[::1]:9000/mcp"
    )


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        (
            [backend(endpoints=[{"ip": {"address": "::1", "port": 1}}, {"unix": {"path": "/run/x"}}])],
            (
                "Backend default/a spec.endpoints[1].unix: a server has one Unix socket, and no endpoint besides: leave the"
                " others out"
            ),
        ),
        (
            [backend(endpoints=[{"ip": {"address": "10.0.0.1", "port": 1}, "hostname": "x"}])],
            "Backend default/a spec.endpoints[0].hostname: is not supported: give the name under fqdn",
        ),
        (
            [backend(type="DynamicResolver", endpoints=None)],
            (
                "Backend default/a spec.type: DynamicResolver is not supported: a server is at a fixed place; give endpoints,"
                " or let clients reach any server through the proxy of envoy/egress.yaml"
            ),
        ),
        (
            [backend(fallback=True)],
            (
                "Backend default/a spec.fallback: is not supported, as each backend of a route is a server of its own: leave"
                " it out, and for a server's replicas name them as its endpoints"
            ),
        ),
        (
            [backend(appProtocols=["gateway.envoyproxy.io/ws"])],
            "Backend default/a spec.appProtocols[0]: is not supported: expected gateway.envoyproxy.io/h2c, or none",
        ),
        ([backend(endpoints=[])], "Backend default/a spec.endpoints: expected a list that is not empty"),
        (
            [backend(endpoints=[{"ip": {"address": "::1", "port": 1}}, {"fqdn": {"hostname": "x", "port": 1}}])],
            "Backend default/a spec.endpoints: fqdn can't be mixed with ip or unix",
        ),
        (
            [backend(endpoints=[{"zone": "a"}])],
            "Backend default/a spec.endpoints[0]: give exactly one of fqdn, ip and unix",
        ),
        (
            [backend(tls={"minVersion": "1.3", "maxVersion": "1.2"})],
            "Backend default/a spec.tls: minVersion is above maxVersion",
        ),
        (
            [backend(tls={"alpnProtocols": ["h2", "http/1.1"]})],
            (
                "Backend default/a spec.tls.alpnProtocols: expected h2 or http/1.1 alone: Envoy does not choose between them"
                " for a server"
            ),
        ),
        (
            [backend(tls={"clientCertificateRef": {"name": "s", "namespace": "x"}})],
            (
                "Backend default/a spec.tls.clientCertificateRef.namespace: references to another namespace are refused: leave"
                " it out"
            ),
        ),
        (
            [backend(tls={"clientCertificateRef": {"name": "s"}}), secret(**{"tls.crt": PEM})],
            'Secret default/s data: has no key "tls.key": add it',
        ),
        (
            [backend(tls={"clientCertificateRef": {"name": "s"}}), secret(**{"tls.crt": PEM, "tls.key": "hunter2"})],
            "Backend default/a spec.tls: expected a private key in PEM, from -----BEGIN PRIVATE KEY----- to its end",
        ),
        (
            [backend(), tls_policy(caCertificateRefs=[{"group": "", "kind": "ConfigMap", "name": "c"}])],
            (
                "BackendTLSPolicy default/a-tls spec.validation.caCertificateRefs[0]: names the ConfigMap default/c, and there"
                " is no such document: add it"
            ),
        ),
        (
            [
                backend(),
                tls_policy(caCertificateRefs=[{"group": "", "kind": "ConfigMap", "name": "c"}]),
                config_map(**{"ca.crt": "hunter2"}),
            ],
            (
                "BackendTLSPolicy default/a-tls spec.validation: expected PEM certificates, each from"
                " -----BEGIN CERTIFICATE----- to its end"
            ),
        ),
        (
            [backend(), tls_policy(), tls_policy() | {"metadata": {"name": "more"}}],
            (
                "BackendTLSPolicy default/more spec.targetRefs: BackendTLSPolicy default/a-tls is about the same Backend:"
                " leave one of them out"
            ),
        ),
    ],
)
def test_problems(documents: list[dict[str, Any]], problem: str) -> None:
    assert error_of(route(), *documents) == problem


def test_other_references() -> None:
    other = [{"name": "a", "group": "multicluster.x-k8s.io", "kind": "ServiceImport"}]
    assert error_of(route(backendRefs=other)) == (
        "MCPRoute default/r spec.backendRefs[0]: expected kind Backend with group gateway.envoyproxy.io, or kind Service"
    )
    elsewhere = [{"name": "a", "group": "gateway.envoyproxy.io", "kind": "Backend", "namespace": "x"}]
    assert error_of(route(backendRefs=elsewhere)) == (
        "MCPRoute default/r spec.backendRefs[0].namespace: references to another namespace are refused: leave it out"
    )


def test_zones_have_no_effect() -> None:
    [warning] = load(route(), backend(endpoints=[{"ip": {"address": "::1", "port": 1}, "zone": "a"}])).warnings
    assert warning.endswith("spec.endpoints[0].zone: has no effect: all replicas get requests")
