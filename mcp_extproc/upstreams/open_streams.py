"""How many streams clients have open at a worker, and who has to make room for one more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PART = 4
"""A principal may have this part of all. Who is not authenticated is nobody's principal."""


class TooManyStreams(Exception):
    """There is no room for one more."""


class OpenStreams:
    """All of a worker.

    Args:
        most: at a time.
        of_session: at a time of one session.
    """

    def __init__(self, most: int, of_session: int) -> None:
        self._most = most
        self._of_session = of_session
        self._sessions: dict[str, list[Callable[[], object]]] = {}
        self._principals: Counter[str] = Counter()
        self._count = 0

    @contextmanager
    def one_more(self, session: str, principal: str, end: Callable[[], object]) -> Iterator[None]:
        """A stream, for as long as it is open.

        A session that has its share has its oldest stream ended: a client that lost its connection may be back before anybody
        knows that it was lost.

        Args:
            session: whose it is.
            principal: whose the session is; empty where nobody is authenticated.
            end: ends it soon.

        Raises:
            TooManyStreams: others have them all.
        """
        mine = self._sessions.get(session, [])
        if len(mine) >= self._of_session or (mine and self._is_crowded(principal)):
            mine.pop(0)()
        elif self._is_crowded(principal):
            raise TooManyStreams
        mine = self._sessions.setdefault(session, mine)
        mine.append(end)
        self._principals[principal] += 1
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._principals[principal] -= 1
            if not self._principals[principal]:
                del self._principals[principal]
            if end in mine:
                mine.remove(end)
            if not mine and self._sessions.get(session) is mine:
                del self._sessions[session]

    def _is_crowded(self, principal: str) -> bool:
        if principal and self._principals[principal] >= max(1, self._most // _PART):
            return True
        return len(self) >= self._most

    def __len__(self) -> int:
        return self._count
