"""What rules are about: tools, prompts and resources of servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from mcp_extproc.config.authorization import Kind
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

    def fit(self, asked: Iterable[tuple[str, bool]]) -> bool:
        """Whether they are as asked, by name."""
        return all(getattr(self, name) is value for name, value in asked)


DEFAULTS: Final = Hints()
"""What holds of a tool about which nothing is said, or of whose server nothing is believed."""


class _Said(msgspec.Struct):
    readOnlyHint: Any = None  # noqa: N815
    destructiveHint: Any = None  # noqa: N815
    idempotentHint: Any = None  # noqa: N815
    openWorldHint: Any = None  # noqa: N815


_read = msgspec.json.Decoder(_Said).decode


def hints_of(tool: Members) -> Hints:
    """The annotations of an entry of ``tools/list``. What is no boolean is not said."""
    if "annotations" not in tool:
        return DEFAULTS
    try:
        said = _read(tool["annotations"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return DEFAULTS
    # Where there are two possible values, what differs from the default is the other one.
    return Hints(
        said.readOnlyHint is True,
        said.destructiveHint is not False,
        said.idempotentHint is True,
        said.openWorldHint is not False,
    )
