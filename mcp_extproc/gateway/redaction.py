"""Configured secrets in what a server writes: some servers repeat the credentials that they refuse."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from mcp_extproc.secret_values import reads_like_words

REDACTED = "[redacted]"

_SHORTEST = 4
"""What is shorter keeps nothing secret, and would be found in ordinary words."""

_LONG = 8
"""From this length on a secret is found inside of words, too. A shorter one may be part of many words, and one that is a word
itself part of many names."""

_LONG_SEGMENT = 16
"""Parts of a path from this length on may be a key."""

_WORDS_OF_CREDENTIALS = 2
"""A scheme, and the credentials."""

_SCHEMES = frozenset({"apikey", "basic", "bearer", "digest", "key", "token"})


class Redactor:
    """Replaces one server's configured header values, and the parts of its path and query that may be secret.

    Args:
        values: of the configured headers.
        path: with the query.
    """

    def __init__(self, values: Iterable[str], path: str) -> None:
        secrets = {*_of_path(path), *(secret for value in values for secret in _of_value(value))}
        found = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)
        self._longest = len(found[0]) if found else 0
        self._pattern = re.compile("|".join(map(_anywhere, found))) if found else None

    def __call__(self, text: str, limit: int) -> str:
        """The first ``limit`` characters of a text without the secrets that begin in them. No more of it is looked at."""
        pieces: list[str] = []
        position = 0
        for match in self._pattern.finditer(text, 0, limit + self._longest) if self._pattern is not None else ():
            if match.start() >= limit:
                break
            pieces += text[position : match.start()], REDACTED
            position = match.end()
        return "".join([*pieces, text[position:limit]])

    def __repr__(self) -> str:
        return "Redactor(...)"


def _of_value(value: str) -> Iterator[str]:
    yield value
    words = value.split()
    # Of a sentence, only words are left that are not in all others, too.
    is_sentence = len(words) > _WORDS_OF_CREDENTIALS
    yield from (word for word in words if word.lower() not in _SCHEMES and not (is_sentence and reads_like_words(word)))
    if len(words) == 2 and words[0].lower() == "basic":
        try:
            pair = base64.b64decode(words[1], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from (pair, pair.partition(":")[2])


def _of_path(path: str) -> Iterator[str]:
    before, _, query = path.partition("?")
    parts = [part for part in before.split("/") if len(part) >= _LONG_SEGMENT]
    if query:
        parts += [query, *(pair.partition("=")[2] for pair in query.split("&"))]
    for part in parts:
        yield from (part, unquote(part))


def _anywhere(secret: str) -> str:
    text = re.escape(secret)
    if len(secret) >= _LONG:
        return text
    if reads_like_words(secret):
        # The name of a package or a file that such a word is part of does not give it away.
        return rf"(?<![\w@/-])(?<!\w\.){text}(?![\w/-]|\.\w)"
    return rf"(?<!\w){text}(?!\w)"
