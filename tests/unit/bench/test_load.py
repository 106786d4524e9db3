"""What is sent, lines as responses, wherever the pipe has cut them, and slices of a real child."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import msgspec
import pytest

from bench.clock import family
from bench.gateway import STDIO_SERVER
from bench.load import Client, Http, Lines, Load
from bench.requests import FIRST_ID, requests
from bench.slices import SERVER, Answer, Order


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_lines(size: int) -> None:
    data = b'{"id":1}\n{"id":2}\n{"id":3}\n'
    lines = Lines()
    found = [answer for start in range(0, len(data), size) for answer in lines.answers(data[start : start + size])]
    assert [answer.body for answer in found] == [b'{"id":1}', b'{"id":2}', b'{"id":3}']
    assert {answer.status for answer in found} == {200}


def slice_of(*command: str, sessions: int = 2, result: int = 0, tool: str = "echo") -> Order:
    return Order(
        port=0, command=command, sessions=({},) * sessions, kind="echo", tools=(tool,), content=0, result=result,
        warm_up=1, seconds=0.01, clocks={},
    )  # fmt: skip


def calls_of(answer: Answer) -> int:
    assert answer.failure is None
    assert answer.result is not None
    assert answer.result.cpu[SERVER] > 0
    return answer.result.calls


def test_children_serve_several_slices_and_none_is_left() -> None:
    before = set(family(os.getpid()))
    with Client() as client:
        assert calls_of(client.carry_out(slice_of(*STDIO_SERVER))) >= 2
        started = set(family(os.getpid())) - before
        assert len(started) == 2
        assert calls_of(client.carry_out(slice_of(*STDIO_SERVER, result=65_536))) >= 2
        assert set(family(os.getpid())) - before == started
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_slice_goes_on_until_it_has_enough_calls() -> None:
    with Client() as client:
        assert calls_of(client.carry_out(slice_of(*STDIO_SERVER))) >= 40


def test_but_not_forever() -> None:
    load = Load(slice_of())
    load.begin(1000.0, 0.5)
    assert load.goes_on(1000.4)
    load.latencies += [0.1] * 39
    assert load.goes_on(1000.6)
    assert not load.goes_on(1011.0)
    load.latencies.append(0.1)
    assert load.goes_on(1000.4)
    assert not load.goes_on(1000.6)


def test_a_p99_needs_a_thousand_calls() -> None:
    with Client() as client:
        few = client.carry_out(slice_of(*STDIO_SERVER, sessions=1)).result
        many = client.carry_out(msgspec.structs.replace(slice_of(*STDIO_SERVER), seconds=0.3)).result
    assert few is not None
    assert many is not None
    assert (few.p99 is None) == (few.calls < 1000)
    assert (many.p99 is None) == (many.calls < 1000)


def test_a_wrong_answer_of_a_child_is_seen() -> None:
    with Client() as client:
        answer = client.carry_out(slice_of(*STDIO_SERVER, tool="nothing"))
    assert answer.failure is not None
    assert "wrong answer" in answer.failure.error


def test_a_child_that_is_no_server_is_seen() -> None:
    with Client() as client:
        answer = client.carry_out(slice_of("true"))
    assert answer.failure is not None
    assert "initialize was answered with b''" in answer.failure.error


def test_the_credentials_of_all_connections_take_turns() -> None:
    [request] = requests(slice_of())
    credentials = itertools.cycle([b"authorization: one\r\n", b"authorization: two\r\n"])
    wires = [Http(b"mcp-session-id: %d\r\n" % number, credentials) for number in range(3)]
    heads = [wire.request(FIRST_ID, request).partition(b"\r\n\r\n")[0].split(b"\r\n")[-2:] for wire in wires]
    assert heads == [
        [b"mcp-session-id: 0", b"authorization: one"],
        [b"mcp-session-id: 1", b"authorization: two"],
        [b"mcp-session-id: 2", b"authorization: one"],
    ]
