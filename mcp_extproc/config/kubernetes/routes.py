"""MCPRoute, and what it refers to, as the one configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from mcp_extproc.config.kubernetes.attached import AttachedRoute, Hosts
from mcp_extproc.config.kubernetes.attachment import Listeners, hosts_of, listeners_of, of_all
from mcp_extproc.config.kubernetes.backends import place_of
from mcp_extproc.config.kubernetes.documents import Document, FieldPath
from mcp_extproc.config.kubernetes.ext_auth import ext_auth
from mcp_extproc.config.kubernetes.gateway_api import Reference
from mcp_extproc.config.kubernetes.listeners import at_listeners
from mcp_extproc.config.kubernetes.mcp_route import BackendRef
from mcp_extproc.config.kubernetes.names import Called, given_names
from mcp_extproc.config.kubernetes.precedence import in_order
from mcp_extproc.config.kubernetes.reading import Reading
from mcp_extproc.config.kubernetes.security import authentication, authorization
from mcp_extproc.config.kubernetes.values import without_line_breaks
from mcp_extproc.config.patterns import matcher
from mcp_extproc.config.values import is_header_name

_AUTHORIZATION: Final = "Authorization"


def native(reading: Reading) -> dict[str, Any]:
    """The configuration that a file's MCPRoutes describe. A single one that its path alone chooses is the main endpoint.
    Otherwise each is a virtual server, and there is no main endpoint."""
    documents = list(reading.documents.of_kind("MCPRoute"))
    listeners = listeners_of(reading, documents)
    hosts = [hosts_of(reading, one, found) for one, found in zip(documents, listeners, strict=True)]
    first = of_all(listeners)
    if len(documents) == 1 and not _is_chosen(documents[0], hosts[0]):
        routes = [AttachedRoute(documents[0], (), _own_names(documents[0]), hosts[0])]
        data = {"servers": _servers(reading, routes[0])} | _alone(reading, routes[0], first)
        data |= _secured(reading, routes[0])
    else:
        routes = list(_attached(reading, documents, hosts))
        data = _several(reading, routes, first)
    gates = ext_auth(reading, routes)
    if gates.envoy:
        data["envoy"] = gates.envoy
    for name, configs in gates.by_route.items():
        data["virtual_servers"][name]["typed_per_filter_config"] = configs
    return data


def _several(reading: Reading, routes: Sequence[AttachedRoute], listeners: Listeners | None) -> dict[str, Any]:
    servers: dict[str, Any] = {}
    described: list[tuple[AttachedRoute, dict[str, Any]]] = []
    for route in routes:
        own = _servers(reading, route)
        servers |= own
        reading.comes_from(route.at, route.document, [])
        virtual = {
            **_match(reading, route),
            "servers": dict.fromkeys(own, "all"),
            **_secured(reading, route),
        }
        described.append((route, virtual))
    ordered = {route.at[-1]: virtual for route, virtual in in_order(reading, described)}
    data: dict[str, Any] = {"servers": servers, "virtual_servers": ordered, "main_endpoint": False}
    if listeners is not None:
        data["listen"] = at_listeners(reading, listeners.gateway, listeners.numbers)
    return data


def _secured(reading: Reading, route: AttachedRoute) -> dict[str, Any]:
    sections = (("authentication", authentication), ("authorization", authorization))
    return {key: found for key, section in sections if (found := section(reading, route)) is not None}


# -- Several routes -----------------------------------------------------------------------------------------------------


def _is_chosen(route: Document, hosts: Hosts) -> bool:
    """Whether more than its path chooses a route."""
    return bool(route.object.spec.headers) or any(name.startswith("*") for name in hosts.names)


def _attached(reading: Reading, documents: Sequence[Document], hosts: Sequence[Hosts]) -> Iterator[AttachedRoute]:
    called = [Called(one.name, one.namespace, one, ["metadata", "name"]) for one in documents]
    names = given_names(reading, called)
    backends = [
        Called(backend.name, name, one, ["spec", "backendRefs", index, "name"])
        for one, name in zip(documents, names, strict=True)
        for index, backend in enumerate(one.object.spec.backend_refs)
    ]
    servers = iter(given_names(reading, backends))
    for one, name, reached in zip(documents, names, hosts, strict=True):
        own = {backend: next(servers) for backend in _own_names(one)}
        yield AttachedRoute(one, ("virtual_servers", name), own, reached)


def _own_names(route: Document) -> dict[str, str]:
    return {backend.name: backend.name for backend in route.object.spec.backend_refs}


def _match(reading: Reading, route: AttachedRoute) -> dict[str, Any]:
    """The keys that say which requests are a virtual server's."""
    spec, hosts = route.spec, route.hosts
    for ours, theirs in (("path", "path"), ("headers", "headers")):
        reading.comes_from([*route.at, ours], route.document, ["spec", theirs])
    reading.comes_from([*route.at, "hosts"], hosts.document, hosts.path)
    headers = {header.name: _wanted(reading, route, index) for index, header in enumerate(spec.headers)}
    named: dict[str, Any] = {"hosts": list(hosts.names)} if hosts.names else {}
    return {"path": spec.path} | named | ({"headers": headers} if headers else {})


def _wanted(reading: Reading, route: AttachedRoute, index: int) -> str | dict[str, str]:
    header = route.spec.headers[index]
    if header.type == "Exact":
        return header.value
    try:
        # By itself: what stands around it below could close a group of it.
        matcher(header.value)
    except ValueError as error:
        reading.refuse(route.document, ["spec", "headers", index, "value"], str(error))
    # For the whole value, as in Envoy.
    return {"regex": f"^(?:{header.value})$"}


# -- Where clients connect ----------------------------------------------------------------------------------------------


def _alone(reading: Reading, route: AttachedRoute, listeners: Listeners | None) -> dict[str, Any]:
    """The section ``listen`` for the only route."""
    found: dict[str, Any] = {"path": route.spec.path} if route.spec.path != "/mcp" else {}
    reading.comes_from(["listen", "path"], route.document, ["spec", "path"])
    if listeners is not None:
        found |= at_listeners(reading, listeners.gateway, listeners.numbers)
    reading.comes_from(["listen", "allowed_hosts"], route.hosts.document, route.hosts.path)
    if route.hosts.names:
        found["allowed_hosts"] = list(route.hosts.names)
    return {"listen": found} if found else {}


# -- Servers ------------------------------------------------------------------------------------------------------------


def _servers(reading: Reading, attached: AttachedRoute) -> dict[str, Any]:
    found = {}
    route = attached.document
    for index, reference in enumerate(attached.spec.backend_refs):
        path: FieldPath = ["spec", "backendRefs", index]
        server, name = _server(reading, attached, path, reference), attached.servers[reference.name]
        if server is not None:
            found[name] = server if name == reference.name else server | {"prefix": reference.name}
            reading.comes_from(["servers", name], route, path)
            reading.comes_from(["servers", name, "tools"], route, [*path, "toolSelector"])
            for key in server.get("tools", ()):
                reading.comes_from(["servers", name, "tools", key], route, [*path, "toolSelector", key])
            reading.comes_from(["servers", name, "headers"], route, [*path, "securityPolicy", "apiKey"])
    return found


def _server(reading: Reading, attached: AttachedRoute, path: FieldPath, reference: BackendRef) -> dict[str, Any] | None:
    route = attached.document
    target = Reference(name=reference.name, group=reference.group, kind=reference.kind, namespace=reference.namespace)
    place = place_of(reading, route, path, target, reference.port)
    of_callers = _of_callers(reading, attached, path, reference)
    credential = _credential(reading, route, path, reference)
    tools = _tools(reading, route, path, reference)
    if place is None:
        return None
    query = "" if credential is None or credential[0] != "query" else credential[1]
    found = place.server(_with_query(reference.path or "/", query))
    if credential is not None and credential[0] == "headers":
        found["headers"] = {credential[1]: credential[2]}
    if of_callers:
        found["credentials"] = of_callers
    return found | ({"tools": tools} if tools else {})


_POLICY: Final = ("spec", "securityPolicy")


def _of_callers(
    reading: Reading, route: AttachedRoute, path: FieldPath, reference: BackendRef
) -> dict[str, list[dict[str, str]]]:
    """What the server gets of each caller. What the route's policy says of it is for all of its servers."""
    forward: list[tuple[dict[str, str], FieldPath]] = [
        ({"name": one.name} | ({} if one.backend_header is None else {"as": one.backend_header}), at)
        for one, at in ((one, [*path, "forwardHeaders", index]) for index, one in enumerate(reference.forward_headers))
    ]
    claims: list[tuple[dict[str, str], FieldPath]] = []
    policy = route.spec.security_policy
    if policy is not None and policy.ext_auth is not None and policy.ext_auth.http is not None:
        place: FieldPath = [*_POLICY, "extAuth", "http", "headersToBackend"]
        forward += [({"name": name}, place) for name in policy.ext_auth.http.headers_to_backend]
    if policy is not None and policy.oauth is not None:
        place = [*_POLICY, "oauth", "claimToHeaders"]
        claims += [({"claim": one.claim, "header": one.header}, place) for one in policy.oauth.claim_to_headers]
    if policy is not None and policy.api_key_auth is not None and policy.api_key_auth.forward_client_id_header:
        header = policy.api_key_auth.forward_client_id_header
        claims.append(({"claim": "sub", "header": header}, [*_POLICY, "apiKeyAuth", "forwardClientIDHeader"]))
    found = {key: given for key, given in (("forward", forward), ("claims", claims)) if given}
    for key, given in found.items():
        for index, (_, at) in enumerate(given):
            native: FieldPath = ["servers", route.servers[reference.name], "credentials", key, index]
            reading.comes_from(native, route.document, at)
    return {key: [one for one, _ in given] for key, given in found.items()}


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
    key = without_line_breaks(key)
    if not key:
        reading.refuse(route, [*place, "inline"], "is empty: give a key")
    if given.header is not None and not is_header_name(given.header):
        reading.refuse(route, [*place, "header"], "expected a header's name, of letters, digits and -")
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
