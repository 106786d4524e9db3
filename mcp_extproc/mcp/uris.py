"""URIs of resources: which server a URI belongs to.

One rule. A server whose prefix is ``gh`` hands out ``file:///readme``; clients see ``gh+file:///readme``. An MCP Apps view
``ui://weather/now`` has to stay a ``ui:`` URI, so it becomes ``ui://gh/weather/now``. The prefix is literal text in front,
legal in a scheme (RFC 3986 section 3.1) and untouched by template expansion (RFC 6570), so the rule is the same for URIs,
for templates, and for URIs that stand in no list.

What has no word in front stays as its server wrote it, unless it reads like another server's: then it gets a word, too. So no
server can have clients read from another one.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcp_extproc.config.uri_words import scheme_word
from mcp_extproc.mcp.names import is_plain

MAX_URI_CHARS = 8 * 1024
"""Longest URI that is served. It travels in a header."""

_UI = "ui://"


def is_readable(uri: str) -> bool:
    """Whether a URI of this text is listed and can be read, as :func:`mcp_extproc.mcp.names.is_served` is for names: parsers
    of URLs drop control characters and blanks at the ends (WHATWG URL, basic URL parser)."""
    return 0 < len(uri) <= MAX_URI_CHARS and is_plain(uri)


class Uris:
    """The rule, for a set of servers.

    Args:
        words: server to the word in front of its URIs: legal at the start of a scheme, in lower case, each another one; at
            most one is empty.
        untouched: URIs stay as the servers wrote them (one server, or ``resources: unprefixed``).
    """

    def __init__(self, words: Mapping[str, str], *, untouched: bool) -> None:
        self.untouched = untouched
        self.may_change = len(words) > 1
        """Whether clients may see other URIs than servers wrote."""
        bare = [server for server, word in words.items() if not word]
        self._rest = bare[0] if bare else (next(iter(words)) if len(words) == 1 else None)
        self._words = {server: word or _free_word(server, words) for server, word in words.items()}
        self._servers = {word: server for server, word in self._words.items()}

    def visible(self, server: str, uri: str) -> str:
        """The URI (or template) that clients see. Read, it is this server's and no other's.

        >>> uris = Uris({"github": "gh", "other": ""}, untouched=False)
        >>> uris.visible("github", "file:///a"), uris.visible("other", "file:///a"), uris.visible("other", "gh+file:///a")
        ('gh+file:///a', 'file:///a', 'other+gh+file:///a')
        """
        if not self.may_change:
            return uri
        stays = self.stays(server) and self.split(uri) in (None, (server, uri))
        return uri if stays else self.prefixed(server, uri)

    def stays(self, server: str) -> bool:
        """Whether this server's URIs stay as it wrote them, unless they read like another's."""
        return self.untouched or server == self._rest

    def word(self, server: str) -> str:
        """The word that tells this server's URIs from others', where one is needed."""
        return self._words[server]

    def with_former(self, server: str, word: str, *, stays: bool) -> Uris:
        """The rule for one more server, which is not among them any more. For its own URIs alone.

        >>> Uris({"b": "b"}, untouched=True).with_former("a", "a", stays=False).visible("a", "file:///a")
        'a+file:///a'

        Args:
            server: its name.
            word: its :meth:`word` when it was.
            stays: likewise.
        """
        return Uris({**self._words, server: word}, untouched=stays)

    def prefixed(self, server: str, uri: str) -> str:
        """The URI with its server in it.

        >>> uris = Uris({"github": "gh", "other": "other"}, untouched=False)
        >>> uris.prefixed("github", "file:///a{?b}"), uris.prefixed("github", "ui://view/1")
        ('gh+file:///a{?b}', 'ui://gh/view/1')
        """
        word = self._words[server]
        if uri[: len(_UI)].lower() == _UI:
            return f"{uri[: len(_UI)]}{word}/{uri[len(_UI) :]}"
        return f"{word}+{uri}"

    def split(self, uri: str) -> tuple[str, str] | None:
        """The server and its own URI, or ``None`` where the URI names no server.

        >>> Uris({"github": "gh", "other": "other"}, untouched=False).split("GH+file:///a")
        ('github', 'file:///a')
        """
        if not self.may_change and self.untouched:
            return (self._rest, uri) if self._rest is not None else None
        if uri[: len(_UI)].lower() == _UI:
            word, slash, own = uri[len(_UI) :].partition("/")
            own = uri[: len(_UI)] + own
        else:
            word, slash, own = uri.partition("+")
        server = self._servers.get(word.lower()) if slash else None
        if server is not None:
            return server, own
        return (self._rest, uri) if self._rest is not None and not self.untouched else None


def _free_word(server: str, words: Mapping[str, str]) -> str:
    """A word for the server that has none, which is no other's."""
    word = scheme_word(server)
    while word in words.values():
        word += "-"
    return word
