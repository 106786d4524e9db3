"""Where values of a kind of exchange are added up: to find out what its labels are takes ten times as long.

What comes together is added together, series by series.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.instruments import CLIENT_DURATION, SERVER_DURATION, SESSION_DURATION
from mcp_extproc.telemetry.recordings import recordings_of
from mcp_extproc.telemetry.totals import Distribution, Number, Totals


class Cells:
    """Of all exchanges of a kind.

    Args:
        totals: has the series.
        exchange: one of them.
    """

    def __init__(self, totals: Totals, exchange: Exchange) -> None:
        self._counters: list[Number] = []
        self._server: Distribution | None = None
        self._client: Distribution | None = None
        self._session: Distribution | None = None
        for instrument, labels, _ in recordings_of(exchange):
            series = totals.series(instrument, labels)
            if isinstance(series, Number):
                self._counters.append(series)
            elif instrument is SERVER_DURATION:
                self._server = series
            elif instrument is CLIENT_DURATION:
                self._client = series
            elif instrument is SESSION_DURATION:
                self._session = series
        # Since the last time that it was settled, in nanoseconds, and ages in seconds.
        self._durations: list[int] = []
        self._at_server: list[int] = []
        self._ages: list[float] = []

    def __len__(self) -> int:
        """How many series there are."""
        others = (self._server, self._client, self._session)
        return len(self._counters) + sum(each is not None for each in others)

    def add(self, duration: int, at_server: int | None) -> bool:
        """One more, to be added to the series by :meth:`settle`. Returns whether it is the first since then.

        Args:
            duration: nanoseconds.
            at_server: nanoseconds of these that it was with a server, if it was.
        """
        durations = self._durations
        durations.append(duration)
        if at_server is not None:
            self._at_server.append(at_server)
        return len(durations) == 1

    def add_all(self, durations: Sequence[int], at_server: Sequence[int]) -> bool:
        """Some more, of which there is at least one. Returns whether they are the first since then."""
        is_first = not self._durations
        self._durations += durations
        self._at_server += at_server
        return is_first

    def end_session(self, seconds: float) -> None:
        """The one that was added ends a session of that age."""
        self._ages.append(seconds)

    def settle(self) -> None:
        """Add what has come to the series."""
        count = len(self._durations)
        for counter in self._counters:
            counter.value += count
        if self._server is not None:
            self._server.record_nanoseconds(self._durations)
        if self._client is not None and self._at_server:
            self._client.record_nanoseconds(self._at_server)
        if self._session is not None and self._ages:
            for age in self._ages:
                self._session.record(age)
        for values in (self._durations, self._at_server, self._ages):
            values.clear()
