"""API keys of clients: what a name and a key may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Keys = Mapping[str, tuple[str, ...]]
"""The keys of each name."""

KeysByFile = Mapping[str, Keys]
"""The keys of each file, by its path as it is configured."""

NO_KEYS: Final[KeysByFile] = {}

_NAME = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
"""What can stand in a header, a query and a cookie alike (RFC 9110 section 11.2, token68)."""


def key_problems(keys: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """What is wrong with keys, each with the number of its entry. Neither name nor key is shown: whoever has exchanged the two
    would find a key in the log."""
    seen: dict[str, int] = {}
    for number, (name, own) in enumerate(keys.items(), 1):
        for problem in _problems(name, own, seen):
            yield f"entry {number}: {problem}"
        seen |= {key: number for key in own if isinstance(key, str)}


def _problems(name: str, keys: tuple[Any, ...], seen: Mapping[str, int]) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield "expected a name of up to 256 visible ASCII characters"
    elif not keys:
        yield "there is no key: leave the name out"
    elif not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
        yield "expected a key of 16 to 512 letters, digits and characters of ._~+/=-, in quotes if it is a number"
    elif len(set(keys)) != len(keys):
        yield "a key is listed twice"
    elif shared := [seen[key] for key in keys if key in seen]:
        yield f"entry {shared[0]} has the same key, so that it is not clear who calls"
