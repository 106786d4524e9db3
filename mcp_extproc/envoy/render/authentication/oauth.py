"""Access tokens: Envoy's jwt_authn, and where it gets the keys.

With a supervisor of ours its endpoint has the keys of all issuers (:mod:`mcp_extproc.run.authorization_servers`). Without one
Envoy fetches what has a URI, and is given the others when the configuration is rendered.

Source: RFC 6750 section 2.1, RFC 9068 section 4, MCP 2025-11-25 basic/authorization.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcp_extproc.config.authentication import Authentication, Issuer, OAuth
from mcp_extproc.config.jwks import usable_keys
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType
from mcp_extproc.envoy._api.config_core_v3 import DataSource, HttpUri
from mcp_extproc.envoy._api.config_endpoint_v3 import Endpoint, LbEndpoint
from mcp_extproc.envoy._api.config_rbac_v3 import (
    Permission,
    Policy,
    Principal,
    Rbac,
    RbacAction,
)
from mcp_extproc.envoy._api.config_route_v3 import RouteMatch
from mcp_extproc.envoy._api.filters_http_jwt_authn_v3 import (
    JwksAsyncFetch,
    JwtAuthentication,
    JwtCacheConfig,
    JwtHeader,
    JwtProvider,
    JwtProviderNormalizePayload,
    JwtRequirement,
    JwtRequirementOrList,
    RemoteJwks,
    RequirementRule,
)
from mcp_extproc.envoy._api.filters_http_rbac_v3 import Rbac as RbacFilter
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import (
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)
from mcp_extproc.envoy.layout import ISSUER_CLUSTER, KEYS_CLUSTER, KEYS_HOST, KEYS_PATH, Layout, issuer_key
from mcp_extproc.envoy.message import Message
from mcp_extproc.envoy.render.authentication import brought, proven, services
from mcp_extproc.envoy.render.typed import any_of, envoy_address, seconds

FILTER = "mcp_jwt_authn"
CLAIMS_FILTER = "mcp_jwt_claims"

METADATA = "envoy.filters.http.jwt_authn"
"""Namespace of what the filter verified, whatever the filter's own name is."""

PAYLOAD = "payload"
_HEADER = "header"
"""Keys in it."""

NO_PRINCIPAL = "mcp_no_principal"
ALGORITHM = "mcp_algorithm"
"""Policies that refuse a verified token."""

_CACHED_TOKENS = 1000
"""For each issuer and thread: verifying a signature takes longer than all the rest of a call."""

_REFRESH = 1.0
"""Seconds between two looks at our own endpoint."""

_FETCH_SECONDS = 10.0
"""For a key set. Ours answers once it knows whether there is one."""

_NOT_EMPTY = StringMatcher(safe_regex=RegexMatcher(regex="(?s).+"))


def filters(authentication: Authentication, oauth: OAuth, path: str, layout: Layout) -> list[HttpFilter]:
    """The filter, and one more where it can't check all of a token. ``path``: of the endpoint."""
    tokens: Message = JwtAuthentication(
        providers={
            _name(index): _provider(oauth, index, authentication.resource(path), layout)
            for index in range(len(oauth.issuers))
        },
        rules=[RequirementRule(match=RouteMatch(prefix="/"), requires=_any_issuer(oauth))],
        strip_failure_response=True,
    )
    if not authentication.is_single:
        # With `allow_missing` an Authorization that is not Bearer would pass as nothing.
        other_schemes = authentication.external is not None and authentication.external.takes_authorization
        credential = brought.bearer() if other_schemes else brought.header("authorization")
        tokens = brought.only_with(credential, FILTER, tokens)
    policies = _policies(authentication, oauth, layout)
    more = [_refusing(policies)] if policies else []
    return [HttpFilter(name=FILTER, typed_config=any_of(tokens)), *more]


def clusters(oauth: OAuth, layout: Layout) -> list[Cluster]:
    """Where keys are fetched."""
    if layout.keys is not None:
        lb_endpoints = [LbEndpoint(endpoint=Endpoint(address=envoy_address(layout.keys)))]
        return [services.cluster(KEYS_CLUSTER, ClusterDiscoveryType.STATIC, lb_endpoints)]
    return [
        services.at(f"{ISSUER_CLUSTER}{index}", one.jwks.uri)
        for index, one in enumerate(oauth.issuers)
        if one.jwks is not None and one.jwks.uri is not None
    ]


def _name(index: int) -> str:
    return f"issuer_{index}"


def _any_issuer(oauth: OAuth) -> JwtRequirement:
    # The provider is chosen by `iss`. A list of one is invalid.
    each = [JwtRequirement(provider_name=_name(index)) for index in range(len(oauth.issuers))]
    return each[0] if len(each) == 1 else JwtRequirement(requires_any=JwtRequirementOrList(requirements=each))


def _provider(oauth: OAuth, index: int, resource: str | None, layout: Layout) -> JwtProvider:
    issuer = oauth.issuers[index]
    audiences = list(issuer.audiences) or [resource or ""]
    assert audiences != [""]  # any audience would do; the configuration has one of both
    remote, local = _keys(index, issuer, oauth, layout)
    return JwtProvider(
        issuer=issuer.issuer,
        audiences=audiences,
        subjects=_NOT_EMPTY if oauth.principal_claim == "sub" else None,
        require_expiration=True,
        max_lifetime=None if oauth.max_lifetime is None else seconds(round(oauth.max_lifetime)),
        remote_jwks=remote,
        local_jwks=local,
        # The messages of a batch are authenticated one by one. No server gets it.
        forward=True,
        # By default tokens are taken from the query, too, which MCP forbids.
        from_headers=[JwtHeader(name="authorization", value_prefix=scheme) for scheme in ("Bearer ", "bearer ")],
        payload_in_metadata=PAYLOAD,
        header_in_metadata=_HEADER if _reads_foreign_keys(issuer, layout) else "",
        normalize_payload_in_metadata=JwtProviderNormalizePayload(space_delimited_claims=["scope", "scp"]),
        clock_skew_seconds=round(oauth.clock_skew),
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=_CACHED_TOKENS),
    )


# -- Keys -----------------------------------------------------------------------------------------------------------------


def _keys(index: int, issuer: Issuer, oauth: OAuth, layout: Layout) -> tuple[RemoteJwks | None, DataSource | None]:
    if layout.keys is not None:
        uri = f"http://{KEYS_HOST}{KEYS_PATH}{issuer_key(issuer.issuer)}"
        return _fetched(uri, KEYS_CLUSTER, _REFRESH), None
    assert issuer.jwks is not None  # see check_without_supervisor
    if issuer.jwks.uri is not None:
        return _fetched(issuer.jwks.uri, f"{ISSUER_CLUSTER}{index}", issuer.refresh), None
    text = issuer.jwks.inline
    if text is None:
        assert issuer.jwks.file is not None
        text = Path(issuer.jwks.file).read_text()
    return None, DataSource(inline_string=usable_keys(text, oauth.algorithms))


def _fetched(uri: str, cluster: str, refresh: float) -> RemoteJwks:
    return RemoteJwks(
        http_uri=HttpUri(uri=uri, cluster=cluster, timeout=seconds(_FETCH_SECONDS)),
        cache_duration=seconds(refresh),
        # Before requests come, and without them. Otherwise an issuer that is down takes its keys along.
        async_fetch=JwksAsyncFetch(failed_refetch_duration=seconds(1)),
    )


def _reads_foreign_keys(issuer: Issuer, layout: Layout) -> bool:
    """Whether Envoy reads keys that need not say which algorithm they are for."""
    return layout.keys is None and issuer.jwks is not None and issuer.jwks.uri is not None


# -- What jwt_authn does not check ----------------------------------------------------------------------------------------


def _policies(authentication: Authentication, oauth: OAuth, layout: Layout) -> Mapping[str, Principal]:
    found = {}
    if oauth.principal_claim != "sub":
        found[NO_PRINCIPAL] = Principal(
            not_id=_at((PAYLOAD, oauth.principal_claim), ValueMatcher(string_match=_NOT_EMPTY))
        )
    if any(_reads_foreign_keys(one, layout) for one in oauth.issuers):
        # Keys of ours say their algorithm: their tokens' headers are not in the metadata.
        allowed = "|".join(oauth.algorithms)
        good = ValueMatcher(string_match=StringMatcher(safe_regex=RegexMatcher(regex=allowed)))
        present = _at((_HEADER, "alg"), ValueMatcher(present_match=True))
        found[ALGORITHM] = proven.all_of(present, Principal(not_id=_at((_HEADER, "alg"), good)))
    if not authentication.is_single:
        found = {name: proven.all_of(PROVES, principal) for name, principal in found.items()}
    return found


def _refusing(policies: Mapping[str, Principal]) -> HttpFilter:
    rules = Rbac(
        action=RbacAction.DENY,
        policies={
            name: Policy(permissions=[Permission(any=True)], principals=[principal])
            for name, principal in policies.items()
        },
    )
    return HttpFilter(name=CLAIMS_FILTER, typed_config=any_of(RbacFilter(rules=rules)))


def _at(path: tuple[str, ...], value: ValueMatcher) -> Principal:
    return proven.in_metadata(METADATA, path, value)


PROVES = _at((PAYLOAD,), ValueMatcher(present_match=True))
"""Requests with a token that the filter has verified."""
