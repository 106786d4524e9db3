"""Who may call, and what, as an MCPRoute says it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from mcp_extproc.config.expressions import BACKEND, replaced
from mcp_extproc.config.kubernetes.attached import AttachedRoute
from mcp_extproc.config.kubernetes.backends import place_of
from mcp_extproc.config.kubernetes.documents import FieldPath
from mcp_extproc.config.kubernetes.envoy_gateway import ApiKeyAuth, LocalJwks, RemoteJwks
from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.mcp_route import AuthorizationRule, BackendSelector, OAuth, RouteAuthorization
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.kubernetes.values import ValueProblem

_POLICY: Final = ("spec", "securityPolicy")
_OAUTH: Final = (*_POLICY, "oauth")
_KEYS: Final = (*_POLICY, "apiKeyAuth")
_RULES: Final = (*_POLICY, "authorization", "rules")


def authentication(reading: Reading, route: AttachedRoute) -> dict[str, Any] | None:
    """The section ``authentication``; ``None`` if everybody may call."""
    policy = route.spec.security_policy
    if policy is None:
        return None
    found: dict[str, Any] = {}
    if policy.oauth is not None:
        found["oauth"] = _oauth(reading, route, policy.oauth)
    if policy.api_key_auth is not None:
        found["api_keys"] = _api_keys(reading, route, policy.api_key_auth)
    reading.comes_from([*route.at, "authentication"], route.document, _POLICY)
    reading.comes_from([*route.at, "authentication", "api_keys"], route.document, _KEYS)
    reading.comes_from([*route.at, "authentication", "oauth"], route.document, _OAUTH)
    return found or None


def _oauth(reading: Reading, route: AttachedRoute, oauth: OAuth) -> dict[str, Any]:
    told, issuer = oauth.protected_resource_metadata, {"issuer": oauth.issuer}
    of_issuer: dict[str, Any] = dict(issuer)
    if oauth.audiences:
        of_issuer["audiences"] = list(oauth.audiences)
    else:
        reading.warn(
            route.document,
            [*_OAUTH, "audiences"],
            "is not given: tokens have to be for the resource, exactly as it is written; Envoy AI Gateway takes tokens for"
            " any",
        )
    if oauth.jwks is not None:
        of_issuer["jwks"] = (
            _remote(reading, route, oauth.jwks.remote_jwks)
            if oauth.jwks.remote_jwks is not None
            else _local(reading, route, oauth.jwks.local_jwks)
        )
    if told.resource_signing_alg_values_supported:
        reading.warn(
            route.document,
            [*_OAUTH, "protectedResourceMetadata", "resourceSigningAlgValuesSupported"],
            "has no effect: the gateway signs no answers, and clients are told of no algorithms",
        )
    optional = {
        "scopes_supported": list(told.scopes_supported),
        "resource_name": told.resource_name,
        "resource_documentation": told.resource_documentation,
        "resource_policy_uri": told.resource_policy_uri,
    }
    native: Mapping[str, tuple[str, ...]] = {
        "resource": ("protectedResourceMetadata", "resource"),
        "scopes_supported": ("protectedResourceMetadata", "scopesSupported"),
        "resource_name": ("protectedResourceMetadata", "resourceName"),
        "resource_documentation": ("protectedResourceMetadata", "resourceDocumentation"),
        "resource_policy_uri": ("protectedResourceMetadata", "resourcePolicyUri"),
    }
    for ours, theirs in native.items():
        reading.comes_from([*route.at, "authentication", "oauth", ours], route.document, [*_OAUTH, *theirs])
    for ours, own in (("issuer", "issuer"), ("audiences", "audiences"), ("jwks", "jwks")):
        reading.comes_from([*route.at, "authentication", "oauth", "issuers", 0, ours], route.document, [*_OAUTH, own])
    return {"issuers": [of_issuer], "resource": told.resource} | {
        key: value for key, value in optional.items() if value
    }


def _remote(reading: Reading, route: AttachedRoute, remote: RemoteJwks) -> dict[str, Any]:
    path: FieldPath = [*_OAUTH, "jwks", "remoteJWKS"]
    if remote.backend_ref is not None:
        reading.refuse(route.document, [*path, "backendRef"], "BackendRefs must be used, backendRef is not supported.")
    if remote.backend_settings:
        reading.warn(
            route.document,
            [*path, "backendSettings"],
            "has no effect: the keys are fetched every cacheDuration, and again within 10 s where that fails",
        )
    if remote.backend_refs and not _is_where_the_uri_says(reading, route, path, remote):
        reading.refuse(
            route.document,
            [*path, "backendRefs"],
            "leads elsewhere than uri, or by TLS of its own, which is not supported: the keys come from the host in uri, with"
            " the system's authorities; leave it out and give a uri that is reached from here, or put the keys into localJWKS",
        )
    for ours, theirs in (("uri", "uri"), ("refresh", "cacheDuration")):
        native: FieldPath = [*route.at, "authentication", "oauth", "issuers", 0, "jwks", ours]
        reading.comes_from(native, route.document, [*path, theirs])
    return {"uri": remote.uri, "refresh": remote.cache_duration}


def _is_where_the_uri_says(reading: Reading, route: AttachedRoute, path: FieldPath, remote: RemoteJwks) -> bool:
    """Whether the backend says nothing else: then it may be left out. What can't be found is a problem by itself."""
    if len(remote.backend_refs) > 1:
        return False
    [reference] = remote.backend_refs
    target = Reference(name=reference.name, group=reference.group, kind=reference.kind, namespace=reference.namespace)
    place = place_of(reading, route.document, [*path, "backendRefs", 0], target, reference.port)
    if place is None:
        return True
    https = remote.uri.startswith("https:")
    try:
        parts = urlsplit(remote.uri)
        named = (parts.hostname, parts.port or (443 if https else 80))
    except ValueError:
        return True  # which is a problem of the URI
    return place.hosts == (named,) and place.tls == ({} if https else None) and place.unix_socket is None


def _local(reading: Reading, route: AttachedRoute, local: LocalJwks | None) -> dict[str, Any]:
    assert local is not None
    if local.inline is not None:
        return {"inline": local.inline}
    assert local.value_ref is not None
    path: FieldPath = [*_OAUTH, "jwks", "localJWKS", "valueRef"]
    if (local.value_ref.group, local.value_ref.kind) != ("", "ConfigMap"):
        reading.refuse(route.document, [*path, "kind"], "expected a ConfigMap")
        return {"inline": "{}"}
    return {"inline": reading.config_map(route.document, path, local.value_ref.name, "jwks", or_any=True) or "{}"}


def _api_keys(reading: Reading, route: AttachedRoute, auth: ApiKeyAuth) -> dict[str, Any]:
    policy = route.spec.security_policy
    if policy is not None and policy.oauth is not None:
        reading.refuse(
            route.document,
            _KEYS,
            "is not supported together with oauth: there, a client needs both a key and a token, and here either would let it"
            " in; leave one of them out",
        )
    if auth.sanitize is False:
        reading.warn(route.document, [*_KEYS, "sanitize"], "has no effect: servers never get the keys of clients")
    keys: dict[str, str] = {}
    for index, reference in enumerate(auth.credential_refs):
        path: FieldPath = [*_KEYS, "credentialRefs", index]
        if not reading.is_local(route.document, path, reference.namespace):
            continue
        secret = reading.named(route.document, path, "Secret", reference.name)
        if secret is None:
            continue
        try:
            for client, key in reading.values.all_of_secret(secret):
                if client in keys:
                    reading.refuse(
                        route.document, path, f"the client {client} has a key already: leave one of them out"
                    )
                keys[client] = key
        except ValueProblem as error:
            reading.problems.append(error.problem)
    sources = [
        {ours: name}
        for one in auth.extract_from
        for ours, names in (("header", one.headers), ("query", one.params), ("cookie", one.cookies))
        for name in names
    ]
    return {"keys": keys, "from": sources}


# -- What they may do ---------------------------------------------------------------------------------------------------

_OTHERS: Final = {"name": "prompts and resources", "action": "allow", "prompts": ["*"], "resources": ["*"]}
"""An MCPRoute's rules are about tools alone. All else is open there."""


def authorization(reading: Reading, route: AttachedRoute) -> dict[str, Any] | None:
    """The section ``authorization``; ``None`` if callers may do everything."""
    spec = route.spec
    written = None if spec.security_policy is None else spec.security_policy.authorization
    rules: list[dict[str, Any]] = []
    if spec.backend_selector is not None:
        rules += _unselected(reading, route, spec.backend_selector)
    if written is None:
        return {"default": "allow", "rules": rules} if spec.backend_selector is not None else None
    default = written.default_action.lower()
    if default == "deny" or any(rule.action == "Deny" for rule in written.rules):
        rules.append(dict(_OTHERS))
    for number, rule in enumerate(written.rules):
        cel = _condition(reading, route, [*_RULES, number, "cel"], rule.cel)
        for one in _split(rule, number, cel, route.servers):
            place: FieldPath = [*route.at, "authorization", "rules", len(rules)]
            reading.comes_from(place, route.document, [*_RULES, number])
            reading.comes_from([*place, "when"], route.document, [*_RULES, number, "cel"])
            reading.comes_from([*place, "servers"], route.document, [*_RULES, number, "target", "tools"])
            rules.append(one)
    _check_targets(reading, route, written)
    return {"default": default, "step_up": True, "rules": rules}


def _split(rule: AuthorizationRule, number: int, cel: str, servers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A rule, once for each server that it names tools of."""
    found: dict[str, Any] = {"name": f"rule {number + 1}", "action": rule.action.lower()}
    if rule.source is not None:
        jwt = rule.source.jwt
        claims = {claim.name: list(claim.values) for claim in jwt.claims}
        found["principals"] = ({"scopes": list(jwt.scopes)} if jwt.scopes else {}) | (
            {"claims": claims} if claims else {}
        )
    if cel:
        found["when"] = cel
    if rule.target is None:
        yield found | {"tools": ["*"]}
        return
    by_backend: dict[str, list[str]] = {}
    for call in rule.target.tools:
        by_backend.setdefault(call.backend, []).append(call.tool)
    for backend, tools in by_backend.items():
        name = found["name"] if len(by_backend) == 1 else f"{found['name']}, {backend}"
        exact = [{"exact": tool} for tool in dict.fromkeys(tools)]
        yield found | {"name": name, "servers": [{"exact": servers.get(backend, backend)}], "tools": exact}


def _condition(reading: Reading, route: AttachedRoute, path: FieldPath, cel: str | None) -> str:
    """A condition in which the name of a backend is the route's, also where its server has another one."""
    text = (cel or "").strip()
    if all(backend == server for backend, server in route.servers.items()):
        return text
    by_server = json.dumps({server: backend for backend, server in route.servers.items()})
    found = replaced(text, BACKEND, f"{by_server}[request.mcp.backend]")
    if found is None:
        reading.refuse(
            route.document,
            path,
            "another route has a backend of the same name: name request.mcp.backend, or another member, in full",
        )
    return found or ""


def _check_targets(reading: Reading, route: AttachedRoute, written: RouteAuthorization) -> None:
    backends = {backend.name for backend in route.spec.backend_refs}
    for number, rule in enumerate(written.rules):
        for index, call in enumerate(rule.target.tools if rule.target is not None else ()):
            if call.backend not in backends:
                reading.refuse(
                    route.document,
                    [*_RULES, number, "target", "tools", index, "backend"],
                    "no backend of this route has this name: correct it",
                )


def _unselected(reading: Reading, route: AttachedRoute, selector: BackendSelector) -> Iterable[dict[str, Any]]:
    """A rule that denies what is behind servers that a session does not have."""
    name = "backend selector"
    reading.comes_from([*route.at, "authorization", "rules", 0], route.document, ["spec", "backendSelector"])
    decided = next((index for index, rule in enumerate(selector.rules) if not (rule.cel or "").strip()), None)
    rules = selector.rules[:decided]
    default = selector.default_action if decided is None else selector.rules[decided].action
    chosen = "true" if default == "Allow" else "false"
    for number, rule in reversed(list(enumerate(rules))):
        cel = _condition(reading, route, ["spec", "backendSelector", "rules", number, "cel"], rule.cel)
        # Not a conditional expression: what can't be told there does not match, and the next rule is tried.
        chosen = f"({cel})" + (f" || {chosen}" if rule.action == "Allow" else f" ? false : {chosen}")
        chosen = f"({chosen})"
    if not rules:
        return [{"name": name, "action": "deny"}] if default == "Deny" else []
    return [{"name": name, "action": "deny", "when": f"!{chosen}"}]
