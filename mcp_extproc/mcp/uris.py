"""URIs of resources: which server a URI belongs to.

One rule. A server whose prefix is ``gh`` hands out ``file:///readme``; clients see ``gh+file:///readme``. An MCP Apps view
``ui://weather/now`` has to stay a ``ui:`` URI, so it becomes ``ui://gh/weather/now``. The prefix is literal text in front,
legal in a scheme (RFC 3986 section 3.1) and untouched by template expansion (RFC 6570), so the rule is the same for URIs,
for templates, and for URIs that stand in no list.

What has no word in front stays as its server wrote it, unless it reads like another server's: then it gets a word, too. So no
server can have clients read from another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from mcp_extproc.config.uri_words import scheme_word
from mcp_extproc.mcp.names import is_plain

MAX_URI_CHARS = 8 * 1024
"""Longest URI that is served. It travels in a header."""

_UI = "ui://"


def is_readable(uri: str) -> bool:
    """Whether a URI of this text is listed and can be read, as :func:`mcp_extproc.mcp.names.is_served` is for names: parsers
    of URLs drop control characters and blanks at the ends (WHATWG URL, basic URL parser)."""
    return 0 < len(uri) <= MAX_URI_CHARS and is_plain(uri)


_IN_PARTS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_READ_IN_ONE_WAY: Final = re.compile(r"[a-z][a-z0-9+.-]*:(?:[\w!$&'()*+,;=:@~{}-]|/(?!\.)|(?<!/)\.)*", re.ASCII)
_ENCODED_UNRESERVED: Final = re.compile(r"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443", "ftp": ":21"}
_START: Final = re.compile(r"(?://[^/]*)?/?")
_LEGAL: Final = "%:/?#[]@!$&'()*+,;="


def resolved(uri: str) -> str:
    """The URI without segments `.` and `..`, also where they are encoded; the same text where it has none.

    >>> resolved("file:///open/../a"), resolved("file:///open%2F%2e%2E%5Ca"), resolved("file:///open/a%20b")
    ('file:///a', 'file:///a', 'file:///open/a%20b')
    """
    parts = _IN_PARTS.fullmatch(uri)
    if parts is None or not _has_dots(_with_slashes(unquote(parts[2]))):
        return uri
    return f"{parts[1]}:{_without_dots(_with_slashes(unquote(parts[2])))}{parts[3] or ''}{parts[4] or ''}"


def readings(uri: str) -> frozenset[str]:
    """The URI, and the others for which some servers take it: parsers write schemes and hosts in lower case, resolve `..`,
    decode what need not be encoded and encode what has to be, and leave fragments out (RFC 3986 section 6.2.2; WHATWG URL).
    What is done with files leaves out more: repeated slashes, a query, `localhost` (RFC 8089).

    >>> sorted(readings("FILE:///%61/../b c"))
    ['FILE:///%61/../b c', 'file:///b c', 'file:///b%20c']
    >>> readings("note://Work/1")
    frozenset({'note://Work/1'})
    """
    parts = None if _is_read_in_one_way(uri) else _IN_PARTS.fullmatch(uri)
    if parts is None:
        return frozenset((uri,))
    scheme, query, fragment = parts[1].lower(), parts[3] or "", parts[4] or ""
    found = {uri, uri.removesuffix(fragment)}
    for rest in {_ENCODED_UNRESERVED.sub(_decoded, parts[2]), unquote(parts[2])}:
        normal = f"{scheme}:{_without_dots(_as_parsed(scheme, _with_slashes(rest)))}"
        for end in {query + fragment, query, "" if scheme == "file" else query}:
            found |= {normal + end, normal + unquote(end), quote(normal + end, safe=_LEGAL)}
    return frozenset(found)


def _is_read_in_one_way(uri: str) -> bool:
    scheme = uri.partition(":")[0]
    return _READ_IN_ONE_WAY.fullmatch(uri) is not None and scheme != "file" and scheme not in _DEFAULT_PORTS


def _as_parsed(scheme: str, rest: str) -> str:
    """What stands behind a scheme, as parsers write it."""
    if scheme == "file":
        host, slash, path = rest[2:].partition("/") if rest[:2] == "//" else ("", "/", rest)
        host = "" if host.lower() == "localhost" else host.lower()
        return f"//{host}{re.sub('//+', '/', slash + path)}"
    if scheme in _DEFAULT_PORTS:
        host, _, path = rest.lstrip("/").partition("/")
        return f"//{host.lower().removesuffix(_DEFAULT_PORTS[scheme])}/{path}"
    return rest


def _with_slashes(text: str) -> str:
    return text.replace("\\", "/")


def _has_dots(path: str) -> bool:
    return not {".", ".."}.isdisjoint(path.split("/"))


def _without_dots(text: str) -> str:
    """Without segments that are dots (RFC 3986 section 5.2.4). A host stays."""
    if not _has_dots(text):
        return text
    start = _START.match(text)
    head = start[0] if start else ""
    segments = text[len(head) :].split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return head + "/".join(kept)


def _decoded(found: re.Match[str]) -> str:
    return chr(int(found[0][1:], 16))


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
