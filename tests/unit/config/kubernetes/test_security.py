from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authorization import Rule
from tests.unit.config.kubernetes.support import (
    KEY,
    backend,
    config_map,
    error_of,
    load,
    quiet,
    route,
    secret,
    tls_policy,
    to_backend,
)

OAUTH: dict[str, Any] = {
    "issuer": "https://idp.example/",
    "audiences": ["https://gw.example/mcp"],
    "protectedResourceMetadata": {"resource": "https://gw.example/mcp"},
}
JWKS = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "alg": "ES256"}]})  # fmt: skip


def config(*documents: dict[str, Any], **policy: Any) -> GatewayConfig:
    return quiet(route(securityPolicy=policy), backend(), *documents).config


def oauth(*documents: dict[str, Any], **more: Any) -> Any:
    found = config(*documents, oauth=OAUTH | more).authentication
    assert found is not None
    assert found.oauth is not None
    return found.oauth


def test_oauth() -> None:
    told = {
        "resource": "https://gw.example/mcp", "resourceName": "Tools", "scopesSupported": ["a", "b"],
        "resourceDocumentation": "https://docs.example", "resourcePolicyUri": "https://policy.example",
    }  # fmt: skip
    found = oauth(protectedResourceMetadata=told)
    [issuer] = found.issuers
    assert (issuer.issuer, issuer.audiences, issuer.jwks) == (OAUTH["issuer"], tuple(OAUTH["audiences"]), None)
    assert (found.resource, found.resource_name) == ("https://gw.example/mcp", "Tools")
    assert found.scopes_supported == ("a", "b")
    assert (found.resource_documentation, found.resource_policy_uri) == (
        "https://docs.example",
        "https://policy.example",
    )


def test_the_field_of_a_wrong_time_is_named() -> None:
    remote = {"uri": "https://idp.example/jwks", "cacheDuration": "5 min"}
    found = error_of(route(securityPolicy={"oauth": OAUTH | {"jwks": {"remoteJWKS": remote}}}), backend())
    assert found.endswith("oauth.jwks.remoteJWKS.cacheDuration: expected a duration such as 250ms, 30s or 5m")


def test_keys_of_an_issuer() -> None:
    remote = oauth(jwks={"remoteJWKS": {"uri": "https://idp.example/jwks"}}).issuers[0].jwks
    assert (remote.uri, remote.refresh) == ("https://idp.example/jwks", 300)
    remote = oauth(jwks={"remoteJWKS": {"uri": "https://idp.example/jwks", "cacheDuration": "1h30m"}}).issuers[0].jwks
    assert remote.refresh == 5400
    assert oauth(jwks={"localJWKS": {"inline": JWKS}}).issuers[0].jwks.inline == JWKS
    for key in ("jwks", "any"):
        named = {"localJWKS": {"type": "ValueRef", "valueRef": {"group": "", "kind": "ConfigMap", "name": "c"}}}
        assert oauth(config_map(**{key: JWKS}), jwks=named).issuers[0].jwks.inline == JWKS


def test_keys_at_a_backend_that_is_where_the_uri_says() -> None:
    """As Envoy Gateway needs it for authorities; here the backend says nothing else."""
    remote = {"uri": "https://idp.example/jwks", "backendRefs": to_backend(name="idp")}
    idp = backend("idp", endpoints=[{"fqdn": {"hostname": "idp.example", "port": 443}}])
    found = load(
        route(securityPolicy={"oauth": OAUTH | {"jwks": {"remoteJWKS": remote}}}), backend(), idp, tls_policy("idp")
    )
    assert found.config.authentication is not None
    assert found.config.authentication.oauth is not None
    [issuer] = found.config.authentication.oauth.issuers
    assert issuer.jwks is not None
    assert issuer.jwks.uri == "https://idp.example/jwks"
    assert all("idp" not in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"issuer": "http://idp.example"}, ".issuer: expected an https URL; http is for loopback addresses only"),
        (
            {"claimToHeaders": [{"claim": "sub", "header": "host"}]},
            ".claimToHeaders: host is set by the gateway, or reaches servers anyway: it can't carry what a",
        ),
        (
            {"jwks": {"remoteJWKS": {"uri": "https://idp.example/jwks", "backendRefs": to_backend()}}},
            ".jwks.remoteJWKS.backendRefs: leads elsewhere than uri, or by TLS of its own, which is not supported",
        ),
        (
            {"jwks": {"remoteJWKS": {"uri": "https://idp.example/jwks", "backendRefs": to_backend(name="idp")}}},
            ".jwks.remoteJWKS.backendRefs[0].name: names the Backend default/idp, and there is no such document",
        ),
        (
            {"jwks": {"remoteJWKS": {"uri": "https://idp.example/jwks", "backendRef": to_backend()[0]}}},
            ".jwks.remoteJWKS.backendRef: BackendRefs must be used, backendRef is not supported.",
        ),
        ({"jwks": {"localJWKS": {}}}, ".jwks.localJWKS: expected inline, which type says"),
        ({"jwks": {"localJWKS": {"inline": "{}"}}}, ".jwks: the key set has no list"),
    ],
)
def test_problems_of_oauth(more: dict[str, Any], problem: str) -> None:
    found = error_of(route(securityPolicy={"oauth": OAUTH | more}), backend())
    assert found.startswith(f"MCPRoute default/r spec.securityPolicy.oauth{problem}")


def test_all_servers_get_claims() -> None:
    more = {"claimToHeaders": [{"claim": "sub", "header": "x-user"}]}
    [server] = config(oauth=OAUTH | more).servers.values()
    [claim] = server.credentials.claims
    assert (claim.claim, claim.header) == ("sub", "x-user")


def test_what_oauth_does_otherwise_is_named() -> None:
    told = OAUTH["protectedResourceMetadata"] | {"resourceSigningAlgValuesSupported": ["RS256"]}
    without = {key: value for key, value in OAUTH.items() if key != "audiences"} | {"protectedResourceMetadata": told}
    warnings = load(route(securityPolicy={"oauth": without}), backend()).warnings
    assert [warning.partition("oauth.")[2].partition(":")[0] for warning in warnings] == [
        "audiences", "protectedResourceMetadata.resourceSigningAlgValuesSupported"
    ]  # fmt: skip


def with_keys(**more: Any) -> dict[str, Any]:
    given = {"credentialRefs": [{"name": "s"}], "extractFrom": [{"headers": ["x-api-key"]}, {"params": ["key"]}]}
    return given | more


def test_api_keys() -> None:
    found = config(secret(alice=KEY, bob=KEY[::-1]), apiKeyAuth=with_keys()).authentication
    assert found is not None
    assert found.api_keys is not None
    assert found.api_keys.inline_keys == {"alice": (KEY,), "bob": (KEY[::-1],)}
    assert [source.model_dump(exclude_none=True) for source in found.api_keys.sources] == [
        {"header": "x-api-key"}, {"query": "key"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("documents", "more", "problem"),
    [
        ([], {}, ".credentialRefs[0]: names the Secret default/s, and there is no such document: add it"),
        (
            [secret(alice=KEY), secret("t", alice=KEY)],
            {"credentialRefs": [{"name": "s"}, {"name": "t"}]},
            ".credentialRefs[1]: the client alice has a key already: leave one of them out",
        ),
        ([secret(alice="short")], {}, ": entry 1: expected a key of 16 to 512 letters"),
        (
            [secret(alice=KEY)],
            {"forwardClientIDHeader": "host"},
            ".forwardClientIDHeader: host is set by the gateway, or reaches servers anyway",
        ),
    ],
)
def test_problems_of_api_keys(documents: list[dict[str, Any]], more: dict[str, Any], problem: str) -> None:
    found = error_of(route(securityPolicy={"apiKeyAuth": with_keys(**more)}), backend(), *documents)
    assert found.startswith(f"MCPRoute default/r spec.securityPolicy.apiKeyAuth{problem}")


def test_servers_are_told_the_client_of_a_key() -> None:
    policy = {"apiKeyAuth": with_keys(forwardClientIDHeader="x-client")}
    config = quiet(route(securityPolicy=policy), backend(), secret(alice=KEY)).config
    [told] = config.servers["a"].credentials.claims
    assert (told.claim, told.header) == ("sub", "x-client")
    oauth = {
        "issuer": "https://idp.example",
        "audiences": ["a"],
        "protectedResourceMetadata": {"resource": "https://r"},
    }
    found = error_of(route(securityPolicy=policy | {"oauth": oauth}), backend(), secret(alice=KEY))
    assert "apiKeyAuth: is not supported together with oauth: there, a client needs both a key and a token" in found


# -- Rules ----------------------------------------------------------------------------------------------------------------


def rules(*written: dict[str, Any], default: str | None = None, **more: Any) -> tuple[Rule, ...]:
    authorization = {"rules": list(written)} | ({} if default is None else {"defaultAction": default})
    found = config(oauth=OAUTH, authorization=authorization, **more).authorization
    assert found is not None
    assert found.default == (default or "Deny").lower()
    assert found.step_up
    return found.rules


def test_rules() -> None:
    jwt = {"scopes": ["read"], "claims": [{"name": "org.team", "values": ["x", "y"]}]}
    condition = "request.path == '/mcp' && request.host == 'x' && request.headers_all['a'] == ['b']"
    first, second = rules(
        {
            "source": {"jwt": jwt},
            "target": {"tools": [{"backend": "a", "tool": "get_*"}, {"backend": "a", "tool": "b"}]},
        },
        {"action": "Deny", "cel": f" {condition} "},
    )[1:]
    assert first == Rule.model_validate(
        {
            "name": "rule 1", "action": "allow", "principals": {"scopes": ["read"], "claims": {"org.team": ["x", "y"]}},
            "servers": [{"exact": "a"}], "tools": [{"exact": "get_*"}, {"exact": "b"}],
        }
    )  # fmt: skip
    assert second == Rule.model_validate({"name": "rule 2", "action": "deny", "when": condition, "tools": ["*"]})


def test_what_is_no_tool_is_open_as_there() -> None:
    """Rules of an MCPRoute are about tools alone."""
    [others] = rules()
    assert others.selectors("tools") == ()
    assert [selector.matcher()("x") for kind in ("prompts", "resources") for selector in others.selectors(kind) or ()] == [
        True, True
    ]  # fmt: skip
    assert rules(default="Allow") == ()
    every = rules({"action": "Deny"}, default="Allow")
    assert [rule.action for rule in every] == ["allow", "deny"]


def test_a_rule_for_tools_of_several_servers() -> None:
    refs = [*to_backend(), {"name": "b", "group": "gateway.envoyproxy.io", "kind": "Backend"}]
    calls = [{"backend": "a", "tool": "x"}, {"backend": "b", "tool": "y"}, {"backend": "a", "tool": "z"}]
    written = {"rules": [{"target": {"tools": calls}}]}
    loaded = quiet(route(backendRefs=refs, securityPolicy={"authorization": written}), backend(), backend("b"))
    assert loaded.config.authorization is not None
    named = [
        (rule.name, [one.text for one in rule.servers], [one.text for one in rule.tools])
        for rule in loaded.config.authorization.rules[1:]
    ]
    assert named == [("rule 1, a", ["a"], ["x", "z"]), ("rule 1, b", ["b"], ["y"])]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            {"target": {"tools": [{"backend": "nope", "tool": "x"}]}},
            "target.tools[0].backend: no backend of this route has this name: correct it",
        ),
        ({"cel": "request.query == 'x'"}, "cel: "),
        ({"cel": "1 +"}, "cel: not an expression of CEL"),
    ],
)
def test_problems_of_rules(rule: dict[str, Any], problem: str) -> None:
    found = error_of(route(securityPolicy={"authorization": {"rules": [rule]}}), backend())
    assert found.startswith(f"MCPRoute default/r spec.securityPolicy.authorization.rules[0].{problem}")


# -- Backend selection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "when"),
    [
        ({"rules": [{"cel": "A"}, {"cel": "B"}]}, "!((A) || ((B) || false))"),
        ({"rules": [{"cel": "A", "action": "Deny"}, {}]}, "!((A) ? false : true)"),
        ({"defaultAction": "Allow", "rules": [{"cel": "A", "action": "Deny"}]}, "!((A) ? false : true)"),
        ({"defaultAction": "Allow"}, None),
        ({}, "always"),
    ],
)
def test_backend_selector(selector: dict[str, Any], when: str | None) -> None:
    a, b = "request.headers['x-a'] == '1'", "request.mcp.backend == 'a'"
    for rule in selector.get("rules", []):
        rule |= {key: value.replace("A", a).replace("B", b) for key, value in rule.items() if key == "cel"}
    found = quiet(route(backendSelector=selector), backend()).config.authorization
    assert found is not None
    assert found.default == "allow"
    written = [(rule.action, rule.when) for rule in found.rules]
    expected = None if when in (None, "always") else str(when).replace("A", a).replace("B", b)
    assert written == ([] if when is None else [("deny", expected)])


def test_rules_come_after_the_backend_selector() -> None:
    selector = {"rules": [{"cel": "request.mcp.backend == 'a'"}]}
    authorization = {"rules": [{"cel": "1 +"}]}
    found = error_of(route(backendSelector=selector, securityPolicy={"authorization": authorization}), backend())
    assert found.startswith("MCPRoute default/r spec.securityPolicy.authorization.rules[0].cel: ")
    found = error_of(route(backendSelector={"rules": [{"cel": "1 +"}]}), backend())
    assert found.startswith("MCPRoute default/r spec.backendSelector: not an expression of CEL")
