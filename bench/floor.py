"""The least that a worker can do: a prototype, to see what a call costs before anything is read or decided.

    python -m bench.floor serve FILE --listen ADDRESS

is ``mcp-extproc serve`` with its transport, and with answers out of a table: of calls in one session to one tool, the first is
decided as always. The others get the same answer with another id in it, and event streams pass as they came. It works for the
calls of this benchmark alone, whose ids have the same number of digits, and checks nothing.

What the first call of each kind takes in each step is measured in between, and written to the file that
:data:`bench.steps.STEPS_VARIABLE` names, as a line of JSON.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from bench.steps import STEPS_VARIABLE, Steps
from mcp_extproc.__main__ import main
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.exchange import Exchange, Processor
from mcp_extproc.extproc.shared import Answers, Owed
from mcp_extproc.mcp import envelope
from mcp_extproc.run import worker

_REPEATED = 10
_BEST_OF = 40

_ID: Final = b'"id":'
_NAME: Final = b'"name":"'
_CALL: Final = b'"tools/call"'
_RESPONSE_HEAD, _RESPONSE_BODY = 0x1A, 0x2A
"""First bytes of a ``ProcessingRequest``."""

_number = struct.Struct("<d").pack


class Floor(Processor):
    """Makes exchanges that answer out of a table."""

    def __init__(self, *shared: Any) -> None:
        super().__init__(*shared)
        self.heads: set[bytes] = set()
        """Of calls that are known."""
        self.known: dict[tuple[bytes, bytes, int], _Template] = {}
        """By head, tool, and size of the message, which is that of calls with the same arguments."""
        self.measured: set[tuple[int, bool]] = set()

    def opener(self, metadata: Mapping[str, str]) -> Callable[[], Exchange]:
        """Of the first call of a kind it is a real one behind another."""
        return cast("Callable[[], Exchange]", partial(_FloorExchange, self, super().opener(metadata)))


class _Template:
    """An answer to calls that differ in their ids alone."""

    def __init__(self, answer: bytes, id: bytes) -> None:
        number = _number(int(id))
        self._parts = re.split(b"(%b|%b)" % (re.escape(id), re.escape(number)), answer)
        self._texts = [index for index, part in enumerate(self._parts) if part == id]
        self._numbers = [index for index, part in enumerate(self._parts) if part == number]

    def answer(self, id: bytes) -> bytes:
        """That to a call with this id."""
        parts = [*self._parts]
        for index in self._texts:
            parts[index] = id
        for index in self._numbers:
            parts[index] = _number(int(id))
        return b"".join(parts)


class _FloorExchange:
    def __init__(self, floor: Floor, real: Callable[[], Exchange]) -> None:
        self._floor = floor
        self._new_real = real
        self._head = b""
        self._is_known = False
        self._seen: list[bytes] = []

    @cached_property
    def _real(self) -> Exchange:
        return self._new_real()

    @property
    def decided(self) -> bool:
        return self._is_known or self._real.decided

    @property
    def is_over(self) -> bool:
        return False if self._is_known else self._real.is_over

    def receive(self, raw: bytes) -> Answers | Owed:
        if self._is_known:
            return [messages.READ_RESPONSE_BODY if raw[0] == _RESPONSE_HEAD else messages.GO_ON["response_body"]]
        if not self._head:
            self._head = raw
            return [] if raw in self._floor.heads else self._learned(raw)
        known = self._floor.known.get((self._head, _between(raw, _NAME, b'"'), len(raw)))
        if known is not None and raw[0] != _RESPONSE_BODY:
            self._is_known = True
            return [known.answer(_between(raw, _ID, b","))]
        return self._learned(raw)

    def _learned(self, raw: bytes) -> Answers | Owed:
        if not self._seen and raw is not self._head:
            self._seen.append(self._head)
            self._real.receive(self._head)
        self._seen.append(raw)
        answers = self._real.receive(raw)
        if _CALL in raw and isinstance(answers, list) and self._real.decided:
            name, id = _between(raw, _NAME, b'"'), _between(raw, _ID, b",")
            self._floor.heads.add(self._head)
            self._floor.known[self._head, name, len(raw)] = _Template(answers[0], id)
        return answers

    def fail(self) -> list[bytes]:
        return self._real.fail()

    def closed(self) -> None:
        if not self._is_known:
            self._real.closed()
        if _STEPS_FILE and len(self._seen) > 1 and _CALL in self._seen[1]:
            _measure(self._floor, self._seen)


def _between(text: bytes, before: bytes, behind: bytes) -> bytes:
    start = text.find(before) + len(before)
    return text[start : text.find(behind, start)]


# -- Steps ------------------------------------------------------------------------------------------------------------------


_STEPS_FILE: Final = os.environ.get(STEPS_VARIABLE, "")


def _measure(floor: Floor, seen: list[bytes]) -> None:
    head, raw, *response = seen
    kind = (len(raw).bit_length(), bool(response))
    if kind in floor.measured:
        return
    floor.measured.add(kind)
    limits, gateway, now = floor.gateway.config.limits, floor.gateway, floor.clock()
    read_head, body = messages.read_head(messages.read(head).request_headers), messages.whole_body(raw) or b""

    def read() -> None:
        envelope.check(body, limits.json_depth, limits.json_members)
        envelope.read(body)

    def exchange(*received: bytes) -> None:
        one = Processor.opener(floor, {})()
        for each in received:
            one.receive(each)
        one.closed()

    reading, decided = _best(read), _best(lambda: gateway.decide(read_head, body, now))
    answered, relayed = _best(lambda: exchange(head, raw)), _best(lambda: exchange(*seen))
    steps = Steps(
        bytes=len(body), has_response=bool(response), reading=reading, deciding=max(0.0, decided - reading),
        answering=max(0.0, answered - decided), relaying=max(0.0, relayed - answered) if response else 0.0,
    )  # fmt: skip
    with Path(_STEPS_FILE).open("ab") as file:
        file.write(msgspec.json.encode(steps) + b"\n")


def _best(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_BEST_OF):
        start = time.process_time()
        for _ in range(_REPEATED):
            work()
        best = min(best, (time.process_time() - start) / _REPEATED)
    return best


if __name__ == "__main__":
    setattr(worker, "Processor", Floor)  # noqa: B010 - a prototype: nothing else takes another processor
    main()
