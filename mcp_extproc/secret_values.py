"""Which configured values may be secret, and which are ordinary words: those have to stay readable in what servers write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_SECRETIVE: Final = re.compile(
    r"(?<!mon)(?<!hot)key(?!board|word)|(?<!max)(?<!max[_-])token(?!iz)|secret|(?<!by)(?<!com)pass(?!ive|[_-]?through)|pwd"
    r"|auth(?!or(?:s|ed|$|[^a-z]))|cred|bearer|private|cookie|session|(?<!de)(?<!as)sign(?!al)|licen[cs]e|dsn"
    r"|(?:^|[_-])(?:pw|pin|otp|code|salt|pat|sid)(?:[_-]|$)",
    re.IGNORECASE,
)
"""In names of what is secret, however it reads: not in ``AUTHOR``, ``MAX_TOKENS`` and the like."""

_WORD: Final = r"(?:[A-Z]?[a-z]+|[A-Z]+)"
_WORDS: Final = re.compile(rf"{_WORD}(?:[-_.,:/]{_WORD})*+")
_LONGEST: Final = 15
"""Of ordinary words. What is longer may be a pass phrase."""

_NUMBER: Final = re.compile(r"\d{1,5}(?:\.\d{1,3})?")
"""A port, a size, a part. Longer ones may be a code, or an account."""

_PLACE: Final = re.compile(r"(?:https?://[\w.-]+(?::\d+)?(?=/|$)|(?:\.{0,2}|~)(?=/))([\w./ -]*)")
"""A path, or a URL without a user and a query."""

_MIXED: Final = re.compile(r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[^/]{8,}")

_LONG_SEGMENT: Final = 16
"""Parts of a path from this length on may be a key, unless they are words."""


def is_named_secret(name: str) -> bool:
    """Whether the value of a variable or an option with this name is secret."""
    return _SECRETIVE.search(name) is not None


def reads_like_words(value: str) -> bool:
    """Whether a value is one or a few ordinary words: no digits, and not long.

    >>> [reads_like_words(text) for text in ("memory", "Europe/Berlin", "hunter2", "correct-horse-battery")]
    [True, True, False, False]
    """
    return len(value) <= _LONGEST and _WORDS.fullmatch(value) is not None


def secret_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """The values among these variables that may be secret: all with a name that says so, and others unless they are ordinary
    words, short numbers or places.

    >>> list(secret_variables({"TOKEN": "memory", "LEVEL": "debug", "PORT": "3000", "DATA": "/srv/data", "X": "k3y-9fA1"}))
    ['memory', 'k3y-9fA1']
    """
    return (value for name, value in variables.items() if is_named_secret(name) or not _is_ordinary(value))


def is_like_a_key(part: str) -> bool:
    """Whether a part of a path may be a key.

    >>> [is_like_a_key(part) for part in ("mcp", "model-context-protocol", "sk-1f9c0a7e55d04c")]
    [False, False, True]
    """
    return len(part) >= _LONG_SEGMENT and not all(map(reads_like_words, re.split("[-_. ]", part)))


def secret_segments(path: str) -> Iterator[str]:
    """Parts of a URL's path that may be a key: hosted servers give each customer a URL of its own. Long ones unless they are
    words, and shorter ones with digits and letters of both kinds.

    >>> list(secret_segments("/api/mcp/streamable-http-endpoint/k3y9fA1x/4f2d8c1e-77aa-4b1c-9d55-0a1b2c3d4e5f/sse"))
    ['k3y9fA1x', '4f2d8c1e-77aa-4b1c-9d55-0a1b2c3d4e5f']
    """
    return (part for part in path.split("/") if is_like_a_key(part) or _MIXED.fullmatch(part))


def _is_ordinary(value: str) -> bool:
    if not value or reads_like_words(value) or _NUMBER.fullmatch(value):
        return True
    place = _PLACE.fullmatch(value)
    return place is not None and not any(map(is_like_a_key, place[1].split("/")))
