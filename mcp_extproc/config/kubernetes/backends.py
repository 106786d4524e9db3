"""What backend references lead to: hosts, ports and TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from mcp_extproc.config.config_error import Problem
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.envoy_gateway import GROUP, BackendTls, Endpoint
from mcp_extproc.config.kubernetes.gateway_api import LocalReference, Reference
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.kubernetes.terms import in_documents_words
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.tls import UpstreamTls

H2C: Final = "gateway.envoyproxy.io/h2c"

_OF_EVERY_CONNECTION: Final = (
    "client_certificate_inline", "client_key_inline", "min_version", "max_version", "ciphers", "ecdh_curves",
    "signature_algorithms",
)  # fmt: skip
"""Keys of ``tls`` that a Backend says and no policy."""
_CA: Final = "ca.crt"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backend is."""

    hosts: tuple[tuple[str, int], ...]
    """Host (IPv6 without brackets) and port of each replica."""
    tls: Mapping[str, Any] | None = None
    """A section ``tls``; ``None`` for plain HTTP."""
    http2: bool = False
    unix_socket: str | None = None
    """Where it listens instead. The only one of :attr:`hosts` is then what it is asked for."""

    def with_tls(self, more: Mapping[str, Any]) -> Place:
        """The same with these keys of ``tls``, by TLS if it was not."""
        return replace(self, tls={**(self.tls or {}), **more})

    def server(self, path: str) -> dict[str, Any]:
        """The keys of a server at a path."""
        extra: dict[str, Any] = {} if not self.http2 else {"http2": True}
        if self.unix_socket is not None:
            extra["unix_socket"] = self.unix_socket
        if len(self.hosts) > 1:
            hosts = [f"{_bracketed(host)}:{port}" for host, port in self.hosts]
            return {"endpoints": hosts, "path": path} | ({} if self.tls is None else {"tls": dict(self.tls)}) | extra
        [(host, port)] = self.hosts
        scheme, usual = ("http", 80) if self.tls is None else ("https", 443)
        authority = _bracketed(host) if port == usual else f"{_bracketed(host)}:{port}"
        return {"url": f"{scheme}://{authority}{path}"} | ({"tls": dict(self.tls)} if self.tls else {}) | extra


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def place_of(
    reading: Reading, document: Document, path: FieldPath, reference: Reference, port: int | None
) -> Place | None:
    """Where a reference leads to; ``None`` after a problem was noted."""
    if not reading.is_local(document, path, reference.namespace):
        return None
    if (reference.group, reference.kind) == (GROUP, "Backend"):
        return _of_backend(reading, document, path, reference.name)
    if (reference.group, reference.kind) == ("", "Service"):
        return _of_service(reading, document, path, reference.name, port)
    reading.refuse(document, path, f"expected kind Backend with group {GROUP}, or kind Service")
    return None


def _of_backend(reading: Reading, document: Document, path: FieldPath, name: str) -> Place | None:
    found = reading.named(document, [*path, "name"], "Backend", name)
    if found is None:
        return None
    spec, before = found.object.spec, len(reading.problems)
    if spec.type == "DynamicResolver":
        reading.refuse(
            found,
            ["spec", "type"],
            "DynamicResolver is not supported: a server is at a fixed place; give endpoints, or let clients reach any server"
            " through the proxy of envoy/egress.yaml",
        )
    if spec.fallback:
        reading.refuse(
            found,
            ["spec", "fallback"],
            "is not supported, as each backend of a route is a server of its own: leave it out, and for a server's replicas"
            " name them as its endpoints",
        )
    for index, protocol in enumerate(spec.app_protocols):
        if protocol != H2C:
            reading.refuse(found, ["spec", "appProtocols", index], f"is not supported: expected {H2C}, or none")
    for index, endpoint in enumerate(spec.endpoints):
        _check(reading, found, ["spec", "endpoints", index], endpoint)
    http2 = H2C in spec.app_protocols or _by_alpn(reading, found, spec.tls)
    if len(reading.problems) > before:
        return None
    unix = spec.endpoints[0].unix
    if unix is not None:
        host = spec.endpoints[0].hostname or "localhost"
        tls = _tls(reading, found, GROUP, host, spec.tls, None)
        return Place(((host, 80 if tls is None else 443),), tls, http2, unix.path)
    hosts = tuple(_host(endpoint) for endpoint in spec.endpoints)
    return Place(hosts, _tls(reading, found, GROUP, hosts[0][0], spec.tls, None), http2)


def _by_alpn(reading: Reading, found: Document, tls: BackendTls | None) -> bool:
    """Whether TLS agrees on HTTP/2. Without a list it is HTTP/1.1."""
    named = () if tls is None else tls.alpn_protocols
    if named not in ((), ("h2",), ("http/1.1",)):
        reading.refuse(
            found,
            ["spec", "tls", "alpnProtocols"],
            "expected h2 or http/1.1 alone: Envoy does not choose between them for a server",
        )
    return named == ("h2",)


def _check(reading: Reading, found: Document, path: FieldPath, endpoint: Endpoint) -> None:
    if endpoint.unix is not None and len(found.object.spec.endpoints) > 1:
        reading.refuse(
            found, [*path, "unix"], "a server has one Unix socket, and no endpoint besides: leave the others out"
        )
    elif (
        endpoint.unix is None
        and endpoint.hostname is not None
        and (endpoint.fqdn is None or endpoint.fqdn.hostname != endpoint.hostname)
    ):
        reading.refuse(found, [*path, "hostname"], "is not supported: give the name under fqdn")
    if endpoint.zone is not None:
        reading.warn(found, [*path, "zone"], "has no effect: all replicas get requests")


def _host(endpoint: Endpoint) -> tuple[str, int]:
    if endpoint.fqdn is not None:
        return endpoint.fqdn.hostname, endpoint.fqdn.port
    assert endpoint.ip is not None
    return endpoint.ip.address, endpoint.ip.port


_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")


def _of_service(reading: Reading, document: Document, path: FieldPath, name: str, port: int | None) -> Place | None:
    key = f"{name}.{document.namespace}"
    found = reading.mentioned("Service", document.namespace, name)
    resolved, named = reading.resolve.get(key), port
    if resolved is not None:
        match = _HOST_AND_PORT.fullmatch(resolved)
        assert match is not None, "the command line has looked at it"
        host, port = match[1].strip("[]"), int(match[2])
    elif found is not None and found.object.spec.type == "ExternalName":
        host = found.object.spec.external_name
    else:
        there = "has another type than ExternalName" if found is not None else "is not there"
        reading.refuse(
            document,
            [*path, "name"],
            f"names the Service {document.namespace}/{name}, whose document {there}: add one with type ExternalName, or"
            f" say where it is with --resolve {key}=HOST:PORT",
        )
        return None
    if port is None or named is None:
        reading.refuse(document, [*path, "port"], "Must have port for Service reference")
        return None
    # Of the document's port: the command line may say another one.
    section = port_name(found, named)
    h2c, https = _app_protocol(found, named)
    tls = _tls(reading, found or document, "", host, None, section, name)
    if tls is None and https:
        tls = {}
    return Place(((host, port),), tls, h2c)


def port_name(service: Document | None, port: int | None) -> str | None:
    """What a Service calls a port."""
    ports = () if service is None else service.object.spec.ports
    return next((one.name for one in ports if one.port == port), None)


def _app_protocol(service: Document | None, port: int) -> tuple[bool, bool]:
    """Whether a Service's port says that it speaks h2c, or HTTPS."""
    ports = () if service is None else service.object.spec.ports
    said = next((one.app_protocol for one in ports if one.port == port), None)
    return said in ("kubernetes.io/h2c", H2C), said == "https"


def _tls(
    reading: Reading,
    found: Document,
    group: str,
    host: str,
    own: BackendTls | None,
    section: str | None,
    name: str | None = None,
) -> dict[str, Any] | None:
    """The section ``tls`` of a backend; ``None`` for plain HTTP. A policy wins over what the Backend says."""
    kind = "Backend" if group else "Service"
    own_tls = None if own is None else _own_tls(reading, found, host, own)
    policies = list(_policies(reading, found.namespace, group, kind, name or found.name, section))
    for other in policies[1:]:
        reading.refuse(other, ["spec", "targetRefs"], f"{policies[0]} is about the same {kind}: leave one of them out")
    if own_tls is not None:
        _check_section(reading, found, ["spec", "tls"], own_tls)
    if not policies:
        return own_tls
    said = _policy_tls(reading, policies[0], host)
    _check_section(reading, policies[0], ["spec", "validation"], said)
    return {key: value for key, value in (own_tls or {}).items() if key in _OF_EVERY_CONNECTION} | said


def _check_section(reading: Reading, document: Document, path: FieldPath, section: Mapping[str, Any]) -> None:
    problems: list[Problem] = []
    try:
        UpstreamTls.model_validate(section)
    except ValidationError as error:
        problems = problems_of(error, UpstreamTls)
    # Outside the except block: pydantic's error contains values and must not be chained.
    for problem in problems:
        reading.refuse(document, path, in_documents_words(problem.message))


def _policies(
    reading: Reading, namespace: str, group: str, kind: str, name: str, section: str | None
) -> Iterator[Document]:
    for policy in reading.documents.of_kind("BackendTLSPolicy"):
        if policy.namespace != namespace:
            continue
        for target in policy.object.spec.target_refs:
            if (target.group, target.kind, target.name) == (group, kind, name) and (
                target.section_name is None or target.section_name == section
            ):
                yield policy
                break


def warn_of_policies(reading: Reading) -> None:
    """Those that do nothing for a slip in what they name: a server would be asked without TLS, and get credentials."""
    for policy in reading.documents.of_kind("BackendTLSPolicy"):
        for index, target in enumerate(policy.object.spec.target_refs):
            place: FieldPath = ["spec", "targetRefs", index]
            found = reading.documents.get(target.kind, policy.namespace, target.name)
            what = f"{target.kind} {policy.namespace}/{target.name}"
            if (target.group, target.kind) not in ((GROUP, "Backend"), ("", "Service")):
                expected = f"expected kind Backend with group {GROUP}, or kind Service"
                reading.warn(policy, place, f"has no effect: {expected}")
            elif found is None and f"{target.name}.{policy.namespace}" not in reading.resolve:
                hint = reading.documents.hint(target.kind, policy.namespace, target.name)
                reading.warn(policy, [*place, "name"], f"has no effect: there is no {what}{hint}")
            elif found is not None and not reading.is_named(found):
                reading.warn(policy, [*place, "name"], f"has no effect: no document that is read names {what}")
            elif found is not None and target.section_name is not None and target.section_name not in _sections(found):
                reading.warn(policy, [*place, "sectionName"], f"has no effect: {what} has no port of this name")


def _sections(found: Document) -> Sequence[str | None]:
    return [one.name for one in found.object.spec.ports] if found.kind == "Service" else ()


def _policy_tls(reading: Reading, policy: Document, host: str) -> dict[str, Any]:
    spec = policy.object.spec
    for option in spec.options or {}:
        reading.refuse(policy, ["spec", "options", option], "is not supported: leave it out")
    validation, path = spec.validation, ["spec", "validation"]
    found = _authorities(reading, policy, path, validation.ca_certificate_refs)
    if validation.hostname != host:
        found["sni"] = validation.hostname
    if validation.subject_alt_names:
        found["subject_alt_names"] = [one.text for one in validation.subject_alt_names]
    return found


def _own_tls(reading: Reading, backend: Document, host: str, own: BackendTls) -> dict[str, Any]:
    path: FieldPath = ["spec", "tls"]
    found = _authorities(reading, backend, path, own.ca_certificate_refs)
    if own.client_certificate_ref is not None:
        pair = certificate_of(reading, backend, [*path, "clientCertificateRef"], own.client_certificate_ref)
        if pair is not None:
            found["client_certificate_inline"], found["client_key_inline"] = pair
    found |= {
        name: version
        for name, version in (("min_version", own.min_version), ("max_version", own.max_version))
        if version not in (None, "Auto")
    }
    found |= {
        name: list(names)
        for name in ("ciphers", "ecdh_curves", "signature_algorithms")
        if (names := getattr(own, name))
    }
    if own.insecure_skip_verify:
        found["insecure_skip_verify"] = True
    if own.sni is not None and own.sni != host:
        found["sni"] = own.sni
    return found


def certificate_of(
    reading: Reading, document: Document, path: FieldPath, reference: Reference
) -> tuple[str, str] | None:
    """Certificate and key of a Secret, as cert-manager and ``kubectl create secret tls`` write it; ``None`` after a problem
    was noted."""
    if not reading.is_local(document, path, reference.namespace):
        return None
    found = [reading.secret(document, [*path, "name"], reference.name, key) for key in ("tls.crt", "tls.key")]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def _authorities(
    reading: Reading, document: Document, path: FieldPath, references: Sequence[LocalReference]
) -> dict[str, Any]:
    texts = []
    for index, reference in enumerate(references):
        place: FieldPath = [*path, "caCertificateRefs", index]
        if (reference.group, reference.kind) == ("", "ConfigMap"):
            texts.append(reading.config_map(document, place, reference.name, _CA))
        elif (reference.group, reference.kind) == ("", "Secret"):
            texts.append(reading.secret(document, place, reference.name, _CA))
        else:
            reading.refuse(document, [*place, "kind"], "expected a ConfigMap or a Secret")
    found = [text.strip() + "\n" for text in texts if text is not None]
    return {"ca_inline": "".join(found)} if found else {}
