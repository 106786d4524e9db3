"""Listeners of Gateways: where clients connect."""

from __future__ import annotations

from typing import Any

from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.reading import Reading


def at_listener(reading: Reading, gateway: Document, index: int) -> dict[str, Any]:
    """The keys of ``listen`` for a listener, by its number."""
    listener = gateway.object.spec.listeners[index]
    path: FieldPath = ["spec", "listeners", index]
    found: dict[str, Any] = {"port": listener.port}
    reading.comes_from(["listen", "port"], gateway, [*path, "port"])
    _check(reading, gateway, path, index)
    for address in gateway.object.spec.addresses:
        if address.type == "IPAddress" and "address" not in found:
            found["address"] = address.value
        else:
            reading.refuse(gateway, ["spec", "addresses"], "expected one, of type IPAddress")
    reading.comes_from(["listen", "address"], gateway, ["spec", "addresses"])
    return found


def _check(reading: Reading, gateway: Document, path: FieldPath, index: int) -> None:
    spec = gateway.object.spec
    listener = spec.listeners[index]
    if listener.protocol != "HTTP" or listener.tls is not None:
        reading.refuse(
            gateway,
            [*path, "protocol"],
            "only HTTP is supported in documents: for TLS, put certificate and key into files, and name them under"
            " `listen.tls` of the native format (`mcp-extproc convert`)",
        )
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
