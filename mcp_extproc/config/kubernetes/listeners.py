"""Listeners of Gateways: where clients connect."""

from __future__ import annotations

from typing import Any

from mcp_extproc.config.kubernetes.backends import certificate_of
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.gateway_api import Listener
from mcp_extproc.config.kubernetes.reading import Reading


def at_listener(reading: Reading, gateway: Document, index: int) -> dict[str, Any]:
    """The keys of ``listen`` for a listener, by its number."""
    listener = gateway.object.spec.listeners[index]
    path: FieldPath = ["spec", "listeners", index]
    found: dict[str, Any] = {"port": listener.port}
    reading.comes_from(["listen", "port"], gateway, [*path, "port"])
    reading.comes_from(["listen", "tls"], gateway, [*path, "tls"])
    _check(reading, gateway, path, index)
    tls = _tls(reading, gateway, path, listener)
    if tls is not None:
        found["tls"] = tls
    for address in gateway.object.spec.addresses:
        if address.type == "IPAddress" and "address" not in found:
            found["address"] = address.value
        else:
            reading.refuse(gateway, ["spec", "addresses"], "expected one, of type IPAddress")
    reading.comes_from(["listen", "address"], gateway, ["spec", "addresses"])
    return found


def _tls(reading: Reading, gateway: Document, path: FieldPath, listener: Listener) -> dict[str, Any] | None:
    """The section ``listen.tls``; ``None`` for plain HTTP."""
    if listener.protocol not in ("HTTP", "HTTPS"):
        reading.refuse(gateway, [*path, "protocol"], "expected HTTP or HTTPS")
        return None
    tls, place = listener.tls, [*path, "tls"]
    if (tls is None) != (listener.protocol == "HTTP"):
        reading.refuse(
            gateway, place, "required by HTTPS: give certificateRefs" if tls is None else "requires protocol HTTPS"
        )
    if tls is None:
        return None
    if tls.mode not in (None, "Terminate"):
        reading.refuse(gateway, [*place, "mode"], "expected Terminate: MCP is read here")
    if tls.frontend_validation is not None:
        reading.refuse(
            gateway,
            [*place, "frontendValidation"],
            "is not supported in documents: for clients' certificates, put the authorities into a file, and name it under"
            " `listen.tls.client_ca` or `authentication.mtls` of the native format (`mcp-extproc convert`)",
        )
    for option in tls.options or {}:
        reading.refuse(gateway, [*place, "options", option], "is not supported: leave it out")
    if len(tls.certificate_refs) != 1:
        reading.refuse(gateway, [*place, "certificateRefs"], "expected one Secret")
        return None
    pair = certificate_of(reading, gateway, [*place, "certificateRefs", 0], tls.certificate_refs[0])
    return None if pair is None else {"certificate_inline": pair[0], "key_inline": pair[1]}


def _check(reading: Reading, gateway: Document, path: FieldPath, index: int) -> None:
    spec = gateway.object.spec
    listener = spec.listeners[index]
    for key, value in (("tls", spec.tls), ("backendTLS", spec.backend_tls)):
        if value is not None:
            reading.refuse(gateway, ["spec", key], "is not supported: leave it out")
    for key, value in (("allowedListeners", spec.allowed_listeners), ("defaultScope", spec.default_scope)):
        if value is not None:
            reading.warn(gateway, ["spec", key], "has no effect: the file has one Gateway, and the routes that name it")
    if listener.allowed_routes is not None:
        reading.warn(gateway, [*path, "allowedRoutes"], "has no effect: what is in the file is allowed")
    if spec.infrastructure is not None:
        reading.warn(gateway, ["spec", "infrastructure"], "has no effect: Envoy is configured by the gateway alone")
