"""Several MCPRoutes, and routes that more than their path chooses."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig, loads
from mcp_extproc.config.authorization import Selector
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.gateway.catalog import Catalog
from tests.unit.config.kubernetes.support import (
    KEY,
    backend,
    error_of,
    gateway,
    load,
    pair,
    quiet,
    route,
    secret,
    to_backend,
)


def listener(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": 8080, "protocol": "HTTP"} | more


PAIR = pair()
TO_SECRET = {"certificateRefs": [{"name": "s"}]}


def secured(**tls: Any) -> dict[str, Any]:
    return gateway(listener("a", protocol="HTTPS", tls=TO_SECRET | tls))


def catalogs(config: GatewayConfig) -> dict[str, Catalog]:
    return {one.name: Catalog(one) for one in endpoints(config)}


def test_two_routes_are_two_endpoints() -> None:
    second = route(name="second", path="/other", backendRefs=to_backend(name="b"))
    config = quiet(route(), second, backend(), backend("b")).config
    assert [(one.name, one.path, list(one.servers)) for one in endpoints(config)] == [
        ("r", "/mcp", ["a"]), ("second", "/other", ["b"])
    ]  # fmt: skip
    assert config.listen.port == 1975


def test_backends_of_one_name_are_servers_of_their_own() -> None:
    """Each with its own credentials and tools, under the same prefix."""
    policy = {"apiKey": {"inline": "k"}}
    second = route(
        name="second", path="/other", backendRefs=to_backend(securityPolicy=policy, toolSelector={"include": ["x"]})
    )
    config = quiet(route(), second, backend()).config
    assert list(config.servers) == ["r.a", "second.a"]
    assert [list(server.headers) for server in config.servers.values()] == [[], ["Authorization"]]
    found = catalogs(config)
    assert found["r"].names.split("a__x") == ("r.a", "x")
    assert found["second"].names.split("a__x") == ("second.a", "x")
    assert found["second"].resolve("tools", "a__y") is None


def test_routes_of_one_name_in_two_namespaces() -> None:
    documents = []
    for namespace in ("x", "y"):
        for one in (route(path=f"/{namespace}"), backend()):
            one["metadata"]["namespace"] = namespace
            documents.append(one)
    assert list(quiet(*documents).config.virtual_servers) == ["x.r", "y.r"]


def test_no_route_replaces_another_whose_name_is_that_with_its_namespace() -> None:
    documents = []
    for namespace, name in (("x", "a"), ("y", "a"), ("z", "x.a")):
        for one in (route(name=name, path=f"/{namespace}", backendRefs=to_backend(name=namespace)), backend(namespace)):
            one["metadata"]["namespace"] = namespace
            documents.append(one)
    assert error_of(*documents) == (
        'MCPRoute z/x.a metadata.name: is called "x.a" here, as is MCPRoute x/a metadata.name: rename one of them'
    )


def test_no_backend_replaces_another_whose_name_is_that_with_its_route() -> None:
    both = [*to_backend(), *to_backend(name="r.a")]
    second = route(name="second", path="/other", backendRefs=both)
    assert error_of(route(), second, backend(), backend("r.a")) == (
        'MCPRoute default/second spec.backendRefs[1].name: is called "r.a" here,'
        " as is MCPRoute default/r spec.backendRefs[0].name: rename one of them"
    )


def test_each_route_has_its_own_security() -> None:
    keys = {
        "credentialRefs": [{"name": "clients"}],
        "extractFrom": [{"headers": ["x-key"]}],
    }
    rules = [{"target": {"tools": [{"backend": "a", "tool": "x"}]}}]
    second = route(name="second", path="/other", securityPolicy={"apiKeyAuth": keys, "authorization": {"rules": rules}})
    config = quiet(route(), second, backend(), secret("clients", alice=KEY)).config
    first, other = endpoints(config)
    assert (first.authentication, first.authorization) == (None, None)
    assert other.authentication is not None
    assert other.authentication.api_keys is not None
    assert other.authorization is not None
    assert [selector.text for selector in other.authorization.rules[1].servers or ()] == ["second.a"]


def test_conditions_name_the_backend_of_their_route() -> None:
    """Where its server has another name, too."""
    cel = "request.mcp.backend == 'a'"
    rules = [{"cel": cel, "source": {"jwt": {"scopes": ["x"]}}}]
    oauth = {
        "issuer": "https://idp.example",
        "audiences": ["a"],
        "protectedResourceMetadata": {"resource": "https://r"},
    }
    second = route(
        name="second",
        path="/other",
        backendRefs=[*to_backend(), *to_backend(name="b")],
        backendSelector={"rules": [{"cel": cel}]},
        securityPolicy={"oauth": oauth, "authorization": {"rules": rules}},
    )
    config = quiet(route(), second, backend(), backend("b")).config
    authorization = endpoints(config)[1].authorization
    assert authorization is not None
    told = """{"second.a": "a", "b": "b"}[request.mcp.backend] == 'a'"""
    assert [rule.when for rule in authorization.rules if rule.when] == [f"!(({told}) || false)", told]


def test_headers_and_wildcards_choose_a_route() -> None:
    tenant = route(headers=[{"name": "X-Tenant", "value": "a"}], hostnames=["*.example.com", "mcp.example.org"])
    config = quiet(tenant, backend()).config
    [one] = endpoints(config)
    assert (one.path, one.domains) == ("/mcp", ("*.example.com", "mcp.example.org"))
    assert one.headers == {"x-tenant": "a"}


def test_a_regular_expression_is_for_the_whole_value_of_a_header() -> None:
    tenants = route(headers=[{"name": "X-Tenant", "value": "a|b", "type": "RegularExpression"}])
    [one] = endpoints(quiet(tenants, backend()).config)
    assert one.headers == {"x-tenant": Selector("regex", "^(?:a|b)$")}


def test_the_route_that_says_most_has_the_request() -> None:
    routes = [
        route(name="any"),
        route(name="tenant", headers=[{"name": "x-a", "value": "b"}]),
        route(name="wildcard", hostnames=["*.example.com"]),
        route(name="longer", hostnames=["*.b.example.com"]),
        route(name="exact", hostnames=["c.b.example.com"]),
        route(name="both", hostnames=["c.b.example.com"], headers=[{"name": "x-a", "value": "b"}]),
    ]
    config = quiet(*routes, backend()).config
    assert [one.name for one in endpoints(config)] == ["both", "exact", "longer", "wildcard", "tenant", "any"]


def test_an_exact_host_has_its_requests_whatever_else_its_route_and_others_name() -> None:
    grab = route(name="grab", hostnames=["a-very-long-name.example.com", "*.Example.com"])
    sec = route(name="sec", hostnames=["admin.example.com.", "admin.example.org"])
    other = route(name="other", hostnames=["*.example.com"], path="/other")
    config = quiet(grab, other, sec, backend()).config
    assert [one.name for one in endpoints(config)] == ["sec", "grab", "other"]


def test_of_one_host_the_route_with_more_headers_has_it_whatever_else_they_name() -> None:
    few = route(name="few", hostnames=["a.example", "a-longer-one.example"])
    more = route(name="more", hostnames=["a.example"], headers=[{"name": "x-a", "value": "b"}])
    assert [one.name for one in endpoints(quiet(few, more, backend()).config)] == ["more", "few"]


def test_a_host_that_an_earlier_route_has_is_named() -> None:
    first = route(name="first", hostnames=["a.example", "b.example"])
    second = route(name="second", hostnames=["c.example", "b.example"])
    [warning] = load(first, second, backend()).warnings
    assert "MCPRoute default/second spec.hostnames: requests to b.example are those of first (b.example)" in warning


def crossing(**more: Any) -> list[dict[str, Any]]:
    """Two routes, each with a host below a wildcard of the other's."""
    one = route(name="one", hostnames=["x.a.example", "*.b.example"], headers=[{"name": "x-a", "value": "b"}])
    return [one, route(name="two", hostnames=["x.b.example", "*.a.example"], **more), backend()]


def test_no_order_of_the_routes_serves_each_host() -> None:
    told = error_of(*crossing())
    assert told.startswith(
        "MCPRoute default/two spec.hostnames: no order of the routes gives each host to the one that"
    )
    assert 'MCPRoute default/one has to come before MCPRoute default/two for "x.a.example"' in told
    assert 'MCPRoute default/two has to come before MCPRoute default/one for "x.b.example"' in told
    assert told.endswith("; give one of these hosts a route of its own")


def test_routes_that_headers_tell_apart_may_have_any_hosts() -> None:
    config = quiet(*crossing(headers=[{"name": "X-A", "value": "c"}])).config
    assert [one.name for one in endpoints(config)] == ["one", "two"]


def test_the_wildcard_of_a_listener_counts_where_the_route_has_no_host() -> None:
    listener = {"name": "http", "port": 8080, "protocol": "HTTP", "hostname": "*.example.com"}
    config = quiet(route(), backend(), gateway(listener)).config
    assert endpoints(config)[0].domains == ("*.example.com",)
    assert config.listen.port == 8080


def test_listeners_of_one_port_have_routes_of_their_own() -> None:
    names = {"a": "a.example", "b": "*.b.example", "c": "c.example"}
    listeners = [listener(name, hostname=host) for name, host in names.items()]
    to_b = route(name="second", parentRefs=[{"name": "gateway", "sectionName": "b"}], hostnames=["x.b.example"])
    to_a = route(name="third", parentRefs=[{"name": "gateway", "sectionName": "a"}], path="/a")
    config = quiet(route(), to_a, to_b, backend(), gateway(*listeners)).config
    assert {one.name: one.domains for one in endpoints(config)} == {
        "r": ("a.example", "*.b.example", "c.example"), "second": ("x.b.example",), "third": ("a.example",),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own", "reached"), [(["x.example.com"], ["x.example.com"]), (["*.example.com"], ["*.a.example.com"])]
)
def test_names_of_a_route_that_a_listener_has_too(own: list[str], reached: list[str]) -> None:
    host = "*.a.example.com" if "*" in own[0] else "*.example.com"
    chosen = route(hostnames=own, headers=[{"name": "x-a", "value": "b"}])
    config = quiet(chosen, backend(), gateway(listener("a", hostname=host))).config
    assert list(endpoints(config)[0].domains) == reached


def test_what_is_written_of_them_reads_the_same() -> None:
    second = route(name="second", headers=[{"name": "x-a", "value": "b"}])
    loaded = quiet(second, route(), backend())
    assert loads(loaded.text, "gateway.yaml", {}).config == loaded.config


def test_tls_of_a_listener() -> None:
    found = quiet(route(), backend(), secured(), secret(**PAIR)).config.listen.tls
    assert found is not None
    assert found.key_inline is not None
    assert (found.certificate_inline, found.key_inline.get_secret_value()) == (PAIR["tls.crt"], PAIR["tls.key"])


def test_listeners_without_effect_are_named_once() -> None:
    listeners = [{"name": name, "port": port, "protocol": "HTTP"} for name, port in (("a", 1), ("b", 2))]
    loaded = load(route(), route(name="second", path="/other"), backend(), gateway(*listeners))
    [warning] = loaded.warnings
    assert "spec.listeners[1]: has no effect" in warning


def test_several_certificates_at_one_port() -> None:
    """Of one listener, and of several; the one that two have is there once."""
    pairs = {name: pair() for name in "stu"}
    one = listener("a", protocol="HTTPS", tls={"certificateRefs": [{"name": "s"}, {"name": "t"}]})
    two = listener("b", protocol="HTTPS", tls={"certificateRefs": [{"name": "t"}, {"name": "u"}]})
    secrets = [secret(name, **values) for name, values in pairs.items()]
    tls = quiet(route(), backend(), gateway(one, two), *secrets).config.listen.tls
    assert tls is not None
    shown = [one.certificate_inline.strip() for one in tls.all if one.certificate_inline is not None]
    assert shown == [pairs[name]["tls.crt"].strip() for name in "stu"]


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        (
            [route(), route(name="second"), backend()],
            "MCPRoute default/second: all of its requests are those of r: use another path, host or headers",
        ),
        (
            [route(headers=[{"name": "x-a", "value": "b)|(c", "type": "RegularExpression"}]), backend()],
            "MCPRoute default/r spec.headers[0].value: not a regular expression: unexpected )",
        ),
        (
            [route(headers=[{"name": "Authorization", "value": "b"}]), backend()],
            "MCPRoute default/r spec.headers: one of these headers has a meaning of its own",
        ),
        (
            [route(hostnames=["*"]), backend()],
            "MCPRoute default/r spec.hostnames: expected host names without scheme",
        ),
        (
            [route(name="n" * 50, hostnames=["*.a"]), backend()],
            f"MCPRoute default/{'n' * 50}: expected a name of 1 to 48 characters",
        ),
        (
            [
                route(parentRefs=[{"name": "gateway", "port": 1}]),
                route(name="second", path="/other", parentRefs=[{"name": "gateway", "port": 2}]),
                backend(),
                gateway(*({"name": f"l{port}", "port": port, "protocol": "HTTP"} for port in (1, 2))),
            ],
            "MCPRoute default/second spec.parentRefs: is attached to another port than MCPRoute default/r",
        ),
        (
            [route(hostnames=["b.example"]), backend(), gateway(listener("a", hostname="a.example"))],
            "MCPRoute default/r spec.hostnames[0]: no listener of Gateway default/gateway that the route is attached to has",
        ),
        (
            [route(), backend(), gateway(listener("a", protocol="HTTPS"))],
            "Gateway default/gateway spec.listeners[0].tls: required by HTTPS: give certificateRefs",
        ),
        (
            [route(), backend(), gateway(listener("a", protocol="TLS"))],
            "Gateway default/gateway spec.listeners[0].protocol: expected HTTP or HTTPS",
        ),
        (
            [route(), backend(), gateway(listener("a", tls={"certificateRefs": [{"name": "s"}]})), secret(**PAIR)],
            "Gateway default/gateway spec.listeners[0].tls: requires protocol HTTPS",
        ),
        (
            [route(), backend(), secured(mode="Passthrough"), secret(**PAIR)],
            "Gateway default/gateway spec.listeners[0].tls.mode: expected Terminate",
        ),
        (
            [route(), backend(), secured(frontendValidation={"caCertificateRefs": []}), secret(**PAIR)],
            "Gateway default/gateway spec.listeners[0].tls.frontendValidation: is not supported in documents: for clients'",
        ),
        (
            [route(), backend(), secured(options={"x/y": "z"}), secret(**PAIR)],
            'Gateway default/gateway spec.listeners[0].tls.options["x/y"]: is not supported: leave it out',
        ),
        (
            [route(), backend(), secured(certificateRefs=[]), secret(**PAIR)],
            "Gateway default/gateway spec.listeners[0].tls.certificateRefs: expected at least one Secret",
        ),
        (
            [
                route(),
                backend(),
                gateway(listener("a", protocol="HTTPS", tls=TO_SECRET), listener("b")),
                secret(**PAIR),
            ],
            "Gateway default/gateway spec.listeners[1].protocol: another one than that of listener a at the same port",
        ),
        (
            [route(), backend(), secured(), secret(**PAIR | {"tls.key": "hunter2"})],
            "Gateway default/gateway spec.listeners[0].tls",
        ),
        (
            [
                route(),
                route(
                    name="second",
                    path="/other",
                    backendSelector={"rules": [{"cel": "size(request.mcp) == 1"}]},
                ),
                backend(),
            ],
            "MCPRoute default/second spec.backendSelector.rules[0].cel: another route has a backend of the same name",
        ),
        (
            [
                route(),
                backend(),
                gateway(
                    *(listener(name, protocol="HTTPS", tls={"certificateRefs": [{"name": name}]}) for name in "st")
                ),
                secret(**PAIR),
                secret("t", **PAIR | {"tls.key": pair()["tls.key"]}),
            ],
            "Gateway default/gateway spec.listeners[1].tls: belongs to another certificate than the first one in `tls.crt`",
        ),
    ],
)
def test_problems(documents: list[dict[str, Any]], problem: str) -> None:
    assert error_of(*documents).startswith(problem)
