"""A queue in front of an exporter."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_extproc.telemetry.collector.sender import MAX_BATCH, Sender


class Exporter:
    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.batches: list[int] = []

    def __call__(self, batch: Sequence[int]) -> bool:
        self.batches.append(len(batch))
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_everything_is_sent_in_batches() -> None:
    exporter = Exporter()
    sender: Sender[int] = Sender(exporter, 60)
    for number in range(2 * MAX_BATCH + 1):
        sender.put(number)
    await sender.flush()
    await sender.flush()
    assert exporter.batches == [MAX_BATCH, MAX_BATCH, 1]
    assert (sender.sent, sender.lost) == (2 * MAX_BATCH + 1, 0)


async def test_what_does_not_fit_is_lost() -> None:
    sender: Sender[int] = Sender(Exporter(), 60, most=3)
    for number in range(5):
        sender.put(number)
    await sender.flush()
    assert (sender.sent, sender.lost) == (3, 2)


async def test_what_does_not_arrive_is_lost() -> None:
    sender: Sender[int] = Sender(Exporter(False, OSError(), True), 60)
    for number in range(3):
        sender.put(number)
        await sender.flush()
    assert (sender.sent, sender.lost) == (1, 2)
