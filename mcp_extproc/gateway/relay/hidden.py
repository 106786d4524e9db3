"""What servers say, without what their client may not see: links to resources, resources that stand in results, and views. And
which of their errors say that a resource is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mcp_extproc.gateway.relay.outcomes import code_of
from mcp_extproc.mcp import errors, jsontext, methods
from mcp_extproc.mcp.jsontext import Members
from mcp_extproc.mcp.methods import Handling, Method


def without_hidden(result: bytes | msgspec.Raw, may_see: Callable[[str], bool]) -> bytes | None:
    """A result without content blocks about hidden resources and without a hidden view, or ``None`` where there is nothing of
    that. Of messages of a prompt, those that are nothing else are left out.

    Args:
        result: of a tool or a prompt, as its server wrote it.
        may_see: whether a resource may be seen, by the server's own URI.
    """
    text = bytes(result)
    if not any(word in text for word in (b"uri", b"_meta", b"\\u")):
        return None
    members = jsontext.object_of(result) or {}
    edited = {name: msgspec.Raw(kept) for name in _LISTS if (kept := _kept(members, name, may_see)) is not None}
    edited |= _without_views(members, may_see)
    return jsontext.join({**members, **edited}) if edited else None


def without_hidden_view(entry: bytes, may_see: Callable[[str], bool]) -> bytes | None:
    """An entry of a list without a view that is hidden, or ``None`` where it has none.

    Args:
        entry: as its server wrote it.
        may_see: whether a resource may be seen, by the server's own URI.
    """
    if b"_meta" not in entry and b"\\u" not in entry:
        return None
    members = jsontext.object_of(entry) or {}
    edited = _without_views(members, may_see)
    return jsontext.join({**members, **edited}) if edited else None


def is_not_found(method: Method, error: msgspec.Raw) -> bool:
    """Whether a server says of a resource that it is not there.

    Args:
        method: of the request.
        error: of a response to it.
    """
    codes = _NOT_FOUND.get(method.handling)
    if codes is None:
        return False
    try:
        return code_of((jsontext.object_of(error) or {}).get("code") or b"") in codes
    except msgspec.DecodeError:
        return False


_NOT_FOUND: Final = {
    # -32602 since 2026-07-28; 0 is what the Python SDK says before its version 2.
    Handling.BY_URI: frozenset({errors.RESOURCE_NOT_FOUND, errors.INVALID_PARAMS, 0}),
    # There, arguments may be wrong as well.
    Handling.BY_REF: frozenset({errors.RESOURCE_NOT_FOUND}),
}
"""Codes by which servers say that they do not have a resource."""


_LISTS = ("content", "messages")
"""Of a tool's result, its blocks; of a prompt's, messages that hold one each."""

_INSIDE = ("content", "resource")
"""Of a message, its block; of a block, the resource that is embedded in it."""


def _kept(members: Members, name: str, may_see: Callable[[str], bool]) -> bytes | None:
    """What is left of a list, where that is less than there was."""
    elements = jsontext.elements_of(members[name]) if name in members else None
    if elements is None:
        return None
    kept = [shown for raw in elements if (shown := _shown(raw, may_see)) is not None]
    is_whole = len(kept) == len(elements) and all(one is raw for one, raw in zip(kept, elements, strict=True))
    return None if is_whole else b"[%b]" % b",".join(map(bytes, kept))


def _shown(raw: msgspec.Raw, may_see: Callable[[str], bool], inside: tuple[str, ...] = _INSIDE) -> msgspec.Raw | None:
    """A block, or a message with one, without hidden views; the same where it has none, ``None`` where it is about a hidden
    resource. ``inside``: where more may stand, one in the other."""
    block = jsontext.object_of(raw)
    if block is None:
        return raw
    uri = jsontext.text_in(block, "uri")
    if uri is not None and not may_see(uri):
        return None
    edited = _without_views(block, may_see)
    for depth, name in enumerate(inside, 1):
        if name in block:
            inner = _shown(block[name], may_see, inside[depth:])
            if inner is None:
                return None
            if inner is not block[name]:
                edited[name] = inner
    return msgspec.Raw(jsontext.join({**block, **edited})) if edited else raw


def _without_views(members: Members, may_see: Callable[[str], bool]) -> Members:
    """``_meta`` without views that are hidden, if there are any."""
    meta = jsontext.object_in(members, "_meta")
    if meta is None:
        return {}
    found = meta
    for path in methods.VIEWS:
        found = _without_view(found, path, may_see)
    return {} if found is meta else {"_meta": msgspec.Raw(jsontext.join(found))}


def _without_view(members: Members, path: tuple[str, ...], may_see: Callable[[str], bool]) -> Members:
    """The same members where there is nothing to hide."""
    name, *rest = path
    if rest:
        inner = jsontext.object_in(members, name)
        kept = None if inner is None else _without_view(inner, tuple(rest), may_see)
        return members if kept is inner or kept is None else {**members, name: msgspec.Raw(jsontext.join(kept))}
    uri = jsontext.text_in(members, name)
    return members if uri is None or may_see(uri) else {key: raw for key, raw in members.items() if key != name}
