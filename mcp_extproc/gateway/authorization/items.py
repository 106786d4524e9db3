"""What rules are about: tools, prompts and resources of servers."""

from __future__ import annotations

from typing import Final, NamedTuple

from mcp_extproc.config.authorization import Kind
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.jsontext import Members


class Item(NamedTuple):
    """Something that a server offers, or may offer."""

    kind: Kind
    server: str
    name: str
    """The server's own: a name, a URI, or the text of a template of URIs."""


class Hints(NamedTuple):
    """Annotations of a tool, each as its server says, or else as the specification has it (2025-11-25 schema,
    ToolAnnotations)."""

    readOnlyHint: bool = False  # noqa: N815 - MCP's spelling
    destructiveHint: bool = True  # noqa: N815
    idempotentHint: bool = False  # noqa: N815
    openWorldHint: bool = True  # noqa: N815


DEFAULTS: Final = Hints()
"""What holds of a tool about which nothing is said, or of whose server nothing is believed."""

_BOOLEANS: Final = {b"true": True, b"false": False}


def hints_of(tool: Members) -> Hints:
    """The annotations of an entry of ``tools/list``. What is no boolean is not said."""
    said = jsontext.object_in(tool, "annotations")
    if said is None:
        return DEFAULTS
    known = {name: _BOOLEANS.get(bytes(said[name])) for name in Hints._fields if name in said}
    return DEFAULTS._replace(**{name: value for name, value in known.items() if value is not None})
