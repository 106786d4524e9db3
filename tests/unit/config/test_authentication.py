"""The section `authentication`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import ConfigError, GatewayConfig, loads
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.config.named_files import missing_files
from mcp_extproc.config.own_listener import check_own_listener
from tests.support.authorization_server import new_key, public_jwk
from tests.unit.config.support import error_of

ISSUER = {"issuer": "https://idp.example", "audiences": ["https://gw.example/mcp"]}
SERVERS = {"a": {"url": "http://127.0.0.1:1/mcp"}}


def text(**oauth: Any) -> str:
    return json.dumps({"servers": SERVERS, "authentication": {"oauth": {"issuers": [ISSUER], **oauth}}})


def whole(authentication: Any, **sections: Any) -> str:
    return json.dumps({"servers": SERVERS, "authentication": authentication, **sections})


def config(text: str) -> GatewayConfig:
    return loads(text, "gateway.yaml", {}).config


def test_without_the_section_everybody_may_call() -> None:
    assert config(json.dumps({"servers": SERVERS})).authentication is None


def test_defaults() -> None:
    read = config(text())
    authentication = read.authentication
    assert authentication is not None
    oauth = authentication.oauth
    assert oauth is not None
    assert (authentication.anonymous, oauth.clock_skew, oauth.principal_claim) == (False, 60.0, "sub")
    assert oauth.algorithms == ("RS256", "ES256", "EdDSA")
    assert (endpoints(read)[0].resource, oauth.issuers[0].refresh) == (None, 300.0)


@pytest.mark.parametrize(
    ("oauth", "problem"),
    [
        ({"algorithms": ["none"]}, "algorithms[0]: expected"),
        ({"algorithms": ["HS256"]}, "algorithms[0]: expected"),
        ({"algorithms": []}, "expected a list that is not empty"),
        ({"algorithms": ["RS256", "RS256"]}, "twice"),
        ({"issuers": []}, "expected a list that is not empty"),
        ({"issuers": [ISSUER, ISSUER]}, "twice"),
        ({"issuers": [{"issuer": "https://idp.example"}]}, "issuers[0].audiences: give audiences or oauth.resource"),
        ({"issuers": [{**ISSUER, "issuer": "http://idp.example"}]}, "expected an https URL"),
        ({"issuers": [{**ISSUER, "issuer": "idp.example"}]}, "expected a URL"),
        ({"issuers": [{**ISSUER, "issuer": "https://idp..example"}]}, "expected a URL"),
        ({"issuers": [{**ISSUER, "issuer": "https://idp.example/" + "a" * 2048}]}, "at most 2048 characters"),
        ({"issuers": [{**ISSUER, "issuer": "https://u:p@idp.example"}]}, "without user"),
        ({"issuers": [{**ISSUER, "issuer": "https://idp.example?a=b"}]}, "without query"),
        ({"issuers": [{**ISSUER, "issuer": 'https://idp.example/"'}]}, "expected a URL"),
        ({"issuers": [{**ISSUER, "audiences": [""]}]}, "not empty"),
        ({"issuers": [{**ISSUER, "jwks": {}}]}, "give either uri, file or inline"),
        ({"issuers": [{**ISSUER, "jwks": {"file": "a", "uri": "https://idp.example/jwks"}}]}, "give either"),
        ({"issuers": [{**ISSUER, "jwks": {"uri": "http://10.0.0.1/jwks"}}]}, "loopback addresses only"),
        ({"issuers": [{**ISSUER, "jwks": {"file": "a", "refresh": "1m"}}]}, "refresh: requires uri"),
        ({"issuers": [{**ISSUER, "jwks": {"inline": "{}"}}]}, "jwks.inline: the key set"),
        ({"issuers": [{**ISSUER, "jwks": {"inline": '{"keys": [{"kty": "EC", "crv": []}]}'}}]}, "no public key"),
        ({"scopes_supported": ['a"']}, "expected scopes"),
        ({"scopes_supported": ["a b"]}, "expected scopes"),
        ({"challenge_scopes": ["a b"]}, "expected scopes"),
        ({"resource": "/mcp"}, "expected a URL"),
        ({"resource": "https://gw.example/mcp#a"}, "fragment"),
        ({"group_claim": "groups"}, "unknown key"),
    ],
)
def test_what_is_wrong_is_said(oauth: dict[str, Any], problem: str) -> None:
    assert problem in error_of(text(**oauth))


def test_a_method_that_is_not_there_is_refused() -> None:
    assert "unknown key" in error_of(whole({"oauth": {"issuers": [ISSUER]}, "basic": {}}))


def test_a_section_without_a_method_is_refused() -> None:
    assert "name a method" in error_of(whole({"anonymous": True}))
    assert "scheme and host only" in error_of(whole({"oauth": {"issuers": [ISSUER]}, "public_url": "https://a/b"}))


@pytest.mark.parametrize(
    "issuer", ["http://localhost:8080", "http://127.0.0.1:1/a", "http://[::1]:1", "http://idp.localhost", "https://a/b"]
)
def test_http_is_for_loopback_addresses(issuer: str) -> None:
    assert config(text(issuers=[{**ISSUER, "issuer": issuer}])).authentication is not None


def test_the_resource_is_the_audience_where_none_is_given_and_that_is_said() -> None:
    issuers = [{"issuer": "https://idp.example"}, {**ISSUER, "issuer": "https://other.example"}]
    loaded = loads(text(issuers=issuers, resource="https://gw.example/mcp"), "gateway.yaml", {})
    [warning] = loaded.warnings
    assert "issuers[0] has no audiences" in warning
    assert "oauth.resource" in warning
    [warning] = loads(
        whole({"oauth": {"issuers": issuers}, "public_url": "https://gw.example/"}), "gateway.yaml", {}
    ).warnings
    assert "public_url" in warning


@pytest.mark.parametrize("public_url", ["https://gw.example/", "HTTPS://GW.example:443"])
def test_public_url_and_path_are_the_resource(public_url: str) -> None:
    """As clients write it: Python's SDK asks for a token with a canonical URL, others with what they read."""
    read = config(whole({"oauth": {"issuers": [ISSUER]}, "public_url": public_url}))
    assert endpoints(read)[0].resource == "https://gw.example/mcp"


def test_keys_that_are_given() -> None:
    keys = json.dumps({"keys": [public_jwk(new_key("EdDSA"), "a")]})
    assert config(text(issuers=[{**ISSUER, "jwks": {"inline": keys}}])).authentication is not None
    missing = config(text(issuers=[{**ISSUER, "jwks": {"file": "/nowhere/jwks.json"}}]))
    [problem] = missing_files(missing)
    assert "authentication.oauth.issuers[0].jwks.file" in str(problem)


def test_what_filters_of_others_verified() -> None:
    subject = ["their.filter", "user"]
    assert config(whole({"existing": {"subject": subject}})).existing is not None
    assert "expected a namespace and at least one key" in error_of(
        whole({"existing": {"subject": subject, "claims": ["a"]}})
    )
    both = {"oauth": {"issuers": [ISSUER]}, "existing": {"subject": subject}}
    assert "authentication.existing: it is not clear" in error_of(whole(both))
    envoy = {"principal": {"metadata": subject}}
    assert "envoy.principal: authentication says" in error_of(whole({"existing": {"subject": subject}}, envoy=envoy))
    alias = config(json.dumps({"servers": SERVERS, "envoy": envoy})).existing
    assert alias is not None
    assert (alias.subject, alias.namespaces) == (("their.filter", "user"), ("their.filter",))
    assert config(json.dumps({"servers": SERVERS, "envoy": {"principal": {"header": "x-user"}}})).existing is None


@pytest.mark.parametrize("key", ["http_filters_before", "http_filters"])
def test_there_is_one_filter_for_tokens(key: str) -> None:
    inner = {"@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"}
    wrapped = {
        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": {"name": "x", "typed_config": inner},
    }
    for filter in (inner, wrapped):
        envoy = {key: [{"name": "theirs", "typed_config": filter}]}
        assert f"envoy.{key}: a jwt_authn filter" in error_of(whole({"oauth": {"issuers": [ISSUER]}}, envoy=envoy))
        config(json.dumps({"servers": SERVERS, "envoy": envoy}))


# -- API keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api_keys", "problem"),
    [
        ({}, "api_keys: give either file or keys"),
        ({"file": ""}, "api_keys.file"),
        ({"file": "k", "sources": []}, "api_keys.sources: unknown key"),
        ({"file": "k", "form": []}, "unknown key, did you mean from?"),
        ({"file": "k", "from": []}, "api_keys.from: expected a list that is not empty"),
        ({"file": "k", "from": [{}]}, "api_keys.from[0]: give either header, query or cookie"),
        ({"file": "k", "from": [{"header": "a", "query": "b"}]}, "give either header, query or cookie"),
        ({"file": "k", "from": [{"header": "x"}, {"header": "X"}]}, "api_keys.from: a source is listed twice"),
        ({"file": "k", "from": [{"header": "a b"}]}, "api_keys.from[0].header"),
        ({"file": "k", "from": [{"header": "Cookie"}]}, "api_keys.from[0].header"),
        ({"file": "k", "from": [{"header": "mcp-session-id"}]}, "api_keys.from[0].header"),
        ({"file": "k", "from": [{"header": "x-mcp-server"}]}, "api_keys.from[0].header"),
        ({"file": "k", "from": [{"query": "a=b"}]}, "api_keys.from[0].query"),
        ({"file": "k", "from": [{"cookie": "a;b"}]}, "api_keys.from[0].cookie"),
    ],
)
def test_api_keys_that_are_refused(api_keys: Any, problem: str) -> None:
    assert problem in error_of(whole({"api_keys": api_keys}))


def test_api_keys_are_in_x_api_key_by_default() -> None:
    authentication = config(whole({"api_keys": {"file": "k"}})).authentication
    assert authentication is not None
    assert authentication.api_keys is not None
    assert [source.header for source in authentication.api_keys.sources] == ["x-api-key"]
    assert authentication.is_single


def test_methods_beside_each_other() -> None:
    oauth = {"issuers": [ISSUER]}
    keys = {"file": "k", "from": [{"header": "Authorization"}]}
    assert not config(whole({"api_keys": {"file": "k"}, "oauth": oauth})).authentication.is_single  # type: ignore[union-attr]
    assert "Authorization has access tokens" in error_of(whole({"api_keys": keys, "oauth": oauth}))
    existing = {"subject": ["a", "b"]}
    assert "existing: it is not clear" in error_of(whole({"api_keys": {"file": "k"}, "existing": existing}))


def test_a_file_of_keys_that_is_not_there(tmp_path: Path) -> None:
    [problem] = missing_files(config(whole({"api_keys": {"file": str(tmp_path / "keys.yaml")}})))
    assert problem.path == "authentication.api_keys.file"


# -- Certificates -------------------------------------------------------------------------------------------------------

TLS = {"certificate": "server.pem", "key": "server.key"}


def test_certificates_come_by_tls() -> None:
    mtls = {"mtls": {"ca": "clients.pem"}}
    with pytest.raises(ConfigError, match=r"^gateway.yaml: authentication\.mtls: requires listen\.tls"):
        check_own_listener(config(whole(mtls)), "gateway.yaml")
    check_own_listener(config(whole(mtls, listen={"tls": TLS})), "gateway.yaml")
    both = {"tls": {**TLS, "client_ca": "other.pem"}}
    assert "listen.tls.client_ca: authentication.mtls.ca says" in error_of(whole(mtls, listen=both))
    authentication = config(whole(mtls, listen={"tls": TLS})).authentication
    assert authentication is not None
    assert authentication.mtls is not None
    assert authentication.mtls.principal == "san_uri"
    assert not authentication.is_single, "its filter refuses nobody"


@pytest.mark.parametrize("mtls", [{}, {"ca": ""}, {"ca": "a", "principal": "san"}, {"ca": "a", "crl": "b"}])
def test_certificates_that_are_refused(mtls: Any) -> None:
    assert "authentication.mtls" in error_of(whole({"mtls": mtls}, listen={"tls": TLS}))


def test_a_file_of_authorities_that_is_not_there(tmp_path: Path) -> None:
    found = missing_files(config(whole({"mtls": {"ca": str(tmp_path / "ca.pem")}}, listen={"tls": TLS})))
    assert "authentication.mtls.ca" in [problem.path for problem in found]


# -- A service of the operator's ------------------------------------------------------------------------------------------

EXTERNAL = {"grpc": "authz:9000", "principal_header": "X-User"}


def test_a_service_that_says_who_calls() -> None:
    authentication = config(whole({"external": EXTERNAL})).authentication
    assert authentication is not None
    external = authentication.external
    assert external is not None
    assert (external.principal_header, external.takes_authorization) == ("x-user", True)
    assert (authentication.is_single, authentication.asks_always) == (False, True)
    for more in ({"anonymous": True}, {"api_keys": {"file": "k"}}, {"oauth": {"issuers": [ISSUER]}}):
        beside = config(whole({"external": EXTERNAL, **more})).authentication
        assert beside is not None
        assert not beside.asks_always
    for address in ("127.0.0.1:1", "[::1]:1", "https://authz.example:443"):
        config(whole({"external": {**EXTERNAL, "grpc": address}}))
    config(whole({"external": {"http": "http://authz:8080/check", "principal_header": "x-user"}}))


@pytest.mark.parametrize(
    ("external", "problem"),
    [
        ({}, "external: give either grpc or http"),
        ({**EXTERNAL, "http": "http://authz"}, "external: give either grpc or http"),
        ({"grpc": "authz:9000"}, "give either principal_header or principal_metadata"),
        ({**EXTERNAL, "principal_metadata": ["a"]}, "give either principal_header or principal_metadata"),
        *(
            ({"http": "http://a", "principal_metadata": keys}, "principal_metadata: with http, expected one header")
            for keys in (["a", "b"], ["X-User"], ["x user"])
        ),
        (
            {"http": "http://a", "principal_metadata": ["a"], "scopes_metadata": ["a", "b"]},
            "scopes_metadata: with http, expected one header",
        ),
        ({"grpc": "a:1", "principal_metadata": ["a", ""]}, "principal_metadata: expected keys that are not empty"),
        ({"grpc": "a:1", "principal_metadata": ["a"], "groups_header": "x-groups"}, "groups_header: requires"),
        ({**EXTERNAL, "groups_metadata": ["a"]}, "groups_metadata: requires principal_metadata"),
        ({**EXTERNAL, "scopes_metadata": ["a"]}, "scopes_metadata: requires principal_metadata"),
        (
            {"grpc": "a:1", "principal_metadata": ["a"], "scopes_header": "x-s"},
            "scopes_header: requires principal_header",
        ),
        ({**EXTERNAL, "groups_header": "x-g", "scopes_header": "X-G"}, "scopes_header: this header is listed twice"),
        (
            {**EXTERNAL, "groups_header": "x" * 40, "scopes_header": "y" * 40},
            "scopes_header: all three have up to 80 characters together",
        ),
        ({**EXTERNAL, "ca": "ca.pem"}, "external.ca: requires an address that begins with https://"),
        ({"http": "http://a", "principal_header": "x-user", "ca": "ca.pem"}, "external.ca: requires an address"),
        ({**EXTERNAL, "grpc": "https://authz:9000", "ca": ""}, "external.ca"),
        ({**EXTERNAL, "groups_header": "x-user"}, "groups_header: this header is listed twice"),
        ({**EXTERNAL, "from": [{"header": "x-user"}]}, "principal_header: this header is listed twice"),
        ({**EXTERNAL, "request_headers": ["X-User"]}, "principal_header: this header is listed twice"),
        ({**EXTERNAL, "request_headers": ["a b"]}, "request_headers: expected names of headers"),
        ({**EXTERNAL, "from": [{"query": "key"}]}, "external.from[0]: expected header or cookie"),
        ({**EXTERNAL, "from": [{"cookie": "a"}, {"cookie": "a"}]}, "external.from: a source is listed twice"),
        ({**EXTERNAL, "principal_header": "Authorization"}, "Authorization is what clients send"),
        ({**EXTERNAL, "principal_header": "mcp-session-id"}, "not used otherwise"),
        ({**EXTERNAL, "principal_header": "x-mcp-user"}, "not used otherwise"),
        ({**EXTERNAL, "principal_header": "x" * 41}, "up to 40 characters"),
        ({**EXTERNAL, "grpc": "authz"}, "expected an address such as authz:9000"),
        ({**EXTERNAL, "grpc": "http://authz:9000"}, "expected an address such as authz:9000"),
        ({**EXTERNAL, "grpc": "https://authz:9000/check"}, "expected an address such as authz:9000"),
        ({**EXTERNAL, "grpc": "user@authz:9000"}, "without user"),
        ({"http": "http://authz/?a=b", "principal_header": "x-user"}, "expected a URL without query"),
        ({**EXTERNAL, "challenge": "a\r\nb"}, "external.challenge"),
        ({**EXTERNAL, "failure_mode_allow": True}, "unknown key"),
    ],
)
def test_a_service_that_is_refused(external: Any, problem: str) -> None:
    assert problem in error_of(whole({"external": external}))


def test_the_authorities_of_a_service(tmp_path: Path) -> None:
    for where in ({"grpc": "https://authz:9000"}, {"http": "https://authz/check"}):
        external = {**where, "principal_header": "x-user", "ca": str(tmp_path / "ca.pem")}
        found = missing_files(config(whole({"external": external})))
        assert [problem.path for problem in found] == ["authentication.external.ca"]


@pytest.mark.parametrize("where", [{"grpc": "authz:9000"}, {"http": "http://authz"}])
@pytest.mark.parametrize("key", ["http_filters_before", "http_filters"])
def test_one_service_writes_metadata(key: str, where: Mapping[str, str]) -> None:
    filter = {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"}
    envoy = {key: [{"name": "theirs", "typed_config": filter}]}
    by_metadata = {**where, "principal_metadata": ["user"]}
    assert f"envoy.{key}: an ext_authz filter" in error_of(whole({"external": by_metadata}, envoy=envoy))
    config(whole({"external": {**where, "principal_header": "x-user"}}, envoy=envoy))


def test_a_service_beside_keys() -> None:
    """What is in a header is for one of both."""
    for keys, problem in (
        ({"header": "Authorization"}, "external.from: a source of api_keys, too"),
        ({"header": "x-user"}, "external.principal_header: clients send API keys"),
        ({"header": "x-scopes"}, "external.scopes_header: clients send API keys"),
    ):
        external = {**EXTERNAL, "scopes_header": "x-scopes"}
        assert problem in error_of(whole({"external": external, "api_keys": {"file": "k", "from": [keys]}}))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "authentication.api_keys: give either file or keys"),
        ({"file": "f", "keys": {}}, "authentication.api_keys: give either file or keys"),
        (
            {"keys": {"alice": "short"}},
            (
                "authentication.api_keys.keys: entry 1: expected a key of 16 to 512 letters, digits and characters of ._~+/=-,"
                " in quotes if it is a number"
            ),
        ),
        (
            {"keys": {"alice": "k" * 16, "bob": ["k" * 16]}},
            "authentication.api_keys.keys: entry 2: entry 1 has the same key, so that it is not clear who calls",
        ),
    ],
)
def test_keys_of_clients(keys: dict[str, Any], problem: str) -> None:
    assert error_of(whole({"api_keys": keys})) == f"gateway.yaml: {problem}"


def test_keys_of_clients_are_not_printed() -> None:
    written = config(whole({"api_keys": {"keys": {"alice": "hunter2-" + "k" * 16}}}))
    assert "hunter2" not in repr(written)
