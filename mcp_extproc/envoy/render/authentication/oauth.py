"""Access tokens: Envoy's jwt_authn, and where it gets the keys.

With a supervisor of ours its endpoint has the keys of all issuers (:mod:`mcp_extproc.run.authorization_servers`). Without one
Envoy fetches what has a URI, and is given the others when the configuration is rendered.

Where tokens have to be for the URL of an endpoint, each has providers of its own: a provider remembers the tokens that it has
verified, audience included.

Source: RFC 6750 section 2.1, RFC 9068 section 4, MCP 2025-11-25 basic/authorization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_extproc.config.authentication import Authentication, Issuer, OAuth
from mcp_extproc.config.endpoint import Endpoint
from mcp_extproc.config.jwks import usable_keys
from mcp_extproc.contract import CLAIMS, CLAIMS_HEADER, SPACE_DELIMITED, TOKENS_NAMESPACE
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType
from mcp_extproc.envoy._api.config_core_v3 import DataSource, HttpUri
from mcp_extproc.envoy._api.config_endpoint_v3 import Endpoint as LbAddress
from mcp_extproc.envoy._api.config_endpoint_v3 import LbEndpoint
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
    PerRouteConfig,
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
from mcp_extproc.envoy.message import Any, Message
from mcp_extproc.envoy.render.authentication import brought, proven, services
from mcp_extproc.envoy.render.authentication.sections import Section
from mcp_extproc.envoy.render.typed import any_of, envoy_address, seconds

FILTER = "mcp_jwt_authn"
CLAIMS_FILTER = "mcp_jwt_claims"

_HEADER = "header"
"""The token's header, beside its claims in the metadata."""

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


def filters(section: Section, oauth: OAuth, layout: Layout) -> list[HttpFilter]:
    """The filter, and one more where it can't check all of a token."""
    authentication, name = section.authentication, section.named(FILTER)
    tokens: Message = _verifying(section, oauth, layout)
    if not authentication.is_single:
        # With `allow_missing` an Authorization that is not Bearer would pass as nothing.
        other_schemes = authentication.external is not None and authentication.external.takes_authorization
        credential = brought.bearer() if other_schemes else brought.header("authorization")
        tokens = brought.only_with(credential, name, tokens)
    policies = _policies(authentication, oauth, layout)
    more = [_refusing(section, policies)] if policies else []
    return [HttpFilter(name=name, typed_config=any_of(tokens)), *more]


def on_route(section: Section, oauth: OAuth, endpoint: Endpoint) -> dict[str, Any]:
    """The configuration of an endpoint's routes: for whom its tokens have to be."""
    wanted = _Wanted.by_all(section.endpoints, oauth)
    if len(wanted) == 1:
        return {}
    mine = next(one for one in wanted if endpoint in one.endpoints)
    return {section.named(FILTER): any_of(PerRouteConfig(requirement_name=mine.name))}


def clusters(section: Section, oauth: OAuth, layout: Layout) -> list[Cluster]:
    """Where Envoy fetches keys by itself."""
    if layout.keys is not None:
        return []
    return [
        services.at(_issuer_cluster(section, index), one.jwks.uri)
        for index, one in enumerate(oauth.issuers)
        if one.jwks is not None and one.jwks.uri is not None
    ]


def keys_cluster(layout: Layout) -> list[Cluster]:
    """The supervisor's endpoint, if there is one."""
    if layout.keys is None:
        return []
    lb_endpoints = [LbEndpoint(endpoint=LbAddress(address=envoy_address(layout.keys)))]
    return [services.cluster(KEYS_CLUSTER, ClusterDiscoveryType.STATIC, lb_endpoints)]


def _issuer_cluster(section: Section, index: int) -> str:
    return f"{ISSUER_CLUSTER}{section.name}/{index}" if section.name else f"{ISSUER_CLUSTER}{index}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """For whom tokens have to be at some endpoints."""

    audiences: tuple[tuple[str, ...], ...]
    """By issuer."""
    endpoints: list[Endpoint]
    first: int
    """Number of the first of their providers, of which there is one for each issuer."""

    @property
    def name(self) -> str:
        """Unique."""
        return f"audiences_{self.first}"

    @property
    def requirement(self) -> JwtRequirement:
        """A token of any issuer. The provider is chosen by ``iss``."""
        each = [JwtRequirement(provider_name=_name(self.first + index)) for index in range(len(self.audiences))]
        # A list of one is invalid.
        return each[0] if len(each) == 1 else JwtRequirement(requires_any=JwtRequirementOrList(requirements=each))

    @classmethod
    def by_all(cls, endpoints: Sequence[Endpoint], oauth: OAuth) -> list[_Wanted]:
        """All that are different."""
        found: dict[tuple[tuple[str, ...], ...], _Wanted] = {}
        for endpoint in endpoints:
            audiences = tuple(one.audiences or (endpoint.resource or "",) for one in oauth.issuers)
            assert ("",) not in audiences  # any audience would do; the configuration has one of both
            first = len(found) * len(oauth.issuers)
            found.setdefault(audiences, cls(audiences, [], first)).endpoints.append(endpoint)
        return list(found.values())


def _verifying(section: Section, oauth: OAuth, layout: Layout) -> JwtAuthentication:
    wanted = _Wanted.by_all(section.endpoints, oauth)
    return JwtAuthentication(
        providers={
            _name(one.first + index): _provider(section, index, audiences, layout)
            for one in wanted
            for index, audiences in enumerate(one.audiences)
        },
        # Of routes that say nothing.
        rules=[RequirementRule(match=RouteMatch(prefix="/"), requires=wanted[0].requirement)],
        requirement_map={one.name: one.requirement for one in wanted} if len(wanted) > 1 else {},
        strip_failure_response=True,
    )


def _name(number: int) -> str:
    return f"issuer_{number}"


def _provider(section: Section, index: int, audiences: Sequence[str], layout: Layout) -> JwtProvider:
    oauth = section.authentication.oauth
    assert oauth is not None
    issuer = oauth.issuers[index]
    remote, local = _keys(_issuer_cluster(section, index), issuer, oauth, layout)
    # Without any filter of others, nothing in a table of routes that comes later reads metadata either.
    in_metadata = section.beside_filters or not layout.owns_listener or oauth.principal_claim != "sub"
    return JwtProvider(
        issuer=issuer.issuer,
        audiences=list(audiences),
        subjects=_NOT_EMPTY if oauth.principal_claim == "sub" else None,
        require_expiration=True,
        max_lifetime=None if oauth.max_lifetime is None else seconds(round(oauth.max_lifetime)),
        remote_jwks=remote,
        local_jwks=local,
        # The messages of a batch are authenticated one by one. No server gets it.
        forward=True,
        # By default tokens are taken from the query, too, which MCP forbids.
        from_headers=[JwtHeader(name="authorization", value_prefix=scheme) for scheme in ("Bearer ", "bearer ")],
        forward_payload_header=CLAIMS_HEADER,
        payload_in_metadata=CLAIMS if in_metadata else "",
        header_in_metadata=_HEADER if _reads_foreign_keys(issuer, layout) else "",
        normalize_payload_in_metadata=JwtProviderNormalizePayload(space_delimited_claims=list(SPACE_DELIMITED))
        if in_metadata
        else None,
        clock_skew_seconds=round(oauth.clock_skew),
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=_CACHED_TOKENS),
    )


# -- Keys -----------------------------------------------------------------------------------------------------------------


def _keys(cluster: str, issuer: Issuer, oauth: OAuth, layout: Layout) -> tuple[RemoteJwks | None, DataSource | None]:
    if layout.keys is not None:
        uri = f"http://{KEYS_HOST}{KEYS_PATH}{issuer_key(issuer.issuer, oauth.algorithms)}"
        return _fetched(uri, KEYS_CLUSTER, _REFRESH), None
    assert issuer.jwks is not None  # see check_without_supervisor
    if issuer.jwks.uri is not None:
        return _fetched(issuer.jwks.uri, cluster, issuer.refresh), None
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
            not_id=_at((CLAIMS, oauth.principal_claim), ValueMatcher(string_match=_NOT_EMPTY))
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


def _refusing(section: Section, policies: Mapping[str, Principal]) -> HttpFilter:
    rules = Rbac(
        action=RbacAction.DENY,
        policies={
            name: Policy(permissions=[Permission(any=True)], principals=[principal])
            for name, principal in policies.items()
        },
    )
    return HttpFilter(name=section.named(CLAIMS_FILTER), typed_config=any_of(RbacFilter(rules=rules)))


def _at(path: tuple[str, ...], value: ValueMatcher) -> Principal:
    return proven.in_metadata(TOKENS_NAMESPACE, path, value)


PROVES = proven.present(CLAIMS_HEADER)
"""Requests with a token that the filter has verified."""
