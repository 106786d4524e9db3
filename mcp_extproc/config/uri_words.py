"""Prefixes of servers as the start of a URI."""

from __future__ import annotations

import re

_NOT_IN_SCHEME = re.compile(r"[^a-z0-9.-]")


def scheme_word(prefix: str) -> str:
    """A prefix as a legal start of a scheme, in lower case: clients' URL classes put schemes into lower case.

    >>> scheme_word("GitHub_2"), scheme_word("7zip"), scheme_word("")
    ('github-2', 's-7zip', '')
    """
    word = _NOT_IN_SCHEME.sub("-", prefix.lower())
    return word if not word or word[0].isalpha() else "s-" + word
