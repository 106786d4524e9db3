"""MCPRoute, and what it refers to, as the one configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from mcp_extproc.config.kubernetes.backends import place_of
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.listeners import at_listener
from mcp_extproc.config.kubernetes.mcp_route import BackendRef
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.kubernetes.security import authentication, authorization

_AUTHORIZATION: Final = "Authorization"


def native(reading: Reading) -> dict[str, Any]:
    """The configuration that a file's MCPRoute describes."""
    routes = list(reading.documents.of_kind("MCPRoute"))
    for route in routes[1:]:
        reading.refuse(
            route, [], f"a second MCPRoute, after {routes[0]}, is not supported yet: give each a file of its own"
        )
    route = routes[0]
    data: dict[str, Any] = {"servers": _servers(reading, route)}
    if listen := _listen(reading, route):
        data["listen"] = listen
    for key, section in (("authentication", authentication), ("authorization", authorization)):
        if (found := section(reading, route)) is not None:
            data[key] = found
    return data


# -- Where clients connect ----------------------------------------------------------------------------------------------


def _listen(reading: Reading, route: Document) -> dict[str, Any]:
    spec = route.object.spec
    found: dict[str, Any] = {}
    if spec.path != "/mcp":
        found["path"] = spec.path
    reading.comes_from(["listen", "path"], route, ["spec", "path"])
    if spec.headers:
        reading.refuse(
            route, ["spec", "headers"], "is not supported yet: the route is not chosen by headers; leave it out"
        )
    hosts = _hosts(reading, route, ["spec", "hostnames"], spec.hostnames)
    gateway, index = _gateway(reading, route)
    if gateway is not None:
        found |= at_listener(reading, gateway, index)
        host = gateway.object.spec.listeners[index].hostname
        if host is not None and not hosts:
            hosts = _hosts(reading, gateway, ["spec", "listeners", index, "hostname"], [host])
    if hosts:
        found["allowed_hosts"] = hosts
    return found


def _hosts(reading: Reading, document: Document, path: FieldPath, hosts: Sequence[str]) -> list[str]:
    reading.comes_from(["listen", "allowed_hosts"], document, path)
    for index, host in enumerate(hosts):
        if host.startswith("*"):
            reading.refuse(document, [*path, index], "wildcards are not supported yet: list the names")
    return list(hosts)


def _gateway(reading: Reading, route: Document) -> tuple[Document | None, int]:
    """The Gateway that the route is attached to, if the file has any, and the number of the listener."""
    gateways = list(reading.documents.of_kind("Gateway"))
    if not gateways:
        return None, 0
    found: list[tuple[Document, int]] = []
    for index, parent in enumerate(route.object.spec.parent_refs):
        path: FieldPath = ["spec", "parentRefs", index]
        local = reading.is_local(route, path, parent.namespace)
        gateway = reading.named(route, [*path, "name"], "Gateway", parent.name) if local else None
        if gateway is None:
            continue
        listeners = [
            number
            for number, listener in enumerate(gateway.object.spec.listeners)
            if parent.section_name in (None, listener.name) and parent.port in (None, listener.port)
        ]
        if not listeners:
            reading.refuse(route, path, f"{gateway} has no such listener: correct sectionName or port")
            continue
        found += [(gateway, number) for number in listeners]
    for gateway, number in found[1:]:
        reading.warn(
            gateway,
            ["spec", "listeners", number],
            "has no effect: the route is served at the first listener that it is attached to",
        )
    return found[0] if found else (None, 0)


# -- Servers ------------------------------------------------------------------------------------------------------------


def _servers(reading: Reading, route: Document) -> dict[str, Any]:
    found = {}
    for index, reference in enumerate(route.object.spec.backend_refs):
        path: FieldPath = ["spec", "backendRefs", index]
        server = _server(reading, route, path, reference)
        if server is not None:
            found[reference.name] = server
            reading.comes_from(["servers", reference.name], route, path)
            reading.comes_from(["servers", reference.name, "tools"], route, [*path, "toolSelector"])
            reading.comes_from(["servers", reference.name, "headers"], route, [*path, "securityPolicy", "apiKey"])
    return found


def _server(reading: Reading, route: Document, path: FieldPath, reference: BackendRef) -> dict[str, Any] | None:
    target = Reference(name=reference.name, group=reference.group, kind=reference.kind, namespace=reference.namespace)
    place = place_of(reading, route, path, target, reference.port)
    if reference.forward_headers:
        reading.refuse(
            route, [*path, "forwardHeaders"], "is not supported yet: servers get no headers of the client; leave it out"
        )
    credential = _credential(reading, route, path, reference)
    tools = _tools(reading, route, path, reference)
    if place is None:
        return None
    query = "" if credential is None or credential[0] != "query" else credential[1]
    found = place.server(_with_query(reference.path or "/", query))
    if credential is not None and credential[0] == "headers":
        found["headers"] = {credential[1]: credential[2]}
    return found | ({"tools": tools} if tools else {})


def _with_query(path: str, query: str) -> str:
    if not query:
        return path
    return f"{path}{'&' if '?' in path else '?'}{query}"


def _credential(
    reading: Reading, route: Document, path: FieldPath, reference: BackendRef
) -> tuple[str, str, str] | None:
    policy = reference.security_policy
    if policy is None or policy.api_key is None:
        return None
    given, place = policy.api_key, [*path, "securityPolicy", "apiKey"]
    key = given.inline
    if given.secret_ref is not None:
        if not reading.is_local(route, [*place, "secretRef"], given.secret_ref.namespace):
            return None
        key = reading.secret(route, [*place, "secretRef", "name"], given.secret_ref.name, "apiKey")
    if key is None:
        return None
    if given.query_param is not None:
        return "query", f"{quote(given.query_param, safe='')}={quote(key, safe='')}", ""
    name = given.header or _AUTHORIZATION
    # Only this spelling, as there: another one is a header of the user's choice.
    return "headers", name, f"Bearer {key}" if name == _AUTHORIZATION else key


def _tools(reading: Reading, route: Document, path: FieldPath, reference: BackendRef) -> dict[str, list[str]]:
    selector = reference.tool_selector
    if selector is None:
        return {}
    found = {}
    for name, key in (
        ("include", "include"), ("include_regex", "includeRegex"),
        ("exclude", "exclude"), ("exclude_regex", "excludeRegex"),
    ):  # fmt: skip
        if name not in selector.model_fields_set:
            continue
        names = getattr(selector, name)
        if not names:
            reading.refuse(
                route, [*path, "toolSelector", key], "is empty: name at least one tool, or leave the key out"
            )
        found[key] = list(names)
    return found
