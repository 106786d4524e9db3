"""Listeners of Gateways: where clients connect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp_extproc.config.kubernetes.backends import certificate_of
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.gateway_api import Listener
from mcp_extproc.config.kubernetes.reading import Reading


def at_listeners(reading: Reading, gateway: Document, numbers: Sequence[int]) -> dict[str, Any]:
    """The keys of ``listen`` for listeners of one port, by their numbers."""
    listeners = gateway.object.spec.listeners
    found: dict[str, Any] = {"port": listeners[numbers[0]].port}
    reading.comes_from(["listen", "port"], gateway, ["spec", "listeners", numbers[0], "port"])
    certificates: list[dict[str, str]] = []
    for number in numbers:
        path: FieldPath = ["spec", "listeners", number]
        _check(reading, gateway, path, number)
        for certificate in _certificates(reading, gateway, path, listeners[number]):
            if certificate not in certificates:
                further: FieldPath = ["more", len(certificates) - 1] if certificates else []
                native: FieldPath = ["listen", "tls", *further]
                reading.comes_from(native, gateway, [*path, "tls"])
                certificates.append(certificate)
    if certificates:
        found["tls"] = certificates[0] | ({"more": certificates[1:]} if certificates[1:] else {})
    for address in gateway.object.spec.addresses:
        if address.type == "IPAddress" and "address" not in found:
            found["address"] = address.value
        else:
            reading.refuse(gateway, ["spec", "addresses"], "expected one, of type IPAddress")
    reading.comes_from(["listen", "address"], gateway, ["spec", "addresses"])
    return found


def _certificates(reading: Reading, gateway: Document, path: FieldPath, listener: Listener) -> list[dict[str, str]]:
    """Those of a listener; none for plain HTTP."""
    if listener.protocol not in ("HTTP", "HTTPS"):
        reading.refuse(gateway, [*path, "protocol"], "expected HTTP or HTTPS")
        return []
    tls, place = listener.tls, [*path, "tls"]
    if (tls is None) != (listener.protocol == "HTTP"):
        reading.refuse(
            gateway, place, "required by HTTPS: give certificateRefs" if tls is None else "requires protocol HTTPS"
        )
    if tls is None:
        return []
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
    if not tls.certificate_refs:
        reading.refuse(gateway, [*place, "certificateRefs"], "expected at least one Secret")
    pairs = [
        certificate_of(reading, gateway, [*place, "certificateRefs", index], reference)
        for index, reference in enumerate(tls.certificate_refs)
    ]
    return [{"certificate_inline": pair[0], "key_inline": pair[1]} for pair in pairs if pair is not None]


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
