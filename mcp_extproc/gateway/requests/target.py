"""Which server a request is for: one pure step from what the request names to a target, or to what is missing for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.caller import Caller
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.plans import Changes
from mcp_extproc.mcp import jsontext, methods
from mcp_extproc.mcp.envelope import Request
from mcp_extproc.mcp.errors import McpError
from mcp_extproc.mcp.methods import Handling, Method
from mcp_extproc.mcp.names import MAX_NAME_CHARS, is_served
from mcp_extproc.mcp.uris import is_readable


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request names."""

    kind: str
    """Capability whose names are meant: ``tools``, ``prompts`` or ``resources``."""
    name: str
    """Name or URI, as the client wrote it."""
    found_in: tuple[Method, ...]
    """Lists that say who has it, where it has no prefix."""
    changes: Callable[[str], Changes]
    """What has to change in ``params`` for a server that knows it under another name."""
    fact: str | None = None
    """The key of the metadata for the server's own name."""
    params: dict[str, str] | None = None
    """What is written about ``params``, where it is not what every request has."""

    def unknown(self) -> McpError:
        """The error if no server has it."""
        return _UNKNOWN[self.kind](self.name)


_UNKNOWN = {
    "tools": refusals.unknown_tool,
    "prompts": refusals.unknown_prompt,
    "resources": refusals.unknown_resource,
}


@dataclass(frozen=True, slots=True)
class Target:
    """The server, and how it knows what the request names."""

    server: str
    own: str
    """Its own name or URI."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No server has it."""

    server: str | None = None
    """Whose it would be by its prefix."""


@dataclass(frozen=True, slots=True)
class NeedsLists:
    """It has no prefix: it belongs to the server that alone lists it."""


Finding = Target | Unknown | NeedsLists


def wanted(request: Request, method: Method) -> Wanted:
    """What a request names.

    Raises:
        McpError: it names nothing.
    """
    match method.handling:
        case Handling.BY_NAME:
            return _by_name(request, method)
        case Handling.BY_URI:
            return _by_uri(request, method)
        case Handling.BY_REF:
            return _by_ref(request, method)
    raise AssertionError(f"{method.name} names nothing")


def find(caller: Caller, what: Wanted) -> Finding:
    """Look for it by its prefix."""
    return _find_uri(caller, what.name) if what.kind == "resources" else _find_name(caller, what)


def listed(what: Wanted, server: str | None) -> Target | Unknown:
    """What follows once the lists were read: ``server`` alone has it."""
    return Unknown() if server is None else Target(server, what.name)


def described(facts: RequestFacts, what: Wanted, target: Target) -> RequestFacts:
    """The facts of a request, with its target."""
    named = facts.named if what.fact is None else (what.fact, target.own)
    return facts.but(server=target.server, named=named)


# -- What is named --------------------------------------------------------------------------------------------------------


def _by_name(request: Request, method: Method) -> Wanted:
    name = request.text("name")
    if name is None:
        raise refusals.invalid_params(f"{method.name} needs params.name, a string.")

    def changes(own: str) -> Changes:
        return {} if own == name else {"name": orjson.dumps(own)}

    return Wanted(method.capability or "", name, _rows(method.found_in), changes, method.fact)


def _by_uri(request: Request, method: Method) -> Wanted:
    uri = request.text("uri")
    if uri is None:
        raise refusals.invalid_params(f"{method.name} needs params.uri, a string.")

    def changes(own: str) -> Changes:
        return {} if own == uri else {"uri": orjson.dumps(own)}

    return Wanted("resources", uri, _rows(method.found_in), changes)


def _by_ref(request: Request, method: Method) -> Wanted:
    ref = request.object("ref") or {}
    member = {"ref/prompt": "name", "ref/resource": "uri"}.get(jsontext.text_in(ref, "type") or "")
    named = None if member is None else jsontext.text_in(ref, member)
    if member is None or named is None:
        raise refusals.invalid_params(
            f"{method.name} needs params.ref, a ref/prompt with name or a ref/resource with uri."
        )

    def changes(own: str) -> Changes:
        if own == named:
            return {}
        return {"ref": jsontext.replace(bytes(request.params["ref"]), ref, member, orjson.dumps(own))}

    kind = "prompts" if member == "name" else "resources"
    params = {member: named[: MAX_NAME_CHARS + 1]}
    return Wanted(kind, named, methods.owners_of(member), changes, None, params)


def _rows(names: tuple[str, ...]) -> tuple[Method, ...]:
    return tuple(methods.REQUESTS[name] for name in names)


# -- Whose it is ------------------------------------------------------------------------------------------------------------


def _find_name(caller: Caller, what: Wanted) -> Finding:
    if not is_served(what.name):
        return Unknown()
    found = caller.catalog.resolve(what.kind, what.name)
    if found is None:
        is_listed = caller.catalog.bare_names or caller.catalog.may_be_shared(what.kind, what.name)
        return NeedsLists() if is_listed else Unknown()
    entry, own = found
    offered = caller.offered(entry.name)
    return Target(entry.name, own) if offered is None or what.kind in offered else Unknown(entry.name)


def _find_uri(caller: Caller, uri: str) -> Finding:
    if not is_readable(uri):
        return Unknown()
    found = caller.catalog.uris.split(uri)
    if found is not None:
        return Target(*found)
    return NeedsLists() if caller.catalog.uris.untouched else Unknown()
