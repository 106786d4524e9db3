"""Kuadrant's MCPServerRegistrations, with their HTTPRoutes and MCPVirtualServers, as the one configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcp_extproc.config.kubernetes.backends import Place, place_of, port_name
from mcp_extproc.config.kubernetes.documents import Document
from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.http_route import Filter, HttpBackendReference
from mcp_extproc.config.kubernetes.listeners import at_listeners
from mcp_extproc.config.kubernetes.names import Called, given_names
from mcp_extproc.config.kubernetes.reading import Reading

_RULE: Final = ("spec", "rules", 0)
_BACKEND: Final = (*_RULE, "backendRefs", 0)

_OF_DISCOVERY: Final = ("category", "hint", "tags")
"""For tools that find tools, which the gateway does not have."""


@dataclass(frozen=True, slots=True)
class _Registered:
    """A registration."""

    server: str
    """Name of the server."""
    prefix: str
    document: Document
    is_enabled: bool


def native(reading: Reading) -> dict[str, Any]:
    """The configuration that a file's MCPServerRegistrations describe."""
    registered = list(_named(reading, list(reading.documents.of_kind("MCPServerRegistration"))))
    servers: dict[str, Any] = {}
    used: list[Document] = []
    for one in registered:
        route = _route(reading, one.document)
        used += [] if route is None else [route]
        if not one.is_enabled:
            reading.warn(one.document, ["spec", "state"], "is Disabled: the server is left out")
        elif route is not None and (server := _server(reading, one, route)) is not None:
            servers[one.server] = server
    reading.unused("HTTPRoute", because="no MCPServerRegistration names it", besides=used)
    data: dict[str, Any] = {"servers": servers}
    if listen := _listen(reading):
        data["listen"] = listen
    if virtual := _virtual_servers(reading, registered):
        data |= {"virtual_servers": virtual, "virtual_server_header": True}
    return data


def _named(reading: Reading, registrations: Sequence[Document]) -> Iterable[_Registered]:
    """Each with a name for its server."""
    called = [Called(one.name, one.namespace, one, ["metadata", "name"]) for one in registrations]
    for one, name in zip(registrations, given_names(reading, called), strict=True):
        yield _Registered(name, one.object.spec.prefix, one, one.object.spec.state == "Enabled")


# -- Where clients connect ----------------------------------------------------------------------------------------------

_OTHERWISE: Final = {
    "private_host": ("privateHost", "calls go to their server directly"),
    "backend_ping_interval_seconds": ("backendPingIntervalSeconds", "see `health_check` of the native format"),
    "log_level": ("logLevel", "see `log.level` of the native format"),
    "session_store": ("sessionStore", "sessions are sealed, not stored: see `session` of the native format"),
    "max_body_bytes": ("maxBodyBytes", "see `limits` of the native format"),
}
_REFUSED: Final = {
    "trusted_headers_key": ("trustedHeadersKey", "say who may see which tools in `authorization` of the native format"),
    "oauth_protected_resource": ("oauthProtectedResource", "see `authentication.oauth` of the native format"),
    "ca_cert_bundle_ref": ("caCertBundleRef", "give each registration its caCertSecretRef"),
}


def _listen(reading: Reading) -> dict[str, Any]:
    extensions = list(reading.documents.of_kind("MCPGatewayExtension"))
    for other in extensions[1:]:
        reading.refuse(other, [], f"a second one, after {extensions[0]}, is not supported: give each a file of its own")
    if not extensions:
        reading.unused("Gateway", because="no MCPGatewayExtension names it")
        return {}
    extension = extensions[0]
    spec = extension.object.spec
    for name, (key, instead) in _OTHERWISE.items():
        if getattr(spec, name) is not None:
            reading.warn(extension, ["spec", key], f"has no effect: {instead}")
    for name, (key, instead) in _REFUSED.items():
        if getattr(spec, name) is not None:
            reading.refuse(extension, ["spec", key], f"is not supported: {instead}")
    if spec.url_elicitation == "Enabled":
        reading.refuse(extension, ["spec", "urlElicitation"], "is not supported: users are not asked for tokens")
    found, host = _at(reading, extension)
    if spec.public_host is not None:
        found["allowed_hosts"] = [spec.public_host]
        reading.comes_from(["listen", "allowed_hosts"], extension, ["spec", "publicHost"])
    elif host is not None and host.startswith("*"):
        reading.refuse(extension, ["spec", "targetRef"], "the listener's hostname has a wildcard: give publicHost")
    elif host is not None:
        found["allowed_hosts"] = [host]
    return found


def _at(reading: Reading, extension: Document) -> tuple[dict[str, Any], str | None]:
    """The keys of ``listen``, and the listener's host name."""
    target, path = extension.object.spec.target_ref, ("spec", "targetRef")
    gateway = reading.named(extension, [*path, "name"], "Gateway", target.name, target.namespace)
    reading.unused("Gateway", because=f"{extension} names another one", besides=[] if gateway is None else [gateway])
    if gateway is None:
        return {}, None
    listeners = gateway.object.spec.listeners
    index = next((number for number, one in enumerate(listeners) if one.name == target.section_name), None)
    if index is None:
        reading.refuse(extension, [*path, "sectionName"], f"{gateway} has no such listener: correct it")
        return {}, None
    return at_listeners(reading, gateway, [index]), listeners[index].hostname


# -- Servers ------------------------------------------------------------------------------------------------------------


def _route(reading: Reading, registration: Document) -> Document | None:
    target, path = registration.object.spec.target_ref, ("spec", "targetRef")
    if not reading.is_local(registration, path, target.namespace):
        return None
    return reading.named(registration, [*path, "name"], "HTTPRoute", target.name)


def _server(reading: Reading, one: _Registered, route: Document) -> dict[str, Any] | None:
    registration, spec = one.document, one.document.object.spec
    if spec.token_url_elicitation is not None:
        reading.refuse(
            registration,
            ["spec", "tokenURLElicitation"],
            "is not supported: users are not asked for tokens; leave it out, and have clients send the server's own token:"
            " with `userSpecificList: Enabled`, or in another header with `credentials.forward` of the native format",
        )
    for key in _OF_DISCOVERY:
        if getattr(spec, key):
            reading.warn(registration, ["spec", key], "has no effect: the gateway has no tools that find tools")
    place, headers = _behind(reading, route, spec.path)
    ca = None
    if spec.ca_cert_secret_ref is not None:
        reference = spec.ca_cert_secret_ref
        ca = reading.secret(registration, ["spec", "caCertSecretRef", "name"], reference.name, reference.key)
    if spec.credential_ref is not None:
        reading.mentioned("Secret", registration.namespace, spec.credential_ref.name)
        reading.warn(
            registration,
            ["spec", "credentialRef"],
            "is not sent: it is for the lists of Kuadrant's broker alone, and here it would go with the calls of everybody;"
            f" if they may all act with it, put it into `servers.{one.server}.headers` of the native format",
        )
    if place is None:
        return None
    if ca is not None:
        place = place.with_tls({"ca_inline": ca})
    reading.comes_from(["servers", one.server], registration, ["metadata", "name"])
    for ours, theirs in (
        ("prefix", "prefix"),
        ("url", "path"),
        ("tls", "caCertSecretRef"),
    ):
        reading.comes_from(["servers", one.server, ours], registration, ["spec", theirs])
    # An empty separator: the prefix is put in front of names as it is.
    names = {"prefix": one.prefix, "separator": ""} if one.prefix else {"prefix": ""}
    found = place.server(spec.path) | names | ({"headers": headers} if headers else {})
    if spec.user_specific_list == "Enabled":
        found["credentials"] = {"forward": [{"name": "Authorization"}]}
        reading.comes_from(["servers", one.server, "credentials"], registration, ["spec", "userSpecificList"])
    return found


def _behind(reading: Reading, route: Document, path: str) -> tuple[Place | None, dict[str, str]]:
    """Where an HTTPRoute leads to, and the headers that it sets."""
    spec = route.object.spec
    if not spec.hostnames:
        reading.refuse(route, ["spec", "hostnames"], "must have at least one hostname")
    if len(spec.rules) != 1 or len(spec.rules[0].backend_refs) != 1:
        reading.refuse(route, ["spec", "rules"], "expected one rule with one backend reference")
        return None, {}
    rule = spec.rules[0]
    if rule.matches and not any(match.takes(path) for match in rule.matches):
        reading.refuse(
            route,
            [*_RULE, "matches"],
            f"do not take all requests with the path {path}, which the MCPServerRegistration has: add a match for it",
        )
    for key, value in (
        ("timeouts", rule.timeouts), ("retry", rule.retry), ("sessionPersistence", rule.session_persistence),
    ):  # fmt: skip
        if value is not None:
            reading.warn(route, [*_RULE, key], "has no effect: see the keys of a server in the native format")
    backend = rule.backend_refs[0]
    place = _place(reading, route, backend)
    headers: dict[str, str] = {}
    for start, filters in (((*_RULE, "filters"), rule.filters), ((*_BACKEND, "filters"), backend.filters)):
        for number, one in enumerate(filters):
            _filter(reading, route, (*start, number), one, place, headers)
    return place, headers


def _place(reading: Reading, route: Document, backend: HttpBackendReference) -> Place | None:
    if (backend.group, backend.kind) == ("networking.istio.io", "Hostname"):
        return Place(((backend.name, backend.port or 443),), {})
    target = Reference(name=backend.name, group=backend.group, kind=backend.kind, namespace=backend.namespace)
    place = place_of(reading, route, _BACKEND, target, backend.port)
    service = reading.documents.get("Service", route.namespace, backend.name)
    if place is not None and place.tls is None and (port_name(service, backend.port) or "").lower() == "https":
        return place.with_tls({})
    return place


def _filter(
    reading: Reading,
    route: Document,
    path: tuple[str | int, ...],
    one: Filter,
    place: Place | None,
    headers: dict[str, str],
) -> None:
    if one.type == "RequestHeaderModifier":
        changes = one.request_header_modifier
        headers.update({header.name: header.value for header in (*changes.set, *changes.add)})
        if changes.remove:
            reading.refuse(
                route, [*path, "requestHeaderModifier", "remove"], "has no effect: servers get no headers of the client"
            )
    elif one.type == "URLRewrite":
        rewrite = one.url_rewrite
        hosts = set() if place is None else {host for host, _ in place.hosts}
        if rewrite.path is not None:
            reading.refuse(route, [*path, "urlRewrite", "path"], "is not supported: give the path in the registration")
        if rewrite.hostname is not None and place is not None and {rewrite.hostname} != hosts:
            reading.refuse(
                route, [*path, "urlRewrite", "hostname"], "is not supported, unless it is the host of the backend"
            )
    else:
        reading.refuse(route, [*path, "type"], "is not supported: expected RequestHeaderModifier or URLRewrite")


# -- Virtual servers ----------------------------------------------------------------------------------------------------


def _virtual_servers(reading: Reading, registered: Sequence[_Registered]) -> dict[str, Any]:
    found = {}
    for document in reading.documents.of_kind("MCPVirtualServer"):
        name = f"{document.namespace}/{document.name}"
        reading.comes_from(["virtual_servers", name], document, ["metadata", "name"])
        reading.comes_from(["virtual_servers", name, "servers"], document, ["spec", "tools"])
        found[name] = {"servers": _offered(reading, document, registered)}
    return found


def _offered(
    reading: Reading, document: Document, registered: Sequence[_Registered]
) -> Mapping[str, Mapping[str, object]]:
    spec = document.object.spec
    offered: dict[str, dict[str, Any]] = {}
    if spec.prompts is None:
        offered = {one.server: {"prompts": "all"} for one in registered if one.is_enabled}
    for kind, names in (("tools", spec.tools), ("prompts", spec.prompts or ())):
        for number, name in enumerate(names):
            owners = _owners(registered, name)
            if not owners:
                reading.refuse(
                    document, ["spec", kind, number], "no registration has a prefix of this name: correct it"
                )
            elif not any(one.is_enabled for one in owners):
                reading.warn(document, ["spec", kind, number], f"has no effect: {owners[0].document} is disabled")
            for one in filter(lambda owner: owner.is_enabled, owners):
                own = {"exact": name.removeprefix(one.prefix)}
                selected = offered.setdefault(one.server, {}).setdefault(kind, [])
                if own not in selected:
                    selected.append(own)
    return offered


def _owners(registered: Sequence[_Registered], name: str) -> list[_Registered]:
    """Whose a name may be: the one's whose prefix it has, the longest, or else of all that have none."""
    fitting = [one for one in registered if name.startswith(one.prefix) and name != one.prefix]
    longest = max((len(one.prefix) for one in fitting), default=0)
    return [one for one in fitting if len(one.prefix) == longest]
