"""Whether the TLS of a listener verifies clients' certificates, so that what they say counts.

Without a verified certificate Envoy still tells what is in it: a client would name itself. Source:
envoy.extensions.transport_sockets.tls.v3 (api-v3/extensions/transport_sockets/tls/v3/common.proto).
"""

from __future__ import annotations

import os

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.config_error import field
from mcp_extproc.envoy.attach.fields import CannotAttach, Object, get, is_true, message_type, object_at
from mcp_extproc.envoy.attach.target import Target

_TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_QUIC = "envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport"

_OTHERWISE = (
    " Or leave mtls out, and take the caller from metadata that a filter of yours writes, with authentication.existing"
)


def check_certificates(target: Target, config: GatewayConfig) -> None:
    """Check that whose certificate passes the handshake is whom the gateway's configuration means.

    Args:
        target: the clients' listener.
        config: the gateway's.

    Raises:
        CannotAttach: some endpoint takes the caller from a certificate, and the listener verifies none, or others.
    """
    for place, section in config.authentications():
        if section.mtls is None:
            continue
        problem = _problem(object_at(target.chain, "transport_socket"), section.mtls.ca)
        if problem is not None:
            raise CannotAttach(f"{field([*place, 'mtls'])}: listener {target} {problem}.{_OTHERWISE}")


def _problem(socket: Object, ca: str) -> str | None:
    """Why the certificates that pass are not those of the authorities in a file; nothing if they are."""
    context = _context(socket)
    trusted = f"validation_context: {{trusted_ca: {{filename: {ca}}}}} in its common_tls_context"
    if context is None:
        return f"has no TLS that is known here: give its filter chain a {_TLS.rpartition('.')[2]} with {trusted}"
    common = object_at(context, "common_tls_context")
    for elsewhere in ("combined_validation_context", "validation_context_sds_secret_config"):
        if get(common, elsewhere) is not None:
            return (
                f"has its authorities from elsewhere ({elsewhere}), so they can't be compared with {ca}: say {trusted}"
            )
    validation = object_at(common, "validation_context")
    weaker = _weaker(validation)
    if weaker is not None:
        return f"has {weaker}, so that certificates which {ca} does not vouch for would name callers: remove it"
    authorities = get(object_at(validation, "trusted_ca"), "filename")
    if authorities is None:
        return f"verifies no certificates by a file of authorities: say {trusted}"
    if os.path.normpath(str(authorities)) != os.path.normpath(ca):
        return f"verifies certificates by another file, {authorities}: have both name the same one"
    return None


def _context(socket: Object) -> Object | None:
    config = object_at(socket, "typed_config")
    if message_type(config) == _QUIC:
        return object_at(config, "downstream_tls_context")
    return config if message_type(config) == _TLS else None


def _weaker(validation: Object) -> str | None:
    """What makes Envoy accept certificates that the authorities do not vouch for."""
    trust = str(get(validation, "trust_chain_verification", "VERIFY_TRUST_CHAIN"))
    if trust not in ("VERIFY_TRUST_CHAIN", "0"):
        return f"trust_chain_verification: {trust}"
    if is_true(get(validation, "allow_expired_certificate")):
        return "allow_expired_certificate: true"
    return "a custom_validator_config" if get(validation, "custom_validator_config") is not None else None
