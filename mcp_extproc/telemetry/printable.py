"""What strangers wrote, so that a terminal or a log shows it as what it is.

Escape sequences change a terminal, line breaks forge lines of a log, and bidirectional controls (U+202E) turn text around.
"""

from __future__ import annotations

import json


def printable(text: str) -> str:
    r"""Text on one line, with all that is not printable escaped as in JSON.

    >>> printable("a\x1b[1m\nb\u202ec é")
    'a\\u001b[1m\\nb\\u202ec é'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
