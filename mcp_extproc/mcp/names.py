"""Names of tools (and prompts): which server a name belongs to, and how names travel in headers."""

from __future__ import annotations

import base64
from collections.abc import Mapping

MAX_NAME_CHARS = 1024
"""Longest name that is served. Names travel in metadata, headers and logs; clients stop at 64 or 128."""

_SENTINEL_START = "=?base64?"
_SENTINEL_END = "?="


class Names:
    """The prefixes of all servers. A client-visible name is prefix + separator + the server's own name.

    Args:
        prefixes: server to prefix; at most one prefix is empty. No prefix contains the separator.
        separator: text between prefix and name.
    """

    def __init__(self, prefixes: Mapping[str, str], separator: str) -> None:
        starts = {server: prefix + separator if prefix else "" for server, prefix in prefixes.items()}
        self._starts = starts
        # Longest first, so that `git_hub_` wins over `git_`; the empty prefix comes last and takes what is left.
        self._by_length = tuple(
            sorted(((start, server) for server, start in starts.items()), key=lambda s: (-len(s[0]), s))
        )

    def join(self, server: str, name: str) -> str:
        """The name that clients see.

        >>> Names({"github": "gh"}, "__").join("github", "issue_read")
        'gh__issue_read'
        """
        return self._starts[server] + name

    def split(self, name: str) -> tuple[str, str] | None:
        """The server and its own name for it, or ``None`` where no prefix matches.

        >>> Names({"github": "gh"}, "__").split("gh__issue_read")
        ('github', 'issue_read')
        """
        for start, server in self._by_length:
            if name.startswith(start) and len(name) > len(start):
                return server, name[len(start) :]
        return None


def header_value(text: str) -> str:
    """``text`` as an ``Mcp-Name`` header value.

    Visible ASCII goes as it is; anything that could break or blur a header (control characters, other alphabets, blanks at
    the edges, or what looks like the encoding itself) as Base64 of its UTF-8.

    Source: 2026-07-28 basic/transports/streamable-http, Value Encoding.

    >>> header_value("issue_read"), header_value("naïve")
    ('issue_read', '=?base64?bmHDr3Zl?=')
    """
    plain = text.isascii() and text.isprintable() and text == text.strip(" ")
    if plain and not (text.startswith(_SENTINEL_START) and text.endswith(_SENTINEL_END)):
        return text
    return _SENTINEL_START + base64.b64encode(text.encode()).decode() + _SENTINEL_END
