"""Results without what their client may not see: links to resources, and resources that stand in them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.jsontext import Members


def without_hidden(result: bytes | msgspec.Raw, may_see: Callable[[str], bool]) -> bytes | None:
    """A result without content blocks about hidden resources, or ``None`` where there are none. Of messages of a prompt, those
    that are nothing else are left out.

    Args:
        result: of a tool or a prompt, as its server wrote it.
        may_see: whether a resource may be seen, by the server's own URI.
    """
    if b"uri" not in bytes(result) and b"\\u" not in bytes(result):
        return None
    members = jsontext.object_of(result) or {}
    edited = {name: msgspec.Raw(kept) for name in _LISTS if (kept := _kept(members, name, may_see)) is not None}
    return jsontext.join({**members, **edited}) if edited else None


_LISTS = ("content", "messages")
"""Of a tool's result, its blocks; of a prompt's, messages that hold one each."""


def _kept(members: Members, name: str, may_see: Callable[[str], bool]) -> bytes | None:
    """What is left of a list, where that is less than there was."""
    elements = jsontext.elements_of(members[name]) if name in members else None
    if elements is None:
        return None
    kept = [raw for raw in elements if _is_seen(raw, may_see)]
    return None if len(kept) == len(elements) else b"[%b]" % b",".join(map(bytes, kept))


def _is_seen(raw: msgspec.Raw, may_see: Callable[[str], bool]) -> bool:
    block = jsontext.object_of(raw)
    if block is None:
        return True
    inner = jsontext.object_in(block, "content")
    if inner is not None:
        block = inner
    resource = jsontext.object_in(block, "resource") or {}
    return all(
        uri is None or may_see(uri) for uri in (jsontext.text_in(block, "uri"), jsontext.text_in(resource, "uri"))
    )
