"""A queue in front of an exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace

import pytest

from mcp_extproc.telemetry.collector import sender as module
from mcp_extproc.telemetry.collector.sender import MAX_BATCH, MAX_BATCH_BYTES, MAX_QUEUED_BYTES, Sender
from tests.support.waiting import eventually


class Exporter:
    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.batches: list[int] = []

    async def __call__(self, batch: Sequence[bytes]) -> bool:
        self.batches.append(len(batch))
        return self.answers.pop(0) if self.answers else True


async def test_everything_is_sent_in_batches() -> None:
    exporter = Exporter()
    sender = Sender(exporter, 60)
    for number in range(2 * MAX_BATCH + 1):
        sender.put(b"%d" % number)
    await sender.flush()
    await sender.flush()
    assert exporter.batches == [MAX_BATCH, MAX_BATCH, 1]
    assert (sender.sent, sender.lost) == (2 * MAX_BATCH + 1, 0)


async def test_what_does_not_fit_is_lost() -> None:
    sender = Sender(Exporter(), 60, most=3)
    for number in range(5):
        sender.put(b"%d" % number)
    await sender.flush()
    assert (sender.sent, sender.lost) == (3, 2)


async def test_what_does_not_arrive_is_lost() -> None:
    sender = Sender(Exporter(False, False, True), 60)
    for number in range(3):
        sender.put(b"%d" % number)
        await sender.flush()
    assert (sender.sent, sender.lost) == (1, 2)


async def test_what_is_there_is_sent_in_time_and_for_nothing_nobody_wakes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, waits = Exporter(), list[float | None]()

    def timeout(seconds: float | None) -> asyncio.Timeout:
        waits.append(seconds)
        return asyncio.timeout(0)

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(**{**vars(asyncio), "timeout": timeout}))
    one = Sender(exporter, 60)
    running = asyncio.create_task(one.run())
    for sent in (0, 1, 2):
        await eventually(lambda: len(exporter.batches) == sent, "it was sent")  # noqa: B023 - it is awaited here
        for _ in range(5):
            await asyncio.sleep(0)
        assert waits == [60] * sent
        one.put(b"1")
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_who_is_cancelled_has_lost_nothing() -> None:
    begun, sent = asyncio.Event(), list[bytes]()

    async def export(batch: Sequence[bytes]) -> bool:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        sent.extend(batch)
        return True

    sender = Sender(export, 60)
    sender.put(b"1")
    flushing = asyncio.create_task(sender.flush())
    await begun.wait()
    flushing.cancel()
    with suppress(asyncio.CancelledError):
        await flushing
    await sender.flush()
    assert (sent, sender.sent, sender.lost) == ([b"1"], 1, 0)


async def test_attack_long_items_make_no_message_that_is_refused() -> None:
    """With whatever of others would be in it."""
    sizes = []

    async def export(batch: Sequence[bytes]) -> bool:
        sizes.append(sum(map(len, batch)))
        return True

    sender = Sender(export, 60)
    for size in [*[32 << 10] * 200, MAX_BATCH_BYTES + 1, 1]:
        sender.put(bytes(size))
    await sender.flush()
    assert sender.sent == 202
    assert sorted(sizes)[-2] <= MAX_BATCH_BYTES
    assert sizes[-2:] == [MAX_BATCH_BYTES + 1, 1]


async def test_attack_long_items_take_no_more_memory() -> None:
    """While the endpoint is away."""
    sender = Sender(Exporter(), 60)
    for _ in range(2 * MAX_QUEUED_BYTES // (32 << 10)):
        sender.put(bytes(32 << 10))
    assert sender.lost == MAX_QUEUED_BYTES // (32 << 10)
    await sender.flush()
    sender.put(b"1")
    await sender.flush()
    assert sender.sent == sender.lost + 1
