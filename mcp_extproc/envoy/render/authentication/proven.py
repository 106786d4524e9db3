"""Who was proven: into metadata that clients can't write, and who is nobody is refused.

A filter that is skipped cleans nothing, so what filters say in headers is taken from every request before it is routed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mcp_extproc.contract import CLAIMS_HEADER, CLAIMS_SOURCE, PRINCIPAL_NAMESPACE
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_core_v3 import TypedExtensionConfig
from mcp_extproc.envoy._api.config_rbac_v3 import (
    Permission,
    Policy,
    Principal,
    PrincipalSet,
    Rbac,
    RbacAction,
    SourcedMetadata,
)
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher
from mcp_extproc.envoy._api.filters_http_header_to_metadata_v3 import Config as HeaderToMetadata
from mcp_extproc.envoy._api.filters_http_header_to_metadata_v3 import ConfigKeyValuePair, ConfigRule
from mcp_extproc.envoy._api.filters_http_rbac_v3 import Rbac as RbacFilter
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.http_early_header_mutation_header_mutation_v3 import HeaderMutation
from mcp_extproc.envoy._api.type_matcher_v3 import MetadataMatcher, MetadataMatcherPathSegment, ValueMatcher
from mcp_extproc.envoy.render.authentication.sections import Section
from mcp_extproc.envoy.render.typed import any_of, extension

NOBODY = "mcp_nobody"
"""Policy that refuses requests whose caller nobody has proven."""

_TO_METADATA = "mcp_principal"


@dataclass(frozen=True, slots=True)
class Method:
    """A method whose filter names the caller in a header."""

    header: str
    namespace: str
    """Of the metadata that the name goes to."""
    key: str
    """In it."""

    @property
    def proves(self) -> Principal:
        """Requests whose caller it has proven."""
        return present(self.header)


UNCLAIMED: Final = ConfigRule(
    header=CLAIMS_HEADER,
    on_header_missing=ConfigKeyValuePair(metadata_namespace=PRINCIPAL_NAMESPACE, key=CLAIMS_SOURCE, value="1"),
)
"""Says of a request that it came in without the header in which a filter writes claims. Others have lost it already
(:func:`early`): where a listener's owner leaves that out, nobody believes the header."""


def present(name: str) -> Principal:
    """Requests with a header."""
    return Principal(header=HeaderMatcher(name=name, present_match=True))


def in_metadata(namespace: str, path: Sequence[str], value: ValueMatcher) -> Principal:
    """Requests about which a filter wrote this."""
    segments = [MetadataMatcherPathSegment(key=key) for key in path]
    matcher = MetadataMatcher(filter=namespace, path=segments, value=value)
    return Principal(sourced_metadata=SourcedMetadata(metadata_matcher=matcher))


def nobody(section: Section, proofs: Sequence[Principal], of: Sequence[Principal] = ()) -> HttpFilter:
    """Refuses who is proven in none of these ways; of these requests only, if some are given."""
    unproven = Principal(not_id=any_one(*proofs))
    refused = all_of(any_one(*of), unproven) if of else unproven
    policy = Policy(permissions=[Permission(any=True)], principals=[refused])
    rules = Rbac(action=RbacAction.DENY, policies={NOBODY: policy})
    return HttpFilter(name=section.named(NOBODY), typed_config=any_of(RbacFilter(rules=rules)))


def any_one(*principals: Principal) -> Principal:
    """Requests of any of these."""
    return principals[0] if len(principals) == 1 else Principal(or_ids=PrincipalSet(ids=list(principals)))


def all_of(*principals: Principal) -> Principal:
    """Requests that are of all of these."""
    return Principal(and_ids=PrincipalSet(ids=list(principals)))


def to_metadata(section: Section, methods: Sequence[Method]) -> HttpFilter:
    """What is in headers, as metadata. The headers go."""
    rules = [
        ConfigRule(
            header=method.header,
            on_header_present=ConfigKeyValuePair(metadata_namespace=method.namespace, key=method.key),
            remove=True,
        )
        for method in methods
    ]
    return HttpFilter(name=section.named(_TO_METADATA), typed_config=any_of(HeaderToMetadata(request_rules=rules)))


def early(headers: Sequence[str]) -> list[TypedExtensionConfig]:
    """Takes these headers from all requests, before they are routed, whatever a route says of filters."""
    if not headers:
        return []
    removing = HeaderMutation(mutations=[OneMutation(remove=name) for name in headers])
    return [extension("envoy.http.early_header_mutation.header_mutation", removing)]
