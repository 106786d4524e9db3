from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import ConfigError, Server, loads
from tests.unit.config.kubernetes.support import (
    KEY,
    backend,
    document,
    error_of,
    gateway,
    load,
    quiet,
    route,
    secret,
    text_of,
    tls_policy,
    to_backend,
)

ANNOUNCEMENT = (Path(__file__).parent / "announcement.yaml").read_text(encoding="utf-8")
"""The MCPRoute of Envoy AI Gateway's announcement of its MCP support, as it stands there."""


def headers_of(server: Server) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in server.headers.items()}


def test_the_route_of_the_announcement_alone_names_what_is_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(ANNOUNCEMENT, "mcp-route.yaml", {})
    assert str(caught.value) == (
        "mcp-route.yaml: 3 problems\n"
        "  line 12, MCPRoute default/mcp-route spec.backendRefs[0].name: names the Backend default/context7, and there is no"
        " such document: add it\n"
        "  line 16, MCPRoute default/mcp-route spec.backendRefs[1].name: names the Backend default/github, and there is no"
        " such document: add it\n"
        "  line 29, MCPRoute default/mcp-route spec.backendRefs[1].securityPolicy.apiKey.secretRef.name: names the Secret"
        " default/github-access-token, and there is no such document: add it"
    )


def hosted(name: str, host: str) -> list[dict[str, Any]]:
    return [
        backend(name, endpoints=[{"fqdn": {"hostname": host, "port": 443}}]),
        tls_policy(name, hostname=host),
    ]


def test_the_route_of_the_announcement_with_its_documents() -> None:
    token = secret("github-access-token", apiKey="GITHUB_ACCESS_TOKEN")
    token["metadata"]["annotations"] = {"substitution.aigw.run/env/apiKey": "GITHUB_ACCESS_TOKEN"}
    more = [
        *hosted("context7", "mcp.context7.com"),
        *hosted("github", "api.githubcopilot.com"),
        token,
        document(
            "Gateway",
            "gateway.networking.k8s.io/v1",
            "aigw-run",
            {"gatewayClassName": "aigw-run", "listeners": [{"name": "http", "protocol": "HTTP", "port": 1976}]},
        ),
    ]
    loaded = loads(f"{ANNOUNCEMENT}---\n{text_of(*more)}", "mcp-route.yaml", {"GITHUB_ACCESS_TOKEN": "tok${en}"})
    config = loaded.config
    assert list(config.servers) == ["context7", "github"]
    github = config.servers["github"]
    assert github.url == "https://api.githubcopilot.com/mcp/readonly"
    assert headers_of(github) == {"Authorization": "Bearer tok${en}"}
    assert github.tools.includeRegex == (".*_pull_requests?.*", ".*_issues?.*")
    assert (config.listen.port, config.listen.path) == (1976, "/mcp")
    assert config.authentication is not None
    assert config.authentication.oauth is not None
    assert config.authentication.oauth.resource == "http://localhost:1975/mcp"
    assert config.authentication.oauth.scopes_supported == ("profile", "email")
    [warning] = loaded.warnings
    assert "line 32" in warning
    assert "oauth.audiences" in warning
    # What workers get says the same, whatever a credential looks like, and has no variables.
    again = loads(loaded.text, "mcp-route.yaml", {})
    assert again.source == "native"
    assert again.config == config


def test_without_a_gateway_the_port_is_the_usual_one() -> None:
    config = quiet(route(), backend()).config
    assert (config.listen.port, config.listen.path, config.listen.address) == (1975, "/mcp", "127.0.0.1")
    assert config.servers["a"] == Server(url="http://a.example:8080/mcp")


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_both_versions(version: str) -> None:
    assert quiet(route(api_version=f"aigateway.envoyproxy.io/{version}"), backend()).config.servers.keys() == {"a"}


def test_path_hosts_and_listener() -> None:
    one, two = ({"name": name, "protocol": "HTTP", "port": port} for name, port in (("a", 81), ("b", 82)))
    chosen = route(
        path="/tools", hostnames=["tools.example"], parentRefs=[{"name": "gateway", "sectionName": "b"}]
    )  # fmt: skip
    listen = quiet(chosen, backend(), gateway(one, two, addresses=[{"value": "0.0.0.0"}])).config.listen
    assert (listen.path, listen.port, listen.address) == ("/tools", 82, "0.0.0.0")
    assert listen.allowed_hosts == ("tools.example",)


def test_the_listeners_host_counts_where_the_route_has_none() -> None:
    listener = {"name": "a", "protocol": "HTTP", "port": 81, "hostname": "gw.example"}
    assert quiet(route(), backend(), gateway(listener)).config.listen.allowed_hosts == ("gw.example",)


def test_paths_queries_and_credentials() -> None:
    def server(**more: Any) -> Server:
        return load(route(backendRefs=to_backend(**more)), backend(), secret(apiKey=KEY)).config.servers["a"]

    of_secret = {"secretRef": {"name": "s"}}
    assert server(path="/x").url == "http://a.example:8080/x"
    assert headers_of(server(securityPolicy={"apiKey": of_secret})) == {"Authorization": f"Bearer {KEY}"}
    assert headers_of(server(securityPolicy={"apiKey": {"inline": "k"}})) == {"Authorization": "Bearer k"}
    # Only the exact spelling has the scheme put in front.
    lower = of_secret | {"header": "authorization"}
    assert headers_of(server(securityPolicy={"apiKey": lower})) == {"authorization": KEY}
    query = {"inline": "a&b=c d", "queryParam": "api key"}
    assert server(securityPolicy={"apiKey": query}).path_and_query == "/mcp?api%20key=a%26b%3Dc%20d"
    assert server(path="/x?y=1", securityPolicy={"apiKey": query}).path_and_query == "/x?y=1&api%20key=a%26b%3Dc%20d"


def test_headers_of_the_client() -> None:
    named = [{"name": "x-tenant"}, {"name": "authorization", "backendHeader": "x-token"}]
    documents = text_of(route(backendRefs=to_backend(forwardHeaders=named)), backend())
    loaded = loads(documents, "mcp-route.yaml", {})
    [server] = loaded.config.servers.values()
    found = [(one.name, one.target) for one in server.credentials.forward]
    assert found == [("x-tenant", "x-tenant"), ("authorization", "x-token")]
    assert any("the server gets the client's Authorization" in warning for warning in loaded.warnings)


def test_tools() -> None:
    chosen = to_backend(toolSelector={"include": ["x", "y"], "excludeRegex": ["^z"]})
    tools = quiet(route(backendRefs=chosen), backend()).config.servers["a"].tools
    assert (tools.include, tools.excludeRegex) == (("x", "y"), ("^z",))


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        (
            [route(), backend(), document("Gateway", "gateway.networking.k8s.io/v1", "b", gateway()["spec"])],
            ("MCPRoute default/r spec.parentRefs[0].name: names the Gateway default/gateway, and there is no such document:"
            " add it"),
        ),
        (
            [route(parentRefs=[{"name": "gateway", "port": 7}]), backend(), gateway()],
            "MCPRoute default/r spec.parentRefs[0]: Gateway default/gateway has no such listener: correct sectionName or port",
        ),
        (
            [route(backendRefs=to_backend(forwardHeaders=[{"name": "x-mcp-server"}])), backend()],
            ("MCPRoute default/r spec.backendRefs[0].forwardHeaders[0]: x-mcp-server is set by the gateway, or reaches"
            " servers anyway: it can't carry what a server relies on"),
        ),
        (
            [route(backendRefs=to_backend(toolSelector={"include": []})), backend()],
            ("MCPRoute default/r spec.backendRefs[0].toolSelector.include: is empty: name at least one tool, or leave the key"
            " out"),
        ),
        (
            [route(backendRefs=to_backend(toolSelector={"includeRegex": ["("]})), backend()],
            "MCPRoute default/r spec.backendRefs[0].toolSelector.includeRegex: not a regular expression",
        ),
        (
            [route(backendRefs=to_backend(name="a" * 60)), backend("a" * 60)],
            "MCPRoute default/r spec.backendRefs[0]: the server's name is not usable as a prefix",
        ),
        (
            [route(backendRefs=[*to_backend(), *to_backend(name="a__b")]), backend(), backend("a__b")],
            ("MCPRoute default/r spec.backendRefs[1]: the prefix contains the separator, so names would be ambiguous: give the"
            " backend another name"),
        ),
        (
            [route(path="mcp"), backend()],
            "MCPRoute default/r spec.path: expected an absolute path such as /mcp, without query or fragment",
        ),
        (
            [route(backendRefs=to_backend(securityPolicy={"apiKey": {"inline": "a\nb"}})), backend()],
            ("MCPRoute default/r spec.backendRefs[0].securityPolicy.apiKey: control characters, CR and LF are not allowed in"
            " a header value"),
        ),
        (
            [
                route(
                    backendRefs=to_backend(securityPolicy={"apiKey": {"secretRef": {"name": "s", "namespace": "other"}}})
                ),
                backend(),
            ],
            ("MCPRoute default/r spec.backendRefs[0].securityPolicy.apiKey.secretRef.namespace: references to another"
                " namespace are refused: leave it out"),
        ),
        (
            [route(), backend(), gateway({"name": "a", "protocol": "HTTPS", "port": 443})],
            "Gateway default/gateway spec.listeners[0].tls: required by HTTPS: give certificateRefs",
        ),
        ([backend()], ""),
    ],
)  # fmt: skip
def test_problems(documents: list[dict[str, Any]], problem: str) -> None:
    if not problem:
        with pytest.raises(
            ConfigError, match="there is no MCPRoute, and no MCPServerRegistration, but Backend: add one"
        ):
            load(*documents)
        return
    assert error_of(*documents).startswith(problem)


def test_what_has_no_effect_is_named() -> None:
    listener = {"name": "a", "protocol": "HTTP", "port": 81, "allowedRoutes": {"namespaces": {"from": "All"}}}
    parents = [{"name": "gateway"}]
    other = {"name": "b", "protocol": "HTTP", "port": 82}
    loaded = load(
        route(parentRefs=parents), backend(), gateway(listener, other, infrastructure={}),
        document("Deployment", "apps/v1", "d", {}),
    )  # fmt: skip
    assert [warning.partition(", ")[2] for warning in loaded.warnings] == [
        "Deployment default/d: has no effect: objects of this kind are not read",
        (
            "Gateway default/gateway spec.listeners[1]: has no effect: routes are served at the port of the first"
            " listener that they are attached to"
        ),
        "Gateway default/gateway spec.listeners[0].allowedRoutes: has no effect: what is in the file is allowed",
        "Gateway default/gateway spec.infrastructure: has no effect: Envoy is configured by the gateway alone",
    ]


def test_json_is_read_too() -> None:
    """As ``kubectl get -o json`` prints it."""
    items = {"apiVersion": "v1", "kind": "List", "items": [route(), backend()], "metadata": {"resourceVersion": ""}}
    assert loads(json.dumps(items, indent=4), "route.json", {}).config.servers.keys() == {"a"}


def test_variables() -> None:
    chosen = [{"fqdn": {"hostname": "${HOST}", "port": "${PORT:-81}"}}]
    loaded = quiet(route(), backend(endpoints=chosen), environ={"HOST": "b.example"})
    assert loaded.config.servers["a"].url == "http://b.example:81/mcp"
    assert error_of(route(), backend(endpoints=chosen)).startswith(
        "Backend default/a spec.endpoints[0].fqdn.hostname: the environment variable HOST is not set"
    )
