"""The answers to requests that are not authenticated: 401 with a challenge, and a JSON-RPC error.

Envoy's own status for a token of a wrong audience is 403, and one that can't be verified because keys are missing looks like
a bad one.

Source: RFC 6750 section 3, RFC 9728 section 5.1, MCP 2025-11-25 basic/authorization (Protected Resource Metadata Discovery).
"""

from __future__ import annotations

import orjson

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Authentication
from mcp_extproc.contract import AUTHENTICATION_UNAVAILABLE, ERROR_HEADER, MARKER_NAMESPACE
from mcp_extproc.envoy._api.access_loggers_filters_cel_v3 import ExpressionFilter
from mcp_extproc.envoy._api.config_accesslog_v3 import AccessLogFilter, ExtensionFilter
from mcp_extproc.envoy._api.config_core_v3 import HeaderValueOption
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import ResponseMapper
from mcp_extproc.envoy.render.authentication import external, oauth, proven
from mcp_extproc.envoy.render.authentication.documents import SCOPE, WHERE, base_url, escaped
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


def mappers(config: GatewayConfig) -> list[ResponseMapper]:
    """Mappers for ``local_reply_config``, in front of those for denials."""
    authentication = config.authentication
    if authentication is None or authentication.existing is not None:
        return []
    has_keys, has_tokens = authentication.api_keys is not None, authentication.oauth is not None
    rest = _rest(authentication)
    challenge = _challenge(authentication)
    ways = [
        *(["an access token of an authorization server in Authorization"] if has_tokens else []),
        *(["an API key"] if has_keys else []),
        *(["what the authentication service asks for"] if authentication.external is not None else []),
        *(["a client certificate"] if authentication.mtls is not None else []),
    ]
    needed = f"Authentication is required: send {', or '.join(ways)}."
    bad = (
        "The access token is not accepted: it is expired, not for this gateway, or not of a known authorization server."
    )
    keys = "The authorization server's keys are not there yet, so tokens can't be verified. Try again."
    return [
        _mapper(_NOTHING, 401, needed, "authentication_required", header("www-authenticate", challenge)),
        *(
            [
                _mapper(_NO_KEYS, 503, keys, "keys_unavailable", header("retry-after", "1")),
                _mapper(
                    _BAD, 401, bad, "invalid_token", header("www-authenticate", f'Bearer error="invalid_token", {rest}')
                ),
            ]
            if has_tokens
            else []
        ),
        *(
            [
                _mapper(
                    _BAD_KEY, 401, "The API key is not known.", "invalid_api_key", header("www-authenticate", challenge)
                )
            ]
            if has_keys
            else []
        ),
        *(_of_service() if authentication.external is not None else []),
    ]


def _challenge(authentication: Authentication) -> str:
    if authentication.oauth is not None:
        return f"Bearer {_rest(authentication)}"
    if authentication.external is not None and authentication.external.takes_authorization:
        return escaped(authentication.external.challenge)
    if authentication.api_keys is not None:
        return _WITHOUT_OAUTH
    return escaped(authentication.external.challenge) if authentication.external is not None else _CERTIFICATE


def _of_service() -> list[ResponseMapper]:
    about_it = f"'{external.ASKING.header}' in request.headers && "
    denied = "The authentication service refuses this request."
    failed = "The authentication service does not answer. Try again."
    is_denied, is_failed = _are("ext_authz_denied"), "response.code_details.startsWith('ext_authz_')"
    return [
        _mapper(f"{about_it}{is_denied}", None, denied, external.DENIED),
        _mapper(f"{about_it}{is_failed}", 503, failed, AUTHENTICATION_UNAVAILABLE, header("retry-after", "1")),
    ]


def refusal(authentication: Authentication) -> list[HeaderValueOption]:
    """Headers of the answer to a request that a service of the operator's refuses."""
    return [
        header(ERROR_HEADER, external.DENIED),
        header("content-type", transport.JSON),
        header("www-authenticate", _challenge(authentication)),
    ]


def _rest(authentication: Authentication) -> str:
    where = f"{base_url(authentication)}%METADATA(ROUTE:{MARKER_NAMESPACE}:{WHERE})%"
    return f'%METADATA(ROUTE:{MARKER_NAMESPACE}:{SCOPE})%resource_metadata="{where}"'


def _mapper(details: str, status: int | None, message: str, reason: str, *fields: HeaderValueOption) -> ResponseMapper:
    """``status``: ``None`` for the one that it has."""
    data = {"reason": reason, "status": orjson.Fragment("%RESPONSE_CODE%") if status is None else status}
    error = {"code": errors.INVALID_REQUEST, "message": message, "data": data}
    body = text_format(orjson.dumps({"jsonrpc": "2.0", "error": error}).decode())
    body.content_type = transport.JSON
    by_details = ExtensionFilter(
        name="envoy.access_loggers.extension_filters.cel", typed_config=any_of(ExpressionFilter(expression=details))
    )
    return ResponseMapper(
        filter=AccessLogFilter(extension_filter=by_details),
        status_code=status,
        headers_to_add=[*fields, header(ERROR_HEADER, reason)],
        body_format_override=body,
    )
