"""A store that forgets: bounded in entries and in bytes, because strangers decide what goes into it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MIB: Final = 1 << 20
"""Bytes."""

_LARGEST_SHARE = 16
"""What is larger than this part of all bytes is not kept: few such things would drive out all others."""

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(slots=True)
class Lookups:
    """How often something was looked for in a store, and found there or not."""

    hits: int = 0
    misses: int = 0


class Bounded(Generic[_K, _V]):
    """Forgets what was kept first, one by one, so that a few entries too many cost a few misses. A hit costs as much as in a
    dictionary.

    Args:
        entries: most entries.
        max_bytes: most bytes, by the sizes that whoever keeps something names.
    """

    def __init__(self, entries: int, max_bytes: int) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._values: OrderedDict[_K, _V] = OrderedDict()
        self._sizes: dict[_K, int] = {}
        self.size = 0
        """Bytes of all entries."""
        self.get = self._values.get
        """The value of a key, or ``None``. Also what another call of :meth:`keep` would replace."""

    def keep(self, key: _K, value: _V, size: int) -> None:
        """Keep a value as the newest, in place of one with the same key.

        Args:
            key: to be found by.
            value: to be kept, if it is not too large.
            size: about how many bytes both hold.
        """
        self.pop(key)
        if size > self._max_bytes // _LARGEST_SHARE:
            return
        self._values[key] = value
        self._sizes[key] = size
        self.size += size
        while len(self._values) > self._entries or self.size > self._max_bytes:
            oldest, _ = self._values.popitem(last=False)
            self.size -= self._sizes.pop(oldest)

    def pop(self, key: _K) -> _V | None:
        """Take a value out."""
        value = self._values.pop(key, None)
        self.size -= self._sizes.pop(key, 0)
        return value

    def clear(self) -> None:
        """Take all out."""
        self._values.clear()
        self._sizes.clear()
        self.size = 0

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[_K]:
        """Keys, the oldest first."""
        return iter(self._values)


class Alike:
    """Texts of which equal ones are held once, by whoever holds them: most of what requests say is what others said, too.

    Args:
        texts: most texts. With one more all are let go, as most are said again at once.
    """

    MAX_CHARS: Final = 64
    """Longest text that is looked for: of longer ones most are said by one session alone."""

    def __init__(self, texts: int = 1024) -> None:
        self._most = texts
        self._texts: dict[str, str] = {}

    def one(self, text: str) -> str:
        """The text that is held already, if one is equal."""
        known = self._texts.get(text)
        if known is not None or len(text) > self.MAX_CHARS:
            return known or text
        if len(self._texts) >= self._most:
            self._texts.clear()
        self._texts[text] = text
        return text
