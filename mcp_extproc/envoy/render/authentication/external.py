"""A service that says who calls: Envoy's ext_authz.

Nothing of its answer is for clients but the status of a refusal: they get a JSON-RPC error and the gateway's challenge. Envoy
would hand them the service's headers, too: those of a refusal, in whose place a filter in front puts the gateway's own, and
over gRPC those that it wants on the response to a request that it lets pass, for which the filter is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from mcp_extproc.config.authentication import Authentication, External, KeySource
from mcp_extproc.contract import (
    ERROR_HEADER,
    EXTERNAL,
    EXTERNAL_GROUPS,
    EXTERNAL_SCOPES,
    PRINCIPAL_NAMESPACE,
    SERVICE_NAMESPACE,
)
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutationRemoveOnMatch, HeaderMutationRules
from mcp_extproc.envoy._api.config_core_v3 import (
    ApiVersion,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValueOption,
    HttpUri,
)
from mcp_extproc.envoy._api.config_rbac_v3 import Principal
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher
from mcp_extproc.envoy._api.filters_http_ext_authz_v3 import AuthorizationResponse, ExtAuthz, HttpService
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import ListStringMatcher, RegexMatcher, StringMatcher, ValueMatcher
from mcp_extproc.envoy._api.type_v3 import HttpStatus, StatusCode
from mcp_extproc.envoy.layout import EXTERNAL_CLUSTER
from mcp_extproc.envoy.message import Message
from mcp_extproc.envoy.render.authentication import brought, proven, services
from mcp_extproc.envoy.render.authentication.sections import Section
from mcp_extproc.envoy.render.matching import (
    Predicate,
    all_of,
    has_response_header,
    is_answered,
    negation,
    one_of,
    skipped_if,
)
from mcp_extproc.envoy.render.typed import any_of, header, seconds

FILTER = "mcp_ext_authz"
_CLEAN = "mcp_ext_authz_headers"

DENIED = "authentication_denied"
"""Reason of the answer where the service refuses a request."""

ASKING = proven.Method("x-mcp-external", PRINCIPAL_NAMESPACE, "asked")
"""On requests until all is proven: the answer of another service, an operator's, is not about who calls."""


def filters(section: Section, external: External, refusal: Sequence[HeaderValueOption]) -> list[HttpFilter]:
    """The filter, and the one in front of it that takes headers away.

    Args:
        section: has the other methods.
        external: the service.
        refusal: headers of the gateway's own answer, which has :data:`DENIED` in the first place.
    """
    authentication, cluster = section.authentication, section.named(EXTERNAL_CLUSTER)
    clean_filter, filter = section.named(_CLEAN), section.named(FILTER)
    unasked = [] if authentication.asks_always else [negation(_credential(authentication, external))]
    asking = skipped_if(one_of(*unasked, is_answered()), filter, _asking(external, cluster))
    others = negation(has_response_header(ERROR_HEADER, DENIED))
    cleaning = skipped_if(others, clean_filter, _cleaning(external, refusal))
    return [
        HttpFilter(name=clean_filter, typed_config=any_of(cleaning)),
        HttpFilter(name=filter, typed_config=any_of(asking)),
    ]


def cluster(section: Section, external: External) -> Cluster:
    """Where the service is."""
    name = section.named(EXTERNAL_CLUSTER)
    if external.http is not None:
        return services.at(name, external.http, ca=external.ca)
    assert external.grpc is not None
    url = external.grpc if "://" in external.grpc else f"http://{external.grpc}"
    return services.at(name, url, http2=True, ca=external.ca)


def in_headers(external: External) -> list[proven.Method]:
    """What the service says in headers."""
    return [ASKING, *(proven.Method(name, PRINCIPAL_NAMESPACE, _KEYS[of]) for of, name in external.headers.items())]


_KEYS: Final[Mapping[str, str]] = {
    "principal_header": EXTERNAL,
    "groups_header": EXTERNAL_GROUPS,
    "scopes_header": EXTERNAL_SCOPES,
}
"""By the field that names the header."""


def namespaces(external: External) -> list[str]:
    """Those of metadata that are what the service says."""
    return [SERVICE_NAMESPACE] if external.principal_metadata else []


def proves(external: External) -> Principal:
    """Requests whose caller the service named."""
    if external.principal_header is None:
        return proven.in_metadata(SERVICE_NAMESPACE, external.principal_metadata, ValueMatcher(string_match=_SOMETHING))
    return Principal(header=HeaderMatcher(name=external.principal_header, string_match=_SOMETHING))


def is_brought(external: External) -> Principal:
    """Requests with something for the service to look at."""
    return proven.any_one(*map(_is_sent, external.sources))


_SOMETHING = StringMatcher(safe_regex=RegexMatcher(regex="(?s).+"))


def _is_sent(source: KeySource) -> Principal:
    if source.header is not None:
        return proven.present(source.header)
    like = StringMatcher(safe_regex=RegexMatcher(regex=brought.cookie_line(source.cookie or "")))
    return Principal(header=HeaderMatcher(name="cookie", string_match=like))


def _credential(authentication: Authentication, external: External) -> Predicate:
    each = [
        brought.header(source.header) if source.header is not None else brought.cookie(source.cookie or "")
        for source in external.sources
        if source.header != "authorization"
    ]
    if external.takes_authorization:
        sent = brought.header("authorization")
        each.append(sent if authentication.oauth is None else all_of(sent, negation(brought.bearer())))
    return one_of(*each)


def _asking(external: External, cluster: str) -> Message:
    named = list(external.headers.values())
    sent = [source.header or "cookie" for source in external.sources]
    asked = ExtAuthz(
        transport_api_version=ApiVersion.V3,
        stat_prefix="mcp",
        allowed_headers=_these(dict.fromkeys(["authorization", *sent, *external.request_headers])),
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        decoder_header_mutation_rules=_only(named),
    )
    if external.http is not None:
        asked.http_service = HttpService(
            server_uri=HttpUri(uri=external.http, cluster=cluster, timeout=seconds(external.timeout)),
            path_prefix=_path(external.http),
            authorization_response=AuthorizationResponse(
                allowed_upstream_headers=_these(named),
                dynamic_metadata_from_headers=_these(keys[0] for keys in external.metadata.values()),
            ),
        )
    else:
        asked.grpc_service = GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster), timeout=seconds(external.timeout)
        )
    return asked


def _cleaning(external: External, refusal: Sequence[HeaderValueOption]) -> HeaderMutation:
    """Of the request, what clients say of themselves; of answers about it, what the service says to them."""
    said = [OneMutation(remove=method.header) for method in in_headers(external)]
    asking = OneMutation(append=header(ASKING.header, "1"))
    all_of_it = HeaderMutationRemoveOnMatch(key_matcher=StringMatcher(safe_regex=RegexMatcher(regex="[^:].*")))
    answer = [OneMutation(remove_on_match=all_of_it), *(OneMutation(append=item) for item in refusal)]
    return HeaderMutation(mutations=Mutations(request_mutations=[*said, asking], response_mutations=answer))


def _only(names: Sequence[str]) -> HeaderMutationRules:
    """Requests get these headers of the service's and no others."""
    allowed = RegexMatcher(regex="|".join(map(re.escape, names))) if names else None
    return HeaderMutationRules(disallow_all=True, allow_expression=allowed)


def _these(names: Iterable[str]) -> ListStringMatcher | None:
    """Headers of these names; ``None`` for none, as an empty list is invalid."""
    patterns = [StringMatcher(exact=name) for name in names]
    return ListStringMatcher(patterns=patterns) if patterns else None


def _path(url: str) -> str:
    return urlsplit(url).path.rstrip("/")
