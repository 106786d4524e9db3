"""What a worker holds of servers' answers, bounded in bytes, for all who ask together and for each of them. Sans-IO.

Whoever reads an answer takes bytes as they come, and gives them back once what was made of them is sent. Nobody takes more
than a share; so one client, whatever it asks for, leaves room for others. And the few bytes that others need are there also
while several clients have all they may: the last part is kept for those who hold little.

Waiting is for those who hold nothing yet (:meth:`Holding.wait`). Whoever holds something and gets no more has to give up:
if such waited for each other, all would wait until their time is up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

SHARE: Final = 4
"""A holder may have a quarter of all."""

LITTLE: Final = 256
"""Only holders of less than this part of all get bytes of the last quarter."""


class HeldBytes:
    """The bytes of a worker.

    Args:
        most: of all together.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.share = most // SHARE
        """Most of one holder."""
        self._by_holder: Counter[str] = Counter()
        self._waiting: dict[Waiting, None] = {}
        self._total = 0

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
        self._by_holder[holder] = held
        self._total += size
        return True

    def give_back(self, holder: str, size: int) -> None:
        """For :class:`Holding`."""
        self._by_holder[holder] -= size
        if not self._by_holder[holder]:
            del self._by_holder[holder]
        self._total -= size
        # The first who came is the first who gets it; others pass who has to wait for its own share.
        for waiting in list(self._waiting):
            waiting.try_again()

    def queue(self, waiting: Waiting) -> None:
        """For :class:`Holding`."""
        self._waiting[waiting] = None

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
        return Part(self)

    def reserve(self, size: int) -> bool:
        """Take bytes that parts use later; whether they are there."""
        return self._change(self._reserved + size, self._used)

    def use(self, size: int) -> bool:
        """For :class:`Part`: more bytes, or fewer where ``size`` is negative; whether they are there."""
        return self._change(self._reserved, self._used + size)

    def _change(self, reserved: int, used: int) -> bool:
        more = max(reserved, used) - self._taken
        if more > 0 and not self._bytes.take(self._holder, more):
            return False
        self._reserved, self._used = reserved, used
        self._taken += more
        if more < 0:
            self._bytes.give_back(self._holder, -more)
        return True

    def wait(self, size: int, on_reserved: Callable[[], object]) -> Waiting:
        """Reserve bytes as soon as they are there. Only for who holds nothing.

        Args:
            size: at most :attr:`most`.
            on_reserved: called then.
        """
        assert not self._taken, "who holds something must not wait"
        waiting = Waiting(self._bytes, self, size, on_reserved)
        self._bytes.queue(waiting)
        return waiting

    def release(self) -> None:
        """Give everything back."""
        self._change(0, 0)


class Part:
    """Something that is held, as large as it is now."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._size = 0

    def keep(self, size: int) -> bool:
        """Hold so many bytes from now on; whether they are there."""
        if not self._holding.use(size - self._size):
            return False
        self._size = size
        return True


class Waiting:
    """A place in the queue."""

    def __init__(self, bytes_: HeldBytes, holding: Holding, size: int, on_reserved: Callable[[], object]) -> None:
        self._bytes = bytes_
        self._holding = holding
        self._size = size
        self._on_reserved = on_reserved

    def try_again(self) -> None:
        """Something was given back."""
        if self._holding.reserve(self._size):
            self.leave()
            self._on_reserved()

    def leave(self) -> None:
        """Wait no more."""
        self._bytes.leave(self)
