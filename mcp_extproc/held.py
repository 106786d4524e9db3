"""What a process holds of servers' answers, bounded in bytes, for all who ask together and for each of them. Sans-IO.

Whoever reads an answer takes bytes as they come, and gives them back once what was made of them is sent. Nobody takes more
than a share; so one client, whatever it asks for, leaves room for others. And the few bytes that others need are there also
while several clients have all they may: the last part is kept for those who hold little.

Waiting is for those who hold nothing yet (:meth:`Holding.wait`). Whoever holds something and gets no more has to give up:
if such waited for each other, all would wait until their time is up. Where what is held goes away by itself, as clients read
it, others may wait as well (:meth:`Part.wait`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self

SHARE: Final = 4
"""A holder may have a quarter of all."""

LITTLE: Final = 256
"""Only holders of less than this part of all get bytes of the last quarter."""

MAX_WAITING: Final = 1000
"""Most who wait at a time: whoever gives something back looks at all of them."""


class HeldBytes:
    """The bytes of a process.

    Args:
        most: of all together. It may change: then what is held already stays.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._by_holder: Counter[str] = Counter()
        self._waiting: dict[Waiting, None] = {}
        self._total = 0
        self._is_handing_over = False

    @property
    def share(self) -> int:
        """Most of one holder."""
        return self.most // SHARE

    @property
    def total(self) -> int:
        """Bytes that are held now."""
        return self._total

    def of(self, holder: str) -> int:
        """Bytes that one holder has now."""
        return self._by_holder.get(holder, 0)

    def holding(self, holder: str) -> Holding:
        """What is held for the sake of one request.

        Args:
            holder: who has to share with itself: all that one client asks for at a time.
        """
        return Holding(self, holder)

    def take(self, holder: str, size: int) -> bool:
        """For :class:`Holding`."""
        held = self.of(holder) + size
        room = self.most if held <= self.most // LITTLE else self.most - self.share
        if held > self.share or self._total + size > room:
            return False
        self.take_again(holder, size)
        return True

    def take_again(self, holder: str, size: int) -> None:
        """For :class:`Holding`: what it gave back, and nobody else has taken since. There may be less room than when it was
        taken first, as others have what is kept for those who hold little."""
        self._by_holder[holder] += size
        self._total += size

    def give_back(self, holder: str, size: int) -> None:
        """For :class:`Holding`."""
        self._by_holder[holder] -= size
        if not self._by_holder[holder]:
            del self._by_holder[holder]
        self._total -= size
        if not self._is_handing_over:
            self._serve()

    def _serve(self) -> None:
        # The first who came is the first who gets it; others pass who has to wait for its own share.
        for waiting in list(self._waiting):
            waiting.try_again()

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """For :class:`Part`: nobody who waits gets what is given back meanwhile."""
        self._is_handing_over = True
        try:
            yield
        finally:
            self._is_handing_over = False
            self._serve()

    def queue(self, try_: Callable[[], bool], on_there: Callable[[], object]) -> Waiting | None:
        """For :class:`Holding` and :class:`Part`: a place in the queue, unless it is too long."""
        if len(self._waiting) >= MAX_WAITING:
            return None
        waiting = Waiting(self, try_, on_there)
        self._waiting[waiting] = None
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """For :class:`Waiting`."""
        self._waiting.pop(waiting, None)


class Holding:
    """What is held for the sake of one request, until the block is left."""

    def __init__(self, bytes_: HeldBytes, holder: str) -> None:
        self._bytes = bytes_
        self._holder = holder
        self._reserved = 0
        self._used = 0
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def most(self) -> int:
        """Most that it can ever hold."""
        return self._bytes.share

    def part(self) -> Part:
        """Something whose size changes while it is held."""
        return Part(self, self._bytes)

    def reserve(self, size: int) -> bool:
        """Take bytes that parts use later; whether they are there."""
        return self._change(self._reserved + size, self._used)

    def use(self, size: int) -> bool:
        """For :class:`Part`: more bytes, or fewer where ``size`` is negative; whether they are there."""
        return self._change(self._reserved, self._used + size)

    def use_again(self, size: int) -> None:
        """For :class:`Part`: what was given back a moment ago, and nobody else has taken since."""
        self._used += size
        more = max(self._reserved, self._used) - self._taken
        if more > 0:
            self._taken += more
            self._bytes.take_again(self._holder, more)

    def _change(self, reserved: int, used: int) -> bool:
        more = max(reserved, used) - self._taken
        if more > 0 and not self._bytes.take(self._holder, more):
            return False
        self._reserved, self._used = reserved, used
        self._taken += more
        if more < 0:
            self._bytes.give_back(self._holder, -more)
        return True

    def wait(self, size: int, on_reserved: Callable[[], object]) -> Waiting | None:
        """Reserve bytes as soon as they are there; ``None`` where too many wait. Only for who holds nothing.

        Args:
            size: at most :attr:`most`.
            on_reserved: called then.
        """
        assert not self._taken, "who holds something must not wait"
        return self._bytes.queue(partial(self.reserve, size), on_reserved)

    def release(self) -> None:
        """Give everything back."""
        self._change(0, 0)


class Part:
    """Something that is held, as large as it is now."""

    def __init__(self, holding: Holding, bytes_: HeldBytes) -> None:
        self._holding = holding
        self._bytes = bytes_
        self._size = 0

    @property
    def most(self) -> int:
        """Most that it can ever hold."""
        return self._holding.most

    def keep(self, size: int) -> bool:
        """Hold so many bytes from now on; whether they are there."""
        if size == self._size:
            return True
        if not self._holding.use(size - self._size):
            return False
        self._size = size
        return True

    def take_over(self, other: Part | None, size: int) -> bool:
        """Hold so many bytes more, and the other, if there is one, that many less, or none: nobody gets them in between.
        Whether they are there; if not, nothing changes."""
        given = 0 if other is None else min(other._size, size)
        if not self._is_handed_over(other, given, size):
            return False
        self._size += size
        if other is not None:
            other._size -= given
        return True

    def _is_handed_over(self, other: Part | None, given: int, size: int) -> bool:
        if other is None or other._holding is self._holding:
            # One change of the sum: what is given needs no room of its own.
            return self._holding.use(size - given)
        with self._bytes.handing_over():
            other._holding.use(-given)
            is_there = self._holding.use(size)
            if not is_there:
                other._holding.use_again(given)
        return is_there

    def wait(self, size: int, on_kept: Callable[[], object]) -> Waiting | None:
        """Hold so many bytes as soon as they are there; ``None`` where too many wait. Only for who gives up after a while.

        Args:
            size: at most :attr:`most`.
            on_kept: called then.
        """
        return self._bytes.queue(partial(self.keep, size), on_kept)


class Waiting:
    """A place in the queue."""

    def __init__(self, bytes_: HeldBytes, try_: Callable[[], bool], on_there: Callable[[], object]) -> None:
        self._bytes = bytes_
        self._try = try_
        self._on_there = on_there

    def try_again(self) -> None:
        """Something was given back."""
        if self._try():
            self.leave()
            self._on_there()

    def leave(self) -> None:
        """Wait no more."""
        self._bytes.leave(self)
