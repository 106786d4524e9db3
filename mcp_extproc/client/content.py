"""What a tool's result says to people.

Source: MCP 2025-11-25 server/tools (Tool Result).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.jsontext import Members


def texts_in(result: Members) -> Iterator[str]:
    """A text for each content block; of a result without any, what is structured of it, as JSON.

    >>> list(texts_in(jsontext.split(b'{"content":[{"type":"text","text":"hi"},{"type":"image","mimeType":"image/png"}]}')))
    ['hi', '[image, image/png]']
    """
    blocks = (jsontext.elements_of(result["content"]) if "content" in result else None) or ()
    if not blocks and "structuredContent" in result:
        yield msgspec.json.format(bytes(result["structuredContent"]), indent=2).decode()
    for raw in blocks:
        yield _text_of(jsontext.object_of(raw) or {})


def _text_of(block: Members) -> str:
    resource = jsontext.object_in(block, "resource") or {}
    for members in (block, resource):
        if (text := jsontext.text_in(members, "text")) is not None:
            return text
    known = [jsontext.text_in(members, name) for members in (block, resource) for name in ("type", "uri", "mimeType")]
    return f"[{', '.join(filter(None, known))}]"
