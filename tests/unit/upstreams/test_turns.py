"""Turns: busy streams leave the event loop to others, and nobody is passed over."""

from __future__ import annotations

import asyncio

from mcp_extproc.upstreams.turns import _BYTES, Turns


async def _rounds(turns: Turns, size: int, tasks: int, each: int) -> tuple[int, list[int]]:
    """How often the loop came round while so many took turns, and who took them in which order."""
    order: list[int] = []

    async def take(number: int) -> None:
        for _ in range(each):
            await turns.take(size)
            order.append(number)

    work = asyncio.gather(*(take(number) for number in range(tasks)))
    rounds = 0
    while not work.done():
        await asyncio.sleep(0)
        rounds += 1
    return rounds, order


async def test_no_more_than_so_many_bytes_in_one_round() -> None:
    rounds, order = await _rounds(Turns(), _BYTES, tasks=50, each=4)
    assert len(order) == 200
    assert rounds >= 200


async def test_what_is_short_costs_something_too() -> None:
    rounds, _ = await _rounds(Turns(), 1, tasks=1, each=640)
    assert 20 <= rounds < 640


async def test_first_come_first_served() -> None:
    """The first need not wait, and is back before the others have come."""
    _, order = await _rounds(Turns(), _BYTES, tasks=3, each=3)
    assert order == [0, *[0, 1, 2] * 2, 1, 2]


async def test_who_gives_up_keeps_nobody_waiting() -> None:
    turns = Turns()
    await turns.take(_BYTES)
    waiting = [asyncio.create_task(turns.take(_BYTES)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting[1:])
    await asyncio.sleep(0)
    await turns.take(1)
