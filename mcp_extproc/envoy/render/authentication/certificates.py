"""Client certificates: what one says of its owner, once Envoy's handshake has verified it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mcp_extproc.config.authentication import Mtls
from mcp_extproc.contract import CERTIFICATE, CERTIFICATE_HEADER, PRINCIPAL_NAMESPACE
from mcp_extproc.envoy._api.config_common_mutation_rules_v3 import HeaderMutation as OneMutation
from mcp_extproc.envoy._api.config_rbac_v3 import Principal
from mcp_extproc.envoy._api.config_route_v3 import HeaderMatcher
from mcp_extproc.envoy._api.filters_http_header_mutation_v3 import HeaderMutation, Mutations
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.type_matcher_v3 import RegexMatcher, StringMatcher
from mcp_extproc.envoy.render.authentication import proven
from mcp_extproc.envoy.render.authentication.sections import Section
from mcp_extproc.envoy.render.typed import any_of, header

FILTER = "mcp_certificate"

PROVEN = proven.Method(CERTIFICATE_HEADER, PRINCIPAL_NAMESPACE, CERTIFICATE)

FINGERPRINT = proven.Method("x-mcp-certificate-fingerprint", PRINCIPAL_NAMESPACE, "fingerprint")

_OPERATORS: Final[Mapping[str, str]] = {
    "san_uri": "%DOWNSTREAM_PEER_URI_SAN%",
    "san_dns": "%DOWNSTREAM_PEER_DNS_SAN%",
    "san_email": "%DOWNSTREAM_PEER_EMAIL_SAN%",
    "subject": "%DOWNSTREAM_PEER_SUBJECT%",
}

_ABSENT = "-"
"""What Envoy writes where there is none."""


def filters(section: Section, mtls: Mtls) -> list[HttpFilter]:
    """The filter, in front of which no header of this name arrives."""
    written = (
        header(CERTIFICATE_HEADER, _OPERATORS[mtls.principal]),
        # Whatever it names.
        header(FINGERPRINT.header, "%DOWNSTREAM_PEER_FINGERPRINT_256%"),
    )
    mutations = Mutations(request_mutations=[OneMutation(append=item) for item in written])
    return [HttpFilter(name=section.named(FILTER), typed_config=any_of(HeaderMutation(mutations=mutations)))]


def names(among: Sequence[Section]) -> list[str]:
    """Names of these filters."""
    return [section.named(FILTER) for section in among if section.authentication.mtls is not None]


def proves(mtls: Mtls) -> Principal:
    """Requests whose certificate names one caller. Several names arrive joined by a comma, which may be in a name, too."""
    one = "[^,]+" if mtls.principal != "subject" else ".+"
    return _written(CERTIFICATE_HEADER, one)


def brought() -> Principal:
    """Requests with a certificate."""
    return _written(FINGERPRINT.header, ".+")


def _written(name: str, regex: str) -> Principal:
    like = StringMatcher(safe_regex=RegexMatcher(regex=regex))
    absent = Principal(header=HeaderMatcher(name=name, string_match=StringMatcher(exact=_ABSENT)))
    return proven.all_of(Principal(header=HeaderMatcher(name=name, string_match=like)), Principal(not_id=absent))
