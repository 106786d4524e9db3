"""The rules of the CRD, by the cases and in the words of its own tests (envoyproxy/ai-gateway ``tests/crdcel``)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.config.kubernetes.support import backend, error_of, quiet, route, to_backend

_OAUTH: dict[str, Any] = {
    "issuer": "https://idp.example", "audiences": ["a"], "protectedResourceMetadata": {"resource": "https://gw.example/mcp"}
}  # fmt: skip
_JWT = {"jwt": {"scopes": ["read"]}}


def with_policy(**policy: Any) -> dict[str, Any]:
    return route(securityPolicy=policy)


def with_rules(*rules: dict[str, Any], **policy: Any) -> dict[str, Any]:
    return with_policy(authorization={"rules": list(rules)}, **policy)


def with_key(**key: Any) -> dict[str, Any]:
    return route(backendRefs=to_backend(securityPolicy={"apiKey": key}))


def with_tools(**selector: Any) -> dict[str, Any]:
    return route(backendRefs=to_backend(toolSelector=selector))


_BACKEND = "spec.backendRefs[0]"
_LOCAL = {"localJWKS": {"inline": "{}"}}
_REMOTE = {"remoteJWKS": {"uri": "https://idp.example/jwks"}}
_RULE = "spec.securityPolicy.authorization.rules[0]"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (route(backendRefs=to_backend() * 2), "spec.backendRefs: all backendRefs names must be unique"),
        (route(parentRefs=[{"name": "x", "kind": "Service"}]), "spec.parentRefs: only Gateway is supported"),
        (route(parentRefs=[]), "spec.parentRefs: expected a list that is not empty"),
        (route(backendRefs=None), "spec.backendRefs: required, but missing"),
        (route(backendRefs=[{"name": "a"}]), f"{_BACKEND}.port: Must have port for Service reference"),
        (
            with_tools(),
            f"{_BACKEND}.toolSelector: at least one of include, includeRegex, exclude, or excludeRegex must be specified",
        ),
        (
            with_tools(include=["x"], includeRegex=["y"]),
            f"{_BACKEND}.toolSelector: include and includeRegex are mutually exclusive",
        ),
        (
            with_tools(exclude=["x"], excludeRegex=["y"]),
            f"{_BACKEND}.toolSelector: exclude and excludeRegex are mutually exclusive",
        ),
        (with_tools(include=["x"] * 33), f"{_BACKEND}.toolSelector.include: expected at most 32 entries"),
        (
            with_key(inline="k", secretRef={"name": "s"}),
            f"{_BACKEND}.securityPolicy.apiKey: exactly one of secretRef or inline must be set",
        ),
        (with_key(), f"{_BACKEND}.securityPolicy.apiKey: exactly one of secretRef or inline must be set"),
        (
            with_key(inline="k", header="x", queryParam="y"),
            f"{_BACKEND}.securityPolicy.apiKey: only one of header or queryParam can be set",
        ),
        (
            with_policy(oauth=_OAUTH | {"jwks": {}}),
            "spec.securityPolicy.oauth.jwks: either remoteJWKS or localJWKS must be specified",
        ),
        (
            with_policy(oauth=_OAUTH | {"jwks": _LOCAL | _REMOTE}),
            "spec.securityPolicy.oauth.jwks: remoteJWKS and localJWKS cannot both be specified",
        ),
        (
            with_rules({"source": _JWT}),
            "spec.securityPolicy: oauth must be configured when any authorization rule uses a jwt source",
        ),
        (
            with_rules({"source": {"jwt": {"claims": [{"name": "scope", "values": ["a"]}]}}}, oauth=_OAUTH),
            f"{_RULE}.source.jwt.claims: 'scope' claim name is reserved for OAuth scopes",
        ),
        (
            with_rules({"source": {"jwt": {}}}, oauth=_OAUTH),
            f"{_RULE}.source.jwt: either scopes or claims must be specified",
        ),
        (with_rules({"target": {"tools": []}}), f"{_RULE}.target.tools: expected a list that is not empty"),
        (with_rules({"action": "allow"}), f"{_RULE}.action: expected 'Allow' or 'Deny', did you mean Allow?"),
        (with_policy(extAuth={}), "spec.securityPolicy.extAuth: one of grpc or http must be specified"),
        (
            with_policy(apiKeyAuth={"credentialRefs": [{"name": "s"}], "extractFrom": [{}]}),
            "spec.securityPolicy.apiKeyAuth.extractFrom[0]: give exactly one of headers, params and cookies",
        ),
        (
            route(headers=[{"name": "x", "value": "1"}, {"name": "X", "value": "2"}]),
            "spec.headers: a header is listed twice",
        ),
    ],
)
def test_invalid_routes(document: dict[str, Any], problem: str) -> None:
    assert error_of(document, backend()) == f"MCPRoute default/r {problem}"


@pytest.mark.parametrize(
    "document",
    [
        with_tools(exclude=["x"]),
        with_tools(excludeRegex=["x"]),
        with_tools(include=["x"], exclude=["y"]),
        with_rules({"target": {"tools": [{"backend": "a", "tool": "echo"}]}}),
        with_policy(oauth=_OAUTH | {"jwks": _REMOTE}),
    ],
)
def test_valid_routes(document: dict[str, Any]) -> None:
    quiet(document, backend())
