"""Waiting for a gateway that starts, and how it is compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.peers.__main__ import PEERS
from bench.peers.measure import prepare
from bench.peers.peer import Peer, until, urls
from bench.peers.workshop import Workshop
from bench.systems import Running, Stage


def alive() -> None:
    """A process that has not ended."""


def test_what_fails_at_first_is_tried_again() -> None:
    tries: Iterator[bool | Exception] = iter([BenchError("not yet"), ConnectionRefusedError(), False, True])

    def ready() -> bool:
        found = next(tries)
        if isinstance(found, Exception):
            raise found
        return found

    until(ready, alive, 60)
    assert next(tries, None) is None


def test_patience_ends_with_the_last_reason() -> None:
    def ready() -> bool:
        raise BenchError("tools/list named []")

    with pytest.raises(BenchError, match=r"not ready after 0 s: tools/list named \[\]"):
        until(ready, alive, 0)


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    def ended() -> None:
        raise BenchError("it ended with status 1")

    with pytest.raises(BenchError, match="ended with status 1"):
        until(lambda: False, ended, 60)


def test_servers_are_told_apart_by_their_paths() -> None:
    assert urls(("a", "b"), 7001) == {"a": "http://127.0.0.1:7001/a", "b": "http://127.0.0.1:7001/b"}


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_names_of_tools_are_different(peer: Peer, tmp_path: Path) -> None:
    tools = ("echo", "search_records_1")
    names = peer.system(Workshop(tmp_path), tools).tools(("s1", "s2"), tools)
    assert len(set(names)) == 4


class Unbuildable(Peer):
    name, title, version, released, remark = "never", "Never", "1", "2026-01-01", ""

    def missing(self) -> str:
        return "no compiler"

    def built(self, workshop: Workshop) -> Path:
        return workshop.built("never", "1")

    def build(self, workshop: Workshop) -> None:
        raise AssertionError("without a compiler")

    def start(self, stage: Stage, built: Path) -> Running:
        raise AssertionError("without a build")


def test_a_peer_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no compiler"):
        prepare(Unbuildable(), Workshop(tmp_path))
