"""Which words of a command may be secrets: many servers take their API key, or the URL of their database, as an argument."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SHORTEST = 8
"""Shorter words are more often ordinary ones."""

_ASSIGNMENT = re.compile(r"-*[A-Za-z_][\w.-]*=(.*)", re.DOTALL)
_PATH = re.compile(r"(?:\.{0,2}|~)/")
_NAME = re.compile(r"(?:@[\w.-]+/)?[a-z][a-z_.-]*(?:(?:@|==)[\w.-]+)?")
"""Of a package, with its version; or a word. A key has digits or capitals."""


def secret_words(command: Sequence[str]) -> Iterator[str]:
    """Values among the arguments of a command: what stands behind ``=`` in an argument, or follows a long option, or reads
    like no name. Options themselves and paths are none, nor is what is shorter than eight characters.

    >>> list(secret_words(["npx", "-y", "@scope/server-x", "--api-key", "open-sesame", "--token=hush-hush", "/data/2024", "db://u:pw@h"]))
    ['open-sesame', 'hush-hush', 'db://u:pw@h']
    """
    before = ""
    for word in command[1:]:
        assigned = _ASSIGNMENT.fullmatch(word)
        value = word if assigned is None else assigned[1]
        is_named = assigned is not None or before.startswith("--")
        is_option = assigned is None and word.startswith("-")
        if (
            len(value) >= _SHORTEST
            and not is_option
            and not _PATH.match(value)
            and (is_named or not _NAME.fullmatch(value))
        ):
            yield value
        before = "" if assigned is not None else word
