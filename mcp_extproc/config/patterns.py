"""Regular expressions of the configuration, matched with RE2: in time linear in the name, whatever the expression.

Python's ``re`` backtracks: an expression with two nested repetitions takes for ever on one long name, and the names are those
of servers and clients. Envoy's own matchers are RE2, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_REFERENCE = "a reference to a group; write once more what it stands for"
_INSTEAD = (
    (
        r".*\(\?<?[=!]",
        (
            "a condition on what stands before or after; exclude what must not match (`exclude`, `excludeRegex`, or a rule"
            " that denies)"
        ),
    ),
    (r".*\(\?[>(]", "an atomic or conditional group; write the cases as alternatives, as in a|b"),
    (r".*\(\?P=?$|invalid escape sequence: \\[1-9k]", _REFERENCE),
    (r".*\(\?#", "a comment; leave it out"),
    (r".*\(\?", "a kind of group or a flag that RE2 lacks; its flags are i, m and s"),
    (r"invalid escape sequence: \\Z", r"\Z; write $ or \z"),
    (r"invalid escape sequence: \\[uUN]", r"a character by its name or by \u; write it as it is, or as \x{20AC}"),
    (r"bad repetition operator", "a repetition of a repetition; write one of them, as RE2 never backtracks"),
    (r"invalid repetition size", "a number of repetitions over 1000, or out of order; write + or *"),
    (r"pattern too large", "more states than RE2 holds; write several expressions, or fewer repetitions"),
)
"""How RE2's message begins, what the expression has, and what to write instead."""

_TAKEN_LITERALLY = re.compile(r"(?<!\\)(?:\\\\)*\{(?:,\d+|\d{10,}(?:,\d*)?|\d*,\d{10,})\}")
"""A repetition to Python, and the characters as they stand to RE2."""


def matcher(pattern: str) -> Callable[[str], bool]:
    """A function that says whether an expression matches anywhere in a text.

    Raises:
        ValueError: it is no regular expression of RE2. The message does not repeat it: like any value, it may come from a
            variable.
    """
    if _TAKEN_LITERALLY.search(pattern):
        raise ValueError("not a regular expression of RE2: repetitions are {2}, {2,} or {0,2}, with at most 1000")
    # Few configurations have expressions, and the library takes two megabytes.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        # As bytes: for text, the positions of each match would be converted.
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as error:
        raise ValueError(_explained(error.args[0].decode(errors="replace"))) from None

    def matches(text: str) -> bool:
        return compiled.search(text.encode()) is not None

    return matches


def glob(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a text is as a pattern, in which ``*`` stands for any characters, also none, also ``/``,
    and all others for themselves. In time linear in the text.

    >>> [glob("file:*.md")(uri) for uri in ("file:///a/b.md", "file:///a/b.md.txt")]
    [True, False]
    """
    first, *parts = pattern.split("*")
    if not parts:
        return first.__eq__
    *middle, last = parts

    def matches(text: str) -> bool:
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches


def _explained(message: str) -> str:
    for start, has in _INSTEAD:
        if re.match(start, message):
            return f"not a regular expression of RE2: it has {has}"
    # A part of the expression stands behind the colon.
    return f"not a regular expression: {message.partition(':')[0]}"
