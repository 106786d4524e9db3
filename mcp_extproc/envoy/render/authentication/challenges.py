"""The answers to requests that are not authenticated: 401 with a challenge, and a JSON-RPC error.

Envoy's own status for a token of a wrong audience is 403, and one that can't be verified because keys are missing looks like
a bad one.

Source: RFC 6750 section 3, RFC 9728 section 5.1, MCP 2025-11-25 basic/authorization (Protected Resource Metadata Discovery).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import ApiKeys, Authentication
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.contract import AUTHENTICATION_UNAVAILABLE, ERROR_HEADER, MARKER_NAMESPACE
from mcp_extproc.envoy._api.access_loggers_filters_cel_v3 import ExpressionFilter
from mcp_extproc.envoy._api.config_accesslog_v3 import AccessLogFilter, ExtensionFilter
from mcp_extproc.envoy._api.config_core_v3 import HeaderValueOption, Metadata
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import ResponseMapper
from mcp_extproc.envoy.render.authentication import documents, external, oauth, proven
from mcp_extproc.envoy.render.authentication.documents import SCOPE, WHERE, base_url, escaped
from mcp_extproc.envoy.render.authentication.sections import Section, by_endpoint, sections
from mcp_extproc.envoy.render.typed import any_of, header, text_format
from mcp_extproc.mcp import errors, transport

_JWT = "jwt_authn_access_denied"

_NO_KEYS = f"response.code_details.startsWith('{_JWT}{{Jwks_remote')"


def _are(*details: str) -> str:
    return " || ".join(f"response.code_details == '{one}'" for one in details)


def _policies(*names: str) -> str:
    return _are(*(f"rbac_access_denied_matched_policy[{name}]" for name in names))


_NOTHING = f"{_are(f'{_JWT}{{Jwt_is_missing}}', 'missing_api_key')} || {_policies(proven.NOBODY)}"
_BAD = f"response.code_details.startsWith('{_JWT}{{') || {_policies(oauth.NO_PRINCIPAL, oauth.ALGORITHM)}"
_BAD_KEY = _are("unknown_api_key", "missing_credentials")

_WITHOUT_OAUTH = "ApiKey"
"""No registered scheme, which RFC 9110 section 11.6.1 asks for all the same. It sends nobody to an authorization server."""


_CERTIFICATE = "Mutual"
"""The same for certificates."""

WHOSE = "authentication"
"""In the metadata of an endpoint's route, where there are several sections: the label of its own."""

_WHOSE = f"xds.route_metadata.filter_metadata['{MARKER_NAMESPACE}']['{WHOSE}']"


def mappers(config: GatewayConfig) -> list[ResponseMapper]:
    """Mappers for ``local_reply_config``, in front of those for denials."""
    among = sections(config)
    one_for_all = _is_for_all(config, among)
    return [
        # Elsewhere others' filters of the same kind may refuse.
        _rendered(mapper, "" if one_for_all else f"{_WHOSE} == '{section.label}'")
        for section in among
        for mapper in _of(section)
    ]


def on_routes(config: GatewayConfig) -> dict[str, Metadata | None]:
    """Metadata of the routes of endpoints, by the endpoint's name: what answers differ in."""
    among = sections(config)
    owners, one_for_all = by_endpoint(among), _is_for_all(config, among)
    found: dict[str, Metadata | None] = {}
    for endpoint in endpoints(config):
        told = documents.told(endpoint)
        if endpoint.name in owners and not one_for_all:
            told[WHOSE] = owners[endpoint.name].label
        found[endpoint.name] = Metadata(filter_metadata={MARKER_NAMESPACE: told}) if told else None
    return found


def _is_for_all(config: GatewayConfig, among: Sequence[Section]) -> bool:
    return len(among) <= 1 and len(by_endpoint(among)) == len(endpoints(config))


@dataclass(frozen=True, slots=True)
class _Mapper:
    """An answer that refuses."""

    details: str
    """How Envoy names the cause, in CEL."""
    status: int | None
    """``None`` for the one that it has."""
    message: str
    reason: str
    fields: tuple[HeaderValueOption, ...] = ()


def _of(section: Section) -> list[_Mapper]:
    authentication, base = section.authentication, _base(section)
    has_keys, has_tokens = authentication.api_keys is not None, authentication.oauth is not None
    challenge = header("www-authenticate", _challenge(authentication, base))
    bad = header("www-authenticate", f'Bearer error="invalid_token", {_rest(base)}')
    again = header("retry-after", "1")
    return [
        _Mapper(_NOTHING, 401, _needed(authentication), "authentication_required", (challenge,)),
        *([_Mapper(_NO_KEYS, 503, _NO_KEYS_YET, "keys_unavailable", (again,))] if has_tokens else []),
        *([_Mapper(_BAD, 401, _NOT_ACCEPTED, "invalid_token", (bad,))] if has_tokens else []),
        *([_Mapper(_BAD_KEY, 401, "The API key is not known.", "invalid_api_key", (challenge,))] if has_keys else []),
        *(_of_service() if authentication.external is not None else []),
    ]


_NOT_ACCEPTED = (
    "The access token is not accepted: it is expired, not for this gateway, or not of a known authorization server."
)
_NO_KEYS_YET = "The authorization server's keys are not there yet, so tokens can't be verified. Try again."


def _needed(authentication: Authentication) -> str:
    ways = [
        *(["an access token of an authorization server in Authorization"] if authentication.oauth is not None else []),
        *([f"an API key in {_where(authentication.api_keys)}"] if authentication.api_keys is not None else []),
        *(["what the authentication service asks for"] if authentication.external is not None else []),
        *(["a client certificate"] if authentication.mtls is not None else []),
    ]
    return escaped(f"Authentication is required: send {', or '.join(ways)}.")


def _where(keys: ApiKeys) -> str:
    """Where a key may be, for people."""
    return " or ".join(
        source.header
        or (f"the parameter {source.query}" if source.query is not None else f"the cookie {source.cookie}")
        for source in keys.sources
    )


def _challenge(authentication: Authentication, base: str) -> str:
    if authentication.oauth is not None:
        return f"Bearer {_rest(base)}"
    if authentication.external is not None and authentication.external.takes_authorization:
        return escaped(authentication.external.challenge)
    if authentication.api_keys is not None:
        return _WITHOUT_OAUTH
    return escaped(authentication.external.challenge) if authentication.external is not None else _CERTIFICATE


def _of_service() -> list[_Mapper]:
    about_it = f"'{external.ASKING.header}' in request.headers && "
    denied = "The authentication service refuses this request."
    failed = "The authentication service does not answer. Try again."
    is_denied, is_failed = _are("ext_authz_denied"), "response.code_details.startsWith('ext_authz_')"
    return [
        _Mapper(f"{about_it}{is_denied}", None, denied, external.DENIED),
        _Mapper(f"{about_it}{is_failed}", 503, failed, AUTHENTICATION_UNAVAILABLE, (header("retry-after", "1"),)),
    ]


def refusal(section: Section) -> list[HeaderValueOption]:
    """Headers of the answer to a request that a service of the operator's refuses."""
    return [
        header(ERROR_HEADER, external.DENIED),
        header("content-type", transport.JSON),
        header("www-authenticate", _challenge(section.authentication, _base(section))),
    ]


def _base(section: Section) -> str:
    return base_url(section.endpoints[0])  # that of all


def _rest(base: str) -> str:
    where = f"{base}%METADATA(ROUTE:{MARKER_NAMESPACE}:{WHERE})%"
    return f'%METADATA(ROUTE:{MARKER_NAMESPACE}:{SCOPE})%resource_metadata="{where}"'


def _rendered(mapper: _Mapper, whose: str) -> ResponseMapper:
    """``whose``: which endpoints it is for, in CEL; empty for all."""
    status = orjson.Fragment("%RESPONSE_CODE%") if mapper.status is None else mapper.status
    data = {"reason": mapper.reason, "status": status}
    error = {"code": errors.INVALID_REQUEST, "message": mapper.message, "data": data}
    body = text_format(orjson.dumps({"jsonrpc": "2.0", "error": error}).decode())
    body.content_type = transport.JSON
    expression = ExpressionFilter(expression=f"{whose} && ({mapper.details})" if whose else mapper.details)
    by_details = ExtensionFilter(name="envoy.access_loggers.extension_filters.cel", typed_config=any_of(expression))
    return ResponseMapper(
        filter=AccessLogFilter(extension_filter=by_details),
        status_code=mapper.status,
        headers_to_add=[*mapper.fields, header(ERROR_HEADER, mapper.reason)],
        body_format_override=body,
    )
