"""Names of tools (and prompts): which server a name belongs to, and how names travel in headers."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping

MAX_NAME_CHARS = 1024
"""Longest name that is served. Names travel in metadata, headers and logs; clients stop at 64 or 128."""

_KINDS = frozenset("LMNPS")
"""First letters of the general categories of characters that are seen: letters, marks, numbers, punctuation and symbols."""

_UNSEEN = frozenset(
    chr(code)
    for start, end in (
        (0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    )
    for code in range(start, end + 1)
)  # fmt: skip
"""Letters and marks without a shape of their own (Unicode 16, Default_Ignorable_Code_Point)."""

_SENTINEL_START = "=?base64?"
_SENTINEL_END = "?="


def is_plain(text: str) -> bool:
    """Whether all readers take a name or URI for the same text.

    Some servers trim what they get, cut it at NUL or at the end of a line, or drop what has no width. They would run what a
    policy on the exact name denies. So there is no blank at either end, and in between only the space, and no character
    that can't be seen.

    >>> is_plain("git/log all"), is_plain("naïve"), is_plain(" x"), is_plain("x" + chr(0)), is_plain("a" + chr(0x200B))
    (True, True, False, False, False)
    """
    if text[:1] == " " or text[-1:] == " ":
        return False
    if text.isascii():
        return text.isprintable()
    return all(char == " " or (unicodedata.category(char)[0] in _KINDS and char not in _UNSEEN) for char in text)


def is_served(name: str) -> bool:
    """Whether a tool or prompt of this name is listed and can be called. The rule for both, and for names with prefix and
    without. It comes before everything that looks at names, expressions of the operator's included."""
    return 0 < len(name) <= MAX_NAME_CHARS and is_plain(name)


class Names:
    """What the names of all servers start with. A client-visible name is this and the server's own name.

    Args:
        starts: server to prefix and separator, or to nothing. Each that is not empty is another one.
    """

    def __init__(self, starts: Mapping[str, str]) -> None:
        self._starts = starts
        rest = [server for server, start in starts.items() if not start]
        self.sharing: frozenset[str] = frozenset(rest if len(rest) > 1 else ())
        """Servers without a prefix, where there are several: a name without one belongs to the one that alone lists it."""
        # Longest first, so that `git_hub_` wins over `git_`; the only one without a prefix comes last and takes what is left.
        self._by_length = tuple(
            sorted(
                ((start, server) for server, start in starts.items() if server not in self.sharing),
                key=lambda s: (-len(s[0]), s),
            )
        )

    def join(self, server: str, name: str) -> str:
        """The name that clients see.

        >>> Names({"github": "gh__"}).join("github", "issue_read")
        'gh__issue_read'
        """
        return self._starts[server] + name

    def split(self, name: str) -> tuple[str, str] | None:
        """The server and its own name for it, or ``None`` where no prefix matches, so that it may be one of :attr:`sharing`.

        >>> Names({"github": "gh__"}).split("gh__issue_read")
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
