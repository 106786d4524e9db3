"""Authentication in the rendered configuration, and in an Envoy that nobody of ours supervises."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from click.testing import CliRunner

from mcp_extproc.address import UnixAddress
from mcp_extproc.cli import cli
from mcp_extproc.config import ConfigError, GatewayConfig
from mcp_extproc.envoy.attach.parts import pieces
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.authentication.filters import check_without_supervisor
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json, upstreams_only
from mcp_extproc.envoy.render.judging import Judging
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.authorization_server import AuthorizationServer, new_key, public_jwk
from tests.support.processes import free_port, http_server

ISSUER = {"issuer": "https://idp.example", "audiences": ["https://gw.example/mcp"]}
SERVERS = {"a": {"url": "http://127.0.0.1:1/mcp"}}
FAULT = {
    "name": "envoy.filters.http.fault",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"},
}


def manager(layout: Layout, listener: str = "mcp", **sections: Any) -> dict[str, Any]:
    config = GatewayConfig.model_validate({"servers": SERVERS, **sections})
    resources = json.loads(to_json(bootstrap(config, layout)))["staticResources"]
    [found] = [item for item in resources["listeners"] if item["name"] == listener]
    return found["filterChains"][0]["filters"][0]["typedConfig"]  # type: ignore[no-any-return]


def names(manager: dict[str, Any]) -> list[str]:
    return [item["name"] for item in manager["httpFilters"]]


def split(manager: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]], set[str]]:
    """What every request costs, the filters of the route to the endpoint among it; the route's own, and which metadata the
    workers get. Answers of Envoy's own, and routes to other paths, cost an authenticated request nothing."""
    rest = {name: value for name, value in manager.items() if name not in ("routeConfig", "localReplyConfig")}
    told: set[str] = set()
    for item in rest["httpFilters"]:
        options = item["typedConfig"].get("metadataOptions", {})
        told |= set(options.pop("forwardingNamespaces", {}).get("untyped", []))
        if item["name"] == "mcp_origin":
            item["typedConfig"]["requestRules"] = item["typedConfig"]["requestRules"][:1]
    for item in rest["accessLog"]:
        for field in ("enduser.id", "mcp.principal.issuer"):  # nobody's where nobody is proven
            item["typedConfig"]["logFormat"]["jsonFormat"].pop(field, None)
    routes = manager["routeConfig"]["virtualHosts"][0]["routes"]
    own = [{**route, "metadata": None} for route in routes if route["name"].startswith("mcp/endpoint")]
    return rest, own, told


@pytest.mark.parametrize("listener", ["mcp", "mcp_batches"])
def test_oauth_alone_is_jwt_authn_and_nothing_more(tmp_path: Path, listener: str) -> None:
    """With the payload in metadata, where somebody may read it, and verified tokens in its cache: one filter, behind those for
    browsers, that is asked without a predicate. No second filter looks at what it verified. Workers have it in a header, which
    is taken from requests in front; that it was not there is said by a filter that there is anyway."""
    layout = Layout.in_directory(tmp_path)
    envoy = {"envoy": {"http_filters_before": [FAULT]}}
    other = {**ISSUER, "issuer": "https://other.example"}
    plain, plain_routes, nothing = split(manager(layout, listener, **envoy))
    for issuers in ([ISSUER], [ISSUER, other]):
        chain, routes, told = split(manager(layout, listener, authentication={"oauth": {"issuers": issuers}}, **envoy))
        tokens = chain["httpFilters"].pop(2)
        [early] = chain.pop("earlyHeaderMutationExtensions")
        assert early["typedConfig"]["mutations"] == [{"remove": "x-mcp-claims"}]
        assert (chain, routes) == (plain, plain_routes)
        assert (told, nothing) == ({"mcp_principal"}, set())
        assert tokens["typedConfig"]["@type"].endswith(".JwtAuthentication")
        assert tokens["typedConfig"].keys() == {"@type", "providers", "rules", "stripFailureResponse"}
        for provider in tokens["typedConfig"]["providers"].values():
            assert provider["payloadInMetadata"] == "payload"
            assert provider["normalizePayloadInMetadata"] == {"spaceDelimitedClaims": ["scope", "scp"]}
            assert provider["forwardPayloadHeader"] == "x-mcp-claims"
            assert provider["jwtCacheConfig"] == {"jwtCacheSize": 1000}
            assert provider["requireExpiration"]
            assert not {"claimToHeaders", "headerInMetadata"} & provider.keys()


@pytest.mark.parametrize(
    ("listener", "more", "is_read"),
    [
        ("mcp", {}, False),
        ("mcp_batches", {}, False),
        ("mcp", {"envoy": {"http_filters_before": [FAULT]}}, True),
        ("mcp_batches", {"envoy": {"http_filters_before": [FAULT]}}, True),
        ("mcp", {"envoy": {"http_filters": [FAULT]}}, True),
        ("mcp_batches", {"envoy": {"http_filters": [FAULT]}}, True),
        ("mcp", {"rate_limits": [{"by": ["principal"], "requests": 1, "per": "hour"}]}, False),
    ],
)
def test_claims_are_in_metadata_where_filters_of_others_may_read_them(
    tmp_path: Path, listener: str, more: dict[str, Any], is_read: bool
) -> None:
    """And nothing of ours reads them where they are not."""
    for methods in ({}, {"api_keys": KEYS}):
        layout = Layout.in_directory(tmp_path)
        authentication = {"oauth": {"issuers": [ISSUER]}, **methods}
        text = json.dumps(manager(layout, listener, authentication=authentication, **more))
        assert ("payloadInMetadata" in text, "normalizePayloadInMetadata" in text) == (is_read, is_read)
        assert is_read or "envoy.filters.http.jwt_authn" not in text
        by_email = {"oauth": {"issuers": [ISSUER], "principal_claim": "email"}, **methods}
        assert "payloadInMetadata" in json.dumps(manager(layout, listener, authentication=by_email, **more))


def test_that_no_client_wrote_the_claims_is_said_in_front_of_what_writes_them(tmp_path: Path) -> None:
    chain = manager(Layout.in_directory(tmp_path), authentication={"oauth": {"issuers": [ISSUER]}})
    assert names(chain)[1:3] == ["mcp_origin", "mcp_jwt_authn"]
    assert chain["httpFilters"][1]["typedConfig"]["requestRules"][1:] == [
        {
            "header": "x-mcp-claims",
            "onHeaderMissing": {"metadataNamespace": "mcp_principal", "key": "claims", "value": "1"},
        }
    ]
    without = manager(Layout.in_directory(tmp_path), authentication={"api_keys": KEYS})
    assert "x-mcp-claims" not in json.dumps(without)


def test_attached_it_is_one_filter_too(tmp_path: Path) -> None:
    """Where the keys are in what is printed, so that each says its algorithm."""
    found = attached_to([], [ANYTHING], tmp_path)
    without = pieces(GatewayConfig.model_validate({"servers": SERVERS}), Layout.in_directory(tmp_path), Judging.NEVER)
    ours = [item["name"] for item in found["http_filters"] if item["name"].startswith("mcp/")]
    plain = [item["name"] for item in (*without.first_filters, *without.filters, *without.last_filters)]
    assert sorted(ours) == sorted([*(name for name in plain if name.startswith("mcp/")), "mcp/jwt_authn"])
    [early] = found["early_header_mutation_extensions"]
    assert early["typed_config"]["mutations"] == [{"remove": "x-mcp-claims"}]
    [tokens] = [item for item in found["http_filters"] if item["name"] == "mcp/jwt_authn"]
    [provider] = tokens["typed_config"]["providers"].values()
    assert provider["payload_in_metadata"] == "payload", "others may read it"


def test_requirements_of_one_and_of_several_issuers(tmp_path: Path) -> None:
    """A list of one is invalid."""
    other = {**ISSUER, "issuer": "https://other.example"}
    found = []
    for issuers in ([ISSUER], [ISSUER, other]):
        chain = manager(Layout.in_directory(tmp_path), authentication={"oauth": {"issuers": issuers}})
        found.append(chain["httpFilters"][2]["typedConfig"]["rules"][0]["requires"])
    assert found == [
        {"providerName": "issuer_0"},
        {"requiresAny": {"requirements": [{"providerName": "issuer_0"}, {"providerName": "issuer_1"}]}},
    ]


def test_of_several_issuers_clients_get_the_first_ones_metadata(tmp_path: Path) -> None:
    other = {**ISSUER, "issuer": "https://other.example"}
    asked = []
    for issuers in ([ISSUER], [ISSUER, other], [other, ISSUER]):
        chain = manager(Layout.in_directory(tmp_path), authentication={"oauth": {"issuers": issuers}})
        routes = chain["routeConfig"]["virtualHosts"][0]["routes"]
        asked += [
            route["route"]["pathRewrite"]
            for route in routes
            if "authorization-server" in str(route["match"]) and "route" in route
        ]
    assert asked[0] == asked[1] != asked[2]


def test_documents_come_first_and_pass_no_filter(tmp_path: Path) -> None:
    chain = manager(
        Layout.in_directory(tmp_path),
        authentication={"oauth": {"issuers": [ISSUER]}, "public_url": "https://gw.example"},
        listen={"path": "/tools/mcp"},
        envoy={"http_filters": [FAULT]},
    )
    routes = chain["routeConfig"]["virtualHosts"][0]["routes"]
    paths = [route["match"].get("path") for route in routes]
    well_known = "/.well-known/oauth-protected-resource"
    server = "/.well-known/oauth-authorization-server"
    assert paths[:6] == [f"{well_known}/tools/mcp"] * 2 + [well_known] * 2 + [server] * 2
    filters = {name for name in names(chain) if name != "envoy.filters.http.router"}
    for route in routes[:6]:
        on = {} if "directResponse" in route else {"envoy.filters.http.buffer": {"maxRequestBytes": 1}}
        found = route["typedPerFilterConfig"]
        assert found.keys() == filters
        assert {name: item["buffer"] for name, item in found.items() if not item.get("disabled")} == on
    document = json.loads(routes[1]["directResponse"]["bodyFormat"]["textFormatSource"]["inlineString"])
    assert document["resource"] == "https://gw.example/tools/mcp"
    # Nothing else is served, and what is not costs no verification.
    assert routes[-1]["typedPerFilterConfig"]["mcp_jwt_authn"]["disabled"]


def test_without_a_supervisor_keys_have_to_be_given(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    sections = {"servers": SERVERS, "authentication": {"oauth": {"issuers": [ISSUER]}}}
    with pytest.raises(ConfigError, match=r"issuers\[0\].jwks: required"):
        check_without_supervisor(GatewayConfig.model_validate(sections), "gateway.yaml")
    file.write_text(json.dumps(sections))
    assert "jwks: required" in refusal("bootstrap", str(file))
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [public_jwk(new_key("ES256"), "a")]}))
    sections["authentication"]["oauth"]["issuers"] = [{**ISSUER, "jwks": {"file": str(jwks)}}]  # type: ignore[index]
    file.write_text(json.dumps(sections))
    printed = CliRunner().invoke(cli, ["envoy", "bootstrap", str(file)])
    assert printed.exit_code == 0, printed.output
    assert r"\"alg\": \"ES256\"" in printed.output
    assert "oauth-authorization-server" not in printed.output


KEYS = {"file": "keys.yaml", "from": [{"header": "x-api-key"}, {"query": "key"}]}


@pytest.mark.parametrize("listener", ["mcp", "mcp_batches"])
def test_several_methods_each_with_its_filter(tmp_path: Path, listener: str) -> None:
    """Behind those for browsers. Who is proven by none is refused, then the name goes to metadata."""
    layout = Layout.in_directory(tmp_path)
    plain = names(manager(layout, listener))
    alone = names(manager(layout, listener, authentication={"api_keys": KEYS}))
    both = {"api_keys": KEYS, "oauth": {"issuers": [ISSUER]}}
    chain = manager(layout, listener, authentication=both)
    first, last = ["mcp_api_key_query", "mcp_api_key_auth"], ["mcp_principal"]
    assert alone == [*plain[:2], *first, *last, *plain[2:]]
    assert names(chain) == [*plain[:2], *first, "mcp_jwt_authn", "mcp_nobody", *last, *plain[2:]]
    assert names(manager(layout, listener, authentication={**both, "anonymous": True})) == [
        *plain[:2], *first, "mcp_jwt_authn", *last, *plain[2:],
    ]  # fmt: skip
    for item in chain["httpFilters"][3:5]:
        assert item["typedConfig"]["@type"].endswith(".ExtensionWithMatcher"), "it runs with its own credential only"
    [early] = chain["earlyHeaderMutationExtensions"]
    assert early["typedConfig"]["mutations"] == [{"remove": "x-mcp-api-key-name"}, {"remove": "x-mcp-claims"}]
    nobody = next(item for item in chain["httpFilters"] if item["name"] == "mcp_nobody")
    assert "x-mcp-claims" in json.dumps(nobody)


@pytest.mark.parametrize("listener", ["mcp", "mcp_batches"])
def test_a_service_is_asked_behind_keys_and_tokens(tmp_path: Path, listener: str) -> None:
    layout = Layout.in_directory(tmp_path)
    plain = names(manager(layout, listener))
    said = {"principal_header": "x-user", "groups_header": "x-groups", "scopes_header": "x-scopes"}
    external = {"http": "http://authz/", **said}
    methods = {"external": external, "api_keys": {"file": "k"}, "oauth": {"issuers": [ISSUER]}}
    chain = manager(layout, listener, authentication=methods)
    asking = ["mcp_ext_authz_headers", "mcp_ext_authz", "mcp_nobody", "mcp_principal"]
    assert names(chain) == [*plain[:2], "mcp_api_key_auth", "mcp_jwt_authn", *asking, *plain[2:]]
    [early] = chain["earlyHeaderMutationExtensions"]
    removed = [item["remove"] for item in early["typedConfig"]["mutations"]]
    assert removed == ["x-mcp-api-key-name", "x-mcp-external", "x-user", "x-groups", "x-scopes", "x-mcp-claims"]
    rules = [item["header"] for item in chain["httpFilters"][7]["typedConfig"]["requestRules"]]
    assert rules == removed[:-1], "what is a claim about the caller goes no further"
    alone = manager(layout, listener, authentication={"external": external})
    assert names(alone) == [*plain[:2], *asking, *plain[2:]]
    for listening, asked_of in ((alone, 3), (chain, 5)):
        asking = listening["httpFilters"][asked_of]["typedConfig"]
        assert asking["extensionConfig"]["typedConfig"]["@type"].endswith(".ExtAuthz")
        [skipping] = asking["xdsMatcher"]["matcherList"]["matchers"]
        about = json.dumps(skipping["predicate"])
        assert "StatusCodeMatchInput" in about, "what a gRPC service wants on responses is not for clients"
        assert ("authorization" in about) == (listening is chain), "alone it is asked about every request"


def test_a_check_asks_the_service_that_will_be_asked(tmp_path: Path) -> None:
    """About each request to a listener of its own; without one there is none. Other methods are not in the way."""
    layout, address = Layout.in_directory(tmp_path), UnixAddress(str(tmp_path / "service.sock"))
    external = {"http": "http://authz/check", "principal_header": "x-user"}
    for authentication, listening in (
        ({}, False),
        ({"authentication": {"oauth": {"issuers": [ISSUER]}}}, False),
        ({"authentication": {"external": external, "oauth": {"issuers": [ISSUER]}}}, True),
    ):
        config = GatewayConfig.model_validate({"servers": SERVERS, **authentication})
        found = json.loads(to_json(upstreams_only(config, layout, address)))["staticResources"]
        listeners = {item["name"]: item for item in found["listeners"]}
        clusters = {item["name"] for item in found["clusters"]}
        assert ("mcp_questions" in listeners, "mcp_external_authorization" in clusters) == (listening, listening)
        assert "mcp_keys" not in clusters
    chain = listeners["mcp_questions"]["filterChains"][0]["filters"][0]["typedConfig"]
    ours = ["mcp_ext_authz_headers", "mcp_ext_authz", "mcp_nobody", "mcp_principal", "envoy.filters.http.router"]
    assert names(chain) == ours
    [skipping] = chain["httpFilters"][1]["typedConfig"]["xdsMatcher"]["matcherList"]["matchers"]
    assert "authorization" not in json.dumps(skipping), "about every request"


def test_what_a_service_says_beside_the_request(tmp_path: Path) -> None:
    """Over HTTP, headers of its answer become metadata, and none of the request's."""
    named = {"principal_metadata": ["x-user"], "scopes_metadata": ["x-scopes"]}
    external = {"http": "https://authz/", "ca": "authorities.pem", **named}
    sections: dict[str, Any] = {"servers": SERVERS, "authentication": {"external": external}}
    config = GatewayConfig.model_validate(sections)
    rendered = json.loads(to_json(bootstrap(config, Layout.in_directory(tmp_path))))["staticResources"]
    chain = manager(Layout.in_directory(tmp_path), **sections)
    asking = next(item["typedConfig"] for item in chain["httpFilters"] if item["name"] == "mcp_ext_authz")
    asked = asking["extensionConfig"]["typedConfig"]
    assert asked["httpService"]["authorizationResponse"] == {
        "dynamicMetadataFromHeaders": {"patterns": [{"exact": "x-user"}, {"exact": "x-scopes"}]},
    }
    assert asked["decoderHeaderMutationRules"] == {"disallowAll": True}
    [cluster] = [item for item in rendered["clusters"] if item["name"] == "mcp_external_authorization"]
    tls = cluster["transportSocket"]["typedConfig"]["commonTlsContext"]["validationContext"]
    assert tls["trustedCa"] == {"filename": "authorities.pem"}


def test_an_attached_listener_keeps_headers_of_other_names(tmp_path: Path) -> None:
    """Other routes may use them: they are taken by a filter of the endpoint alone."""
    external = {"http": "http://authz/", "principal_header": "x-user"}
    sections = {"servers": SERVERS, "authentication": {"external": external}}
    parts = pieces(GatewayConfig.model_validate(sections), Layout.in_directory(tmp_path), Judging.NEVER)
    [early] = parts.early
    assert early["typed_config"]["mutations"] == [{"remove": "x-mcp-external"}]
    [cleaning] = [item for item in parts.filters if item["name"] == "mcp/ext_authz_headers"]
    assert {"remove": "x-user"} in (
        cleaning["typed_config"]["extension_config"]["typed_config"]["mutations"]["request_mutations"]
    )


def test_what_is_printed_has_no_keys_and_says_so(tmp_path: Path) -> None:
    """A place for them, which refuses all of them until they are there."""
    file, keys = tmp_path / "gateway.yaml", tmp_path / "keys.yaml"
    keys.write_text(json.dumps({"alice": "alice-" + "k" * 20}))
    file.write_text(json.dumps({"servers": SERVERS, "authentication": {"api_keys": {"file": str(keys)}}}))
    printed = CliRunner().invoke(cli, ["envoy", "bootstrap", str(file)])
    assert printed.exit_code == 0, printed.output
    assert "what is printed has no keys" in printed.stderr
    host = json.loads(printed.stdout)["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0][
        "typedConfig"
    ]["routeConfig"]["virtualHosts"][0]
    place = host["typedPerFilterConfig"]["mcp_api_key_auth"]
    assert place["@type"].endswith(".ApiKeyAuthPerRoute")
    assert "credentials" not in place
    assert "kkk" not in printed.output


def attached_to(
    their: list[Any],
    routes: list[Any],
    tmp_path: Path,
    *options: str,
    virtual_servers: Any = None,
    **authentication: Any,
) -> Any:
    """What `envoy attach` makes of a listener."""
    file, theirs = tmp_path / "gateway.yaml", tmp_path / "envoy.yaml"
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [public_jwk(new_key("ES256"), "a")]}))
    issuers = [{**ISSUER, "jwks": {"file": str(keys)}}]
    file.write_text(json.dumps({
        "servers": SERVERS, "listen": {"address": "0.0.0.0"},
        "authentication": {"oauth": {"issuers": issuers}, **authentication},
        "virtual_servers": virtual_servers or {},
    }))  # fmt: skip
    chain = {"filters": [{"name": "hcm", "typed_config": {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [*their, {"name": "router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}],
    }}]}  # fmt: skip
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}
    theirs.write_text(
        json.dumps({"static_resources": {"listeners": [{"name": "in", "address": address, "filter_chains": [chain]}]}})
    )
    arguments = ["attach", "--config", str(file), *options, str(theirs)]
    done = CliRunner().invoke(cli, ["envoy", *arguments])
    if done.exception is not None:
        raise done.exception
    again = CliRunner().invoke(cli, ["envoy", *arguments[:-1], "-"], input=done.stdout)
    assert again.stdout == done.stdout, "repeating it replaces what was added"
    found = json.loads(done.stdout)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    return found["typed_config"]


TYPE = "type.googleapis.com/envoy.extensions.filters"
THEIR_JWT = {"name": "their.jwt", "typed_config": {"@type": f"{TYPE}.http.jwt_authn.v3.JwtAuthentication"}}
ANYTHING = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}


def test_on_a_listener_of_others_only_the_endpoint_has_the_filters(tmp_path: Path) -> None:
    found = attached_to([], [ANYTHING], tmp_path, api_keys=KEYS)
    chain = [item["name"] for item in found["http_filters"]]
    own = ["mcp/api_key_query", "mcp/api_key_auth", "mcp/jwt_authn", "mcp/nobody", "mcp/principal"]
    assert chain[3:8] == own
    assert all(item["disabled"] for item in found["http_filters"] if item["name"] in own)
    routes = found["route_config"]["virtual_hosts"][0]["routes"]
    using = [route["name"] for route in routes if "mcp/jwt_authn" in route.get("typed_per_filter_config", {})]
    assert using
    assert all(name.startswith("mcp/endpoint") for name in using)
    place = next(route for route in routes if route.get("name") == using[0])["typed_per_filter_config"]
    assert place["mcp/api_key_auth"]["config"]["@type"].endswith(".ApiKeyAuthPerRoute")
    assert [item["name"] for item in found["early_header_mutation_extensions"]] == ["mcp/identity"]


def test_two_services_that_write_metadata_are_refused(tmp_path: Path) -> None:
    theirs = {"name": "their.authz", "typed_config": {"@type": f"{TYPE}.http.ext_authz.v3.ExtAuthz"}}
    service = {"grpc": "authz:9000", "principal_metadata": ["user"]}
    with pytest.raises(ConfigError, match=r"has an ext_authz filter \(their.authz\).*principal_header"):
        attached_to([theirs], [ANYTHING], tmp_path, external=service)
    attached_to([theirs], [ANYTHING], tmp_path, external={"grpc": "authz:9000", "principal_header": "x-user"})


def test_two_layers_of_tokens_are_refused_unless_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has a jwt_authn filter \(their.jwt\).*--without-jwt-authn"):
        attached_to([THEIR_JWT], [ANYTHING], tmp_path)
    routes = attached_to([THEIR_JWT], [ANYTHING], tmp_path, "--without-jwt-authn")["route_config"]["virtual_hosts"][0][
        "routes"
    ]
    assert "typed_per_filter_config" not in routes[-1], "theirs goes on everywhere else"
    for route in routes[:-1]:
        if "direct_response" in route or route["name"].startswith("mcp/endpoint"):
            assert route["typed_per_filter_config"]["their.jwt"]["disabled"]


@pytest.mark.parametrize(
    "match",
    [
        {"path": "/.well-known/oauth-protected-resource"},
        {"path": "/.well-known/oauth-protected-resource/mcp"},
        {"prefix": "/.well-known"},
        {"prefix": "/.well-known/oauth-"},
        {"path_separated_prefix": "/.well-known"},
        {"safe_regex": {"regex": "/[.]well-known/oauth-protected-resource/.*"}},
    ],
)
def test_documents_that_are_there_already_are_refused_by_name(tmp_path: Path, match: Any) -> None:
    taken = {"name": "theirs", "match": match, "direct_response": {"status": 200}}
    with pytest.raises(
        ConfigError, match=r"has a route for /\.well-known/oauth-protected-resource\S* already \(theirs\)"
    ):
        attached_to([], [taken, ANYTHING], tmp_path)


def test_the_documents_of_each_endpoint_may_be_taken(tmp_path: Path) -> None:
    path = "/.well-known/oauth-protected-resource/mcp/more"
    taken = {"name": "theirs", "match": {"path": path}, "direct_response": {"status": 200}}
    virtual = {"more": {"servers": {"a": "all"}}}
    with pytest.raises(ConfigError, match=rf"has a route for {path} already \(theirs\)"):
        attached_to([], [taken, ANYTHING], tmp_path, virtual_servers=virtual)
    attached_to([], [taken, ANYTHING], tmp_path)


def test_other_documents_are_none_of_ours(tmp_path: Path) -> None:
    other = {"match": {"prefix": "/.well-known/acme-challenge/"}, "direct_response": {"status": 200}}
    assert attached_to([], [other, ANYTHING], tmp_path)["route_config"]["virtual_hosts"][0]["routes"][-2] == other


@pytest.mark.parametrize("command", ["attach", "fragments"])
def test_nobody_finds_keys_for_a_listener_of_others(tmp_path: Path, command: str) -> None:
    file, theirs = tmp_path / "gateway.yaml", tmp_path / "envoy.yaml"
    file.write_text(json.dumps({"servers": SERVERS, "authentication": {"oauth": {"issuers": [ISSUER]}}}))
    theirs.write_text("static_resources: {}")
    arguments = [command, "--config", str(file), *([str(theirs)] if command == "attach" else [])]
    assert "issuers[0].jwks: required" in refusal(*arguments)


def test_fragments_can_not_know_which_certificates_are_verified(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps({"servers": SERVERS, "authentication": {"mtls": {"ca": "clients.pem"}}}))
    assert "authentication.mtls: what the TLS of your listener verifies" in refusal("fragments", "--config", str(file))


def test_messages_of_batches_come_without_a_certificate(tmp_path: Path) -> None:
    """A worker says whose the batch is, at a listener that clients can't reach; from clients the header is taken."""
    sections: dict[str, Any] = {
        "authentication": {"mtls": {"ca": "clients.pem"}},
        "listen": {"tls": {"certificate": "server.pem", "key": "server.key"}},
    }
    found = {}
    for listener in ("mcp", "mcp_batches"):
        chain = manager(Layout.in_directory(tmp_path), listener, **sections)
        [early] = chain["earlyHeaderMutationExtensions"]
        removed = {item["remove"] for item in early["typedConfig"]["mutations"]}
        found[listener] = "mcp_certificate" in names(chain), "x-mcp-certificate-name" in removed
    assert found == {"mcp": (True, True), "mcp_batches": (False, False)}


def test_fragments_have_all_parts(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    oauth = {"issuers": [{**ISSUER, "jwks": {"uri": "https://idp.example/jwks"}}]}
    file.write_text(json.dumps({"servers": SERVERS, "authentication": {"oauth": oauth, "api_keys": KEYS}}))
    printed = CliRunner().invoke(cli, ["envoy", "fragments", "--config", str(file)])
    assert printed.exit_code == 0, printed.output
    for part in ("well_known_routes:", "early_header_mutation_extensions:", "mcp/nobody", "mcp_issuer/0"):
        assert part in printed.stdout


def test_a_listener_of_others_has_authenticated_the_caller(tmp_path: Path) -> None:
    """Then ours are told what its filters verified, and there is no filter more."""
    verified = "envoy.filters.http.jwt_authn"
    sections = {"servers": SERVERS, "authentication": {"existing": {"subject": [verified, "payload", "sub"]}}}
    found = pieces(GatewayConfig.model_validate(sections), Layout.in_directory(tmp_path), Judging.FIRST)
    without = pieces(GatewayConfig.model_validate({"servers": SERVERS}), Layout.in_directory(tmp_path), Judging.FIRST)
    ours = [[*one.first_filters, *one.filters, *one.last_filters] for one in (found, without)]
    assert [item["name"] for item in ours[0]] == [item["name"] for item in ours[1]]
    processors = [
        item["typed_config"] for item in ours[0] if item["typed_config"]["@type"].endswith("ExternalProcessor")
    ]
    assert [one["metadata_options"]["forwarding_namespaces"]["untyped"] for one in processors] == [[verified]] * 2


def refusal(*arguments: str) -> str:
    """Why a command is refused."""
    done = CliRunner().invoke(cli, ["envoy", *arguments])
    assert isinstance(done.exception, ConfigError), done.output
    return str(done.exception)


# -- An Envoy that fetches keys by itself, without a worker: what passes is 503 ---------------------------------------------


class Alone:
    """The Envoy, whose policy lets anonymous requests pass and takes the claim ``email`` for the principal."""

    def __init__(self, idp: AuthorizationServer, url: str, http: aiohttp.ClientSession) -> None:
        self.idp, self._url, self._http = idp, url, http

    async def status(self, authorization: str | None) -> tuple[int, str]:
        headers = {} if authorization is None else {"authorization": authorization}
        async with self._http.get(self._url, headers=headers) as answer:
            return answer.status, answer.headers.get("www-authenticate", "")

    async def with_token(self, algorithm: str = "RS256", **claims: Any) -> tuple[int, str]:
        return await self.status(f"Bearer {self.idp.token(algorithm, **claims)}")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcp-") as found:
        yield Path(found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(folder: Path) -> AsyncIterator[Alone]:
    port = free_port()
    async with AuthorizationServer() as idp, aiohttp.ClientSession() as http:
        authentication = {
            "anonymous": True,
            "public_url": "https://gw.example",
            "oauth": {
                "principal_claim": "email",
                "issuers": [{"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}],
            },
        }
        sections = {
            "servers": SERVERS,
            "listen": {"port": port},
            "log": {"access": ""},
            "authentication": authentication,
        }
        layout = replace(Layout.in_directory(folder), keys=None)
        file = folder / "envoy.json"
        file.write_text(to_json(bootstrap(GatewayConfig.model_validate(sections), layout)))
        command = [
            find_envoy(),
            "-c",
            str(file),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--concurrency",
            "1",
        ]
        async with http_server(command, port, log=folder / "envoy.log"):
            yield Alone(idp, f"http://127.0.0.1:{port}/mcp", http)


PASSED = (503, "")
BAD = 'Bearer error="invalid_token", resource_metadata="https://gw.example/.well-known/oauth-protected-resource/mcp"'
NONE = BAD.replace('error="invalid_token", ', "")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_keys_of_others_verify_the_allowed_algorithms(alone: Alone, algorithm: str) -> None:
    assert await alone.with_token(algorithm, email="alice@example.com") == PASSED


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_keys_of_others_verify_nothing_else(alone: Alone, algorithm: str) -> None:
    """They do not say their algorithm, and Envoy would take any of their type."""
    claims = {"email": "alice@example.com", "key": alone.idp.keys["RS256"], "headers": {"kid": "RS256"}}
    assert await alone.with_token(algorithm, **claims) == (401, BAD)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("email", [None, "", 7, ["alice@example.com"], {"a": "b"}])
async def test_a_token_without_the_principals_claim_is_refused(alone: Alone, email: object) -> None:
    assert await alone.with_token(email=email) == (401, BAD)


@pytest.mark.asyncio(loop_scope="module")
async def test_another_claim_makes_sub_optional(alone: Alone) -> None:
    assert await alone.with_token(email="alice@example.com", sub=None) == PASSED


@pytest.mark.asyncio(loop_scope="module")
async def test_who_brings_nothing_is_anonymous_and_who_brings_anything_else_is_refused(alone: Alone) -> None:
    assert await alone.status(None) == PASSED
    for wrong in ("", "Basic YTpi", "Bearer", "Token x"):
        assert await alone.status(wrong) == (401, NONE)
    assert await alone.status("Bearer x") == (401, BAD)
    assert await alone.with_token(email="alice@example.com", aud="other") == (401, BAD)
