from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from mcp_extproc.config import Loaded, Server, loads
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.gateway.catalog import Catalog
from tests.unit.config.kubernetes.support import (
    PEM,
    backend,
    config_map,
    document,
    error_of,
    gateway,
    load,
    quiet,
    route,
    secret,
)

GITHUB = """
apiVersion: mcp.kuadrant.io/v1
kind: MCPServerRegistration
metadata:
  name: github
  namespace: mcp-test
spec:
  prefix: github_
  targetRef:
    group: gateway.networking.k8s.io
    kind: HTTPRoute
    name: github-mcp-external
  credentialRef:
    name: github-token
    key: token
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: github-mcp-external
  namespace: mcp-test
spec:
  parentRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: mcp-gateway
    namespace: gateway-system
  hostnames:
  - github.mcp.local
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /mcp
    filters:
    - type: URLRewrite
      urlRewrite:
        hostname: api.githubcopilot.com
    backendRefs:
    - name: api.githubcopilot.com
      kind: Hostname
      group: networking.istio.io
      port: 443
---
apiVersion: v1
kind: Secret
metadata:
  name: github-token
  namespace: mcp-test
  labels:
    mcp.kuadrant.io/secret: "true"
stringData:
  token: Bearer a-token
"""
"""Kuadrant's sample for GitHub's server."""


def registration(name: str = "a", namespace: str | None = None, **spec: Any) -> dict[str, Any]:
    given = {"targetRef": {"name": f"{name}-route"}} | spec
    return document("MCPServerRegistration", "mcp.kuadrant.io/v1", name, given, namespace)


def http_route(name: str = "a", namespace: str | None = None, **rule: Any) -> dict[str, Any]:
    one = {"backendRefs": [{"name": name, "port": 8080}]} | rule
    spec = {"hostnames": [f"{name}.mcp.local"], "rules": [one]}
    return document("HTTPRoute", "gateway.networking.k8s.io/v1", f"{name}-route", spec, namespace)


def service(name: str = "a", namespace: str | None = None, port: Mapping[str, Any] | None = None) -> dict[str, Any]:
    spec = {"type": "ExternalName", "externalName": f"{name}.example", "ports": [{"port": 8080} | dict(port or {})]}
    return document("Service", "v1", name, spec, namespace)


def registered(name: str = "a", **spec: Any) -> list[dict[str, Any]]:
    return [registration(name, **spec), http_route(name), service(name)]


def virtual(name: str = "v", namespace: str | None = None, **spec: Any) -> dict[str, Any]:
    return document("MCPVirtualServer", "mcp.kuadrant.io/v1", name, spec, namespace)


def extension(**spec: Any) -> dict[str, Any]:
    target = {"targetRef": {"name": "gateway", "sectionName": "http"}}
    return document("MCPGatewayExtension", "mcp.kuadrant.io/v1", "e", target | spec)


AUTHORIZATION = {"name": "Authorization", "value": "Bearer x"}


def headers_of(server: Server) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in server.headers.items()}


def test_the_sample_for_github() -> None:
    loaded = loads(GITHUB, "kuadrant.yaml", {})
    [(name, server)] = loaded.config.servers.items()
    assert (name, server.url, server.prefix, server.separator) == (
        "github", "https://api.githubcopilot.com/mcp", "github_", ""
    )  # fmt: skip
    assert headers_of(server) == {}
    assert Catalog(endpoints(loaded.config)[0]).names.join("github", "issue_read") == "github_issue_read"
    [warning] = loaded.warnings
    assert warning.startswith("line 13, MCPServerRegistration mcp-test/github spec.credentialRef: is not sent")


def test_lists_of_each_user() -> None:
    """The server gets the caller's token, about which a warning says what MCP says."""
    loaded = load(*registered(prefix="a_", userSpecificList="Enabled"))
    [forwarded] = loaded.config.servers["a"].credentials.forward
    assert forwarded.target == "Authorization"
    [warning] = loaded.warnings
    assert warning.startswith(
        "line 9, MCPServerRegistration default/a spec.userSpecificList: the server gets the client's"
    )


def test_what_is_written_of_it_reads_the_same() -> None:
    loaded = loads(GITHUB, "kuadrant.yaml", {})
    assert loads(loaded.text, "gateway.yaml", {}).config == loaded.config


@pytest.mark.parametrize("version", ["mcp.kuadrant.io/v1", "mcp.kuadrant.io/v1alpha1"])
def test_both_versions(version: str) -> None:
    documents = registered()
    documents[0]["apiVersion"] = version
    assert quiet(*documents).config.servers["a"].url == "http://a.example:8080/mcp"


def test_servers_without_a_prefix() -> None:
    config = quiet(*registered("a"), *registered("b"), *registered("c", prefix="c_")).config
    assert Catalog(endpoints(config)[0]).names.sharing == {"a", "b"}


def test_equal_names_in_two_namespaces() -> None:
    documents = [
        one
        for namespace, prefix in (("x", "x_"), ("y", "y_"))
        for one in (
            registration("a", namespace, prefix=prefix),
            http_route("a", namespace),
            service("a", namespace),
        )
    ]
    assert list(quiet(*documents).config.servers) == ["x.a", "y.a"]


def test_no_registration_replaces_another_whose_name_is_that_with_its_namespace() -> None:
    documents = [
        one
        for namespace, name in (("x", "a"), ("y", "a"), ("z", "x.a"))
        for one in (
            registration(name, namespace, prefix=f"{namespace}_"),
            http_route(name, namespace),
            service(name, namespace),
        )
    ]
    assert error_of(*documents) == (
        'MCPServerRegistration z/x.a metadata.name: is called "x.a" here, as is MCPServerRegistration x/a metadata.name:'
        " rename one of them"
    )


def test_path_and_headers() -> None:
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "Exact", "value": "/v1/mcp"}}],
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-team", "value": "a"}]}}
        ],
    }
    server = quiet(registration(path="/v1/mcp"), http_route(**rule), service()).config.servers["a"]
    assert server.url == "http://a.example:8080/v1/mcp"
    assert headers_of(server) == {"x-team": "a"}


@pytest.mark.parametrize("port", [{"appProtocol": "https"}, {"name": "https"}])
def test_what_a_service_says_of_tls(port: dict[str, Any]) -> None:
    assert quiet(registration(), http_route(), service(port=port)).config.servers["a"].uses_tls


def test_an_authority_of_its_own() -> None:
    documents = registered(caCertSecretRef={"name": "ca"})
    server = quiet(*documents, secret("ca", **{"ca.crt": PEM})).config.servers["a"]
    assert server.url == "https://a.example:8080/mcp"
    assert server.tls is not None
    assert server.tls.ca_inline == PEM


def test_a_service_that_the_command_line_places() -> None:
    loaded = load(registration(), http_route(), resolve={"a.default": "127.0.0.1:8080"})
    assert loaded.config.servers["a"].url == "http://127.0.0.1:8080/mcp"


def test_the_command_line_changes_the_place_alone() -> None:
    """What the document says of its port holds at another one."""
    documents = [registration(), http_route(), service(port={"appProtocol": "kubernetes.io/h2c"})]
    server = load(*documents, resolve={"a.default": "127.0.0.1:9090"}).config.servers["a"]
    assert (server.url, server.http2) == ("http://127.0.0.1:9090/mcp", True)


def test_what_is_disabled_is_left_out() -> None:
    loaded = load(
        *registered("a"), *registered("b", state="Disabled", prefix="b_"), virtual(tools=["b_x", "x"], prompts=[])
    )
    assert list(loaded.config.servers) == ["a"]
    assert list(loaded.config.virtual_servers["default/v"].servers) == ["a"]
    assert [warning.partition(", ")[2] for warning in loaded.warnings] == [
        "MCPServerRegistration default/b spec.state: is Disabled: the server is left out",
        "MCPVirtualServer default/v spec.tools[0]: has no effect: MCPServerRegistration default/b is disabled",
        "Service default/b: has no effect: no document that is read names it",
    ]


# -- Where clients connect ------------------------------------------------------------------------------------------------


def test_an_extension_says_where_clients_connect() -> None:
    listeners = [
        {"name": "mcps", "port": 8081, "protocol": "HTTP", "hostname": "*.mcp.local"},
        {"name": "http", "port": 8080, "protocol": "HTTP", "hostname": "*.example.com"},
    ]
    listen = quiet(*registered(), gateway(*listeners), extension(publicHost="mcp.example.com")).config.listen
    assert (listen.port, listen.path, listen.allowed_hosts) == (8080, "/mcp", ("mcp.example.com",))


def test_the_listeners_host_counts_without_a_public_one() -> None:
    listener = {"name": "http", "port": 8080, "protocol": "HTTP", "hostname": "mcp.example.com"}
    assert quiet(*registered(), gateway(listener), extension()).config.listen.allowed_hosts == ("mcp.example.com",)
    listener["hostname"] = "*.example.com"
    assert error_of(*registered(), gateway(listener), extension()) == (
        "MCPGatewayExtension default/e spec.targetRef: the listener's hostname has a wildcard: give publicHost"
    )


# -- Virtual servers ------------------------------------------------------------------------------------------------------


def selected(loaded: Loaded) -> dict[str, Any]:
    offered = loaded.config.virtual_servers["team/v"].offered
    return {
        name: {kind: [one.text for one in of.of(kind)] for kind in ("tools", "prompts", "resources")}
        for name, of in offered.items()
    }


def test_a_virtual_server_names_what_clients_see() -> None:
    servers = [*registered("a", prefix="a_"), *registered("b", prefix="b_"), *registered("c"), *registered("d")]
    one = virtual(namespace="team", description="For a team.", tools=["a_x", "a_x", "b_a_y", "z"], prompts=["a_p"])
    loaded = quiet(*servers, one)
    assert loaded.config.virtual_server_header
    assert selected(loaded) == {
        "a": {"tools": ["x"], "prompts": ["p"], "resources": []},
        "b": {"tools": ["a_y"], "prompts": [], "resources": []},
        # It belongs to the one that lists it.
        "c": {"tools": ["z"], "prompts": [], "resources": []},
        "d": {"tools": ["z"], "prompts": [], "resources": []},
    }


def test_without_prompts_all_are_offered() -> None:
    servers = [*registered("a", prefix="a_"), *registered("b", prefix="b_")]
    assert selected(quiet(*servers, virtual(namespace="team", tools=["a_x"]))) == {
        "a": {"tools": ["x"], "prompts": ["*"], "resources": []},
        "b": {"tools": [], "prompts": ["*"], "resources": []},
    }


# -- What can't be --------------------------------------------------------------------------------------------------------

_A = "MCPServerRegistration default/a "
_ROUTE = "HTTPRoute default/a-route "


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        (registered(prefix="A"), _A + "spec.prefix: expected lower-case letters, digits and _"),
        (registered(path="mcp"), _A + "spec.path: expected a path that begins with /"),
        (registered(userSpecificList="Enabled"), _A + "spec: prefix is required when userSpecificList is Enabled"),
        (
            [
                registration(prefix="a_", userSpecificList="Enabled"),
                http_route(
                    filters=[{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [AUTHORIZATION]}}]
                ),
                service(),
            ],
            _A + "spec.userSpecificList: Authorization is among the server's headers, too",
        ),
        (registered(tokenURLElicitation={}), _A + "spec.tokenURLElicitation: is not supported"),
        (
            [registration(targetRef={"name": "a-route", "namespace": "b"}), service()],
            _A + "spec.targetRef.namespace: references to another namespace are refused",
        ),
        ([registration(), service()], _A + "spec.targetRef.name: names the HTTPRoute default/a-route"),
        ([registration(), http_route()], _ROUTE + "spec.rules[0].backendRefs[0].name: names the Service default/a"),
        (
            registered(caCertSecretRef={"name": "s"}),
            _A + "spec.caCertSecretRef.name: names the Secret default/s, and there is no such document",
        ),
        (
            [*registered(caCertSecretRef={"name": "s", "key": "k"}), secret(token="t")],
            "Secret default/s data: has no key k: add it",
        ),
        (
            [registration(), http_route(backendRefs=[]), service()],
            _ROUTE + "spec.rules: expected one rule with one backend reference",
        ),
        (
            [registration(), http_route(matches=[{"path": {"value": "/other"}}]), service()],
            _ROUTE + "spec.rules[0].matches: do not take all requests with the path /mcp",
        ),
        (
            [registration(), http_route(matches=[{"headers": [{"name": "x-a", "value": "b"}]}]), service()],
            _ROUTE + "spec.rules[0].matches: do not take all requests",
        ),
        (
            [registration(), http_route(filters=[{"type": "ExternalAuth", "externalAuth": {}}]), service()],
            _ROUTE + "spec.rules[0].filters[0].type: is not supported",
        ),
        (
            [
                registration(),
                http_route(filters=[{"type": "URLRewrite", "urlRewrite": {"hostname": "b.example"}}]),
                service(),
            ],
            _ROUTE + "spec.rules[0].filters[0].urlRewrite.hostname: is not supported, unless it is the host",
        ),
        (
            [*registered(prefix="a_"), virtual(tools=["b_x"], prompts=[])],
            "MCPVirtualServer default/v spec.tools[0]: no registration has a prefix of this name: correct it",
        ),
        (
            [*registered(), virtual(tools=[])],
            "MCPVirtualServer default/v spec.tools: expected a list that is not empty",
        ),
        (
            [*registered(), virtual(name="v" * 60, tools=["x"])],
            f"MCPVirtualServer default/{'v' * 60} metadata.name: expected a name of 1 to 48 characters",
        ),
        (
            [*registered(), gateway(), extension(trustedHeadersKey={"secretName": "s"})],
            "MCPGatewayExtension default/e spec.trustedHeadersKey: is not supported",
        ),
        (
            [*registered(), gateway(), extension(targetRef={"name": "gateway", "sectionName": "other"})],
            "MCPGatewayExtension default/e spec.targetRef.sectionName: Gateway default/gateway has no such listener",
        ),
        ([*registered(), route(), backend()], _A.strip() + ": can't be read together with MCPRoute default/r"),
    ],
)
def test_problems(documents: list[dict[str, Any]], problem: str) -> None:
    assert error_of(*documents).startswith(problem)


def test_the_same_prefix_twice() -> None:
    both = (*registered("a", prefix="x_"), *registered("b", prefix="x_"))
    places = " and ".join(f"MCPServerRegistration default/{name} metadata.name" for name in "ba")
    same = f"{places} both have the same prefix: set another `prefix`"
    assert error_of(*both) == f"MCPServerRegistration default/b metadata.name: {same}"
    begun = (*registered("a", prefix="x_y_"), *registered("b", prefix="x_"))
    assert error_of(*begun).startswith(f"MCPServerRegistration default/b metadata.name: {places}: a name that")


def test_what_has_no_effect_is_named() -> None:
    loaded = load(
        *registered(category=["c"], hint="h", tags=["t"]),
        http_route("other"),
        http_route("a", namespace="elsewhere"),
        gateway(),
        extension(privateHost="p", backendPingIntervalSeconds=60, logLevel="info", maxBodyBytes=1, sessionStore={}),
        config_map(k="v"),
    )
    assert [warning.partition(", ")[2].partition(": ")[0] for warning in loaded.warnings] == [
        "MCPServerRegistration default/a spec.category",
        "MCPServerRegistration default/a spec.hint",
        "MCPServerRegistration default/a spec.tags",
        "HTTPRoute default/other-route",
        "HTTPRoute elsewhere/a-route",
        "MCPGatewayExtension default/e spec.privateHost",
        "MCPGatewayExtension default/e spec.backendPingIntervalSeconds",
        "MCPGatewayExtension default/e spec.logLevel",
        "MCPGatewayExtension default/e spec.sessionStore",
        "MCPGatewayExtension default/e spec.maxBodyBytes",
        "ConfigMap default/c",
    ]


def test_documents_beside_an_mcp_route_are_named() -> None:
    loaded = load(route(), backend(), http_route(), virtual(tools=["x"]))
    assert [warning.partition(", ")[2] for warning in loaded.warnings] == [
        "HTTPRoute default/a-route: has no effect: the file has an MCPRoute",
        "MCPVirtualServer default/v: has no effect: the file has an MCPRoute",
    ]


def test_what_the_documents_say_is_data() -> None:
    """What a variable holds stays as it is."""
    changes = {"set": [{"name": "x-key", "value": "$" + "{x}"}]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": changes}]
    text = yaml.safe_dump_all([registration(), http_route(filters=filters), service()])
    assert headers_of(loads(text, "k.yaml", {"x": "y${z}"}).config.servers["a"]) == {"x-key": "y${z}"}
