"""An answer that passes in one step: the same bytes as one that is taken apart, whatever a server writes."""

from __future__ import annotations

import json
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_extproc.gateway.relay import responses
from mcp_extproc.gateway.relay.responses import CallResponse, Expected, Reading
from mcp_extproc.gateway.relay.server_messages import Call, Relay
from mcp_extproc.gateway.relay.usual_answer import answer_in
from tests.unit.gateway.relay.support import Rig, upstream
from tests.unit.mcp.strategies import json_texts

LINK = '{"content":[{"type":"resource_link","uri":"file:///a","name":"a"}]}'
TEXT = '{"content":[{"type":"text","text":"x"}],"isError":false}'
_RIGS = {version: Rig(version=version) for version in ("2025-11-25", "2025-03-26")}


def answer(result: str = TEXT, id: str = "1", end: str = "\n") -> bytes:
    return f'event: message{end}data: {{"jsonrpc":"2.0","id":{id},"result":{result}}}{end * 2}'.encode()


def down(expected: Expected, *pieces: bytes) -> tuple[bytes, bool]:
    reading = CallResponse(expected, Reading.EVENTS)
    shown = b"".join(reading.feed(piece, end=False).down for piece in pieces)
    has_answered = reading.has_answered
    return shown + reading.feed(b"", end=True).down, has_answered


_ids = st.sampled_from(["1", "1", "1", "2", '"1"', "1.0", "null", '"\\u0031"', "01", '"a"'])
_results = st.one_of(
    st.sampled_from([TEXT, TEXT, LINK, "{}", "[]", '{"a":1},"id":2,"b":{}', '{"é":"\\ud800"}']), json_texts
)
_more = st.sampled_from(["", "", "", '"id":2', '"method":"ping"', '"Id":1', '"error":null', '"_x":{}'])
_ends = st.sampled_from(["\n", "\n", "\r\n", "\r"])
_firsts = st.sampled_from(["", "event: message", "event:message", "event: odd", "id: 7", ": ka"])


@st.composite
def _events(draw: st.DrawFn) -> bytes:
    blank, end, first = draw(st.sampled_from(["", "", " ", "\t"])), draw(_ends), draw(_firsts)
    members = [f'"jsonrpc":{blank}"2.0"', f'"id":{blank}{draw(_ids)}', f'"result":{blank}{draw(_results)}', draw(_more)]
    body = f",{blank}".join(filter(None, draw(st.sampled_from([members, [members[2], *members[:2], members[3]]]))))
    return f"{first}{end if first else ''}data:{draw(st.sampled_from([' ', '']))}{{{body}}}{end * 2}".encode()


@st.composite
def _streams(draw: st.DrawFn) -> list[bytes]:
    stream = b"".join(draw(st.lists(st.one_of(_events(), st.just(answer())), min_size=1, max_size=3)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(stream) - 1))
        stream = stream[:at] + draw(st.binary(max_size=2)) + stream[at + 1 :]
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=2))
    return [stream[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(stream)])]


@example([answer()], "1", "tools/call", "2025-11-25")
@example([answer(LINK)], "1", "tools/call", "2025-03-26")
@example([answer(id='"1"')], '"1"', "tools/call", "2025-11-25")
@example([answer('{"a":1},"id":2,"b":{}')], "1", "x/y", "2025-11-25")
@given(
    _streams(),
    st.sampled_from(["1", "1", '"1"', '"a"']),
    st.sampled_from(["tools/call", "resources/read", "prompts/get", "x/y"]),
    st.sampled_from(sorted(_RIGS)),
)
def test_in_one_step_is_as_taken_apart(pieces: list[bytes], id: str, method: str, version: str) -> None:
    expected = _RIGS[version].response(call=Call(method, None), id=id.encode(), session=upstream(version="2025-11-25"))
    at_once = down(expected, *pieces)
    with patch.object(responses, "answer_in", lambda *_: None):
        assert down(expected, *pieces) == at_once


@pytest.mark.parametrize(
    "written",
    [
        answer(),
        answer(end="\r\n"),
        b'data: {"result":{"content":[]},"jsonrpc":"2.0","id":1}\n\n',
        b'data: {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}\n\n',
    ],
    ids=["Go", "Python", "TypeScript", "blanks"],
)
def test_what_sdks_write_is_recognised(written: bytes) -> None:
    found = answer_in(written, b"1")
    assert found is not None
    assert json.loads(found.message)["result"] == json.loads(found.result)
    with patch.object(Relay, "message", side_effect=AssertionError("taken apart")):
        assert down(Rig().response(), written) == (b"data: %b\n\n" % found.message, True)


@pytest.mark.parametrize(
    "written",
    [
        answer(id="2"),
        answer('{"a":1},"id":2,"b":{}'),
        answer("{]}"),
        answer('{"a":"x"}').replace(b"x", b"\x80"),
        answer() + answer(),
        answer()[:-1],
    ],
    ids=["another call's", "two ids", "no JSON", "no UTF-8", "two", "cut off"],
)
def test_nothing_else_is(written: bytes) -> None:
    assert answer_in(written, b"1") is None


def test_what_would_be_changed_is_taken_apart() -> None:
    rig = Rig()
    assert rig.relay.lets_pass("b", upstream(), TEXT.encode(), Call("tools/call", None))
    assert not rig.relay.lets_pass("b", upstream(), LINK.encode(), Call("tools/call", None))
    older = Rig(version="2025-03-26")
    assert not older.relay.lets_pass("b", upstream(), TEXT.encode(), Call("tools/call", None))
