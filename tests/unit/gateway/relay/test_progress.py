"""Progress that passes many notifications at once: the same bytes as one by one, whatever a server writes."""

from __future__ import annotations

import json
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_extproc.gateway.relay import responses
from mcp_extproc.gateway.relay.progress import progress_in
from mcp_extproc.gateway.relay.responses import CallResponse, Expected, Reading
from mcp_extproc.gateway.relay.server_messages import ANY_TOKEN, Call, Relay
from tests.unit.gateway.relay.support import Rig, result
from tests.unit.mcp.strategies import scalars

TOKEN = b'"t-1"'
ROOM = 1 << 16

ANSWER = b"data: " + json.dumps(result({})).encode() + b"\n\n"


def progress(
    members: str = '"progress":3,"total":9,"message":"3 of 9"', token: str = TOKEN.decode(), end: str = "\n"
) -> bytes:
    params = f'{{"progressToken":{token},{members}}}'
    body = f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}'
    return f"event: message{end}data: {body}{end * 2}".encode()


def response(event_bytes: int = 1 << 20, json_members: int = 100_000) -> Expected:
    return Rig().response(call=Call("tools/call", TOKEN), event_bytes=event_bytes, json_members=json_members)


def down(expected: Expected, *pieces: bytes) -> bytes:
    reading = CallResponse(expected, Reading.EVENTS)
    return b"".join(reading.feed(piece, end=False).down for piece in pieces) + reading.feed(b"", end=True).down


# -- Any stream -------------------------------------------------------------------------------------------------------------

_tokens = st.sampled_from(['"t-1"', '"t-1"', '"t-1"', '"t-2"', '"t\\u002d1"', "1", "null", "{}"])
_names = st.sampled_from(["progress", "total", "message", "_meta", "progressToken", "Message"])
_values = st.one_of(
    scalars, st.sampled_from(['"é"', "01", "1.", "tru", '"a', '"\t"', '"\\x"', '"\\ud800"', "{}", "[1]"])
)
_member = st.builds('"{}":{}'.format, _names, _values)
_blank = st.sampled_from(["", "", "", " ", "\t"])


@st.composite
def _notifications(draw: st.DrawFn) -> bytes:
    blank = draw(_blank)
    token = f'"progressToken":{blank}{draw(_tokens)}'
    members = [*draw(st.lists(_member, max_size=2)), token, *draw(st.lists(_member, max_size=2))]
    method = draw(st.sampled_from(["progress", "progress", "progress", "message", "tools/list_changed", "Progress"]))
    parts = [f'"method":{blank}"notifications/{method}"', f'"params":{blank}{{{f",{blank}".join(members)}}}']
    version = draw(st.sampled_from([[], ['"jsonrpc":"2.0"'], ['"jsonrpc":"1.0"'], ['"id":5'], ['"Method":""']]))
    written = f",{blank}".join([*version, *parts] if draw(st.booleans()) else [*parts, *version])
    return _event(draw, f"{{{written}}}")


def _event(draw: st.DrawFn, body: str) -> bytes:
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    first = draw(st.sampled_from(["", "event: message", "event: message", "event:message", "event: odd", "id: 7", ":"]))
    space = draw(st.sampled_from([" ", " ", "", "  "]))
    return f"{first}{end if first else ''}data:{space}{body}{end * 2}".encode()


_others = st.sampled_from(
    [ANSWER, b": still there\n\n", b"data: no JSON\n\n", b"data: \xff\n\n", b"\n", b"\xef\xbb\xbf"]
)


@st.composite
def _streams(draw: st.DrawFn) -> list[bytes]:
    stream = b"".join(draw(st.lists(st.one_of(st.just(progress()), _notifications(), _others), max_size=6)))
    if stream and draw(st.booleans()):
        at = draw(st.integers(0, len(stream) - 1))
        stream = stream[:at] + draw(st.binary(max_size=2)) + stream[at + 1 :]
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(stream)), max_size=3))), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges)]


@example([progress(), progress(), ANSWER])
@example([progress() + progress(token='"t-2"') + progress()])
@given(_streams())
def test_at_once_is_as_one_by_one(pieces: list[bytes]) -> None:
    at_once = down(response(), *pieces)
    with patch.object(responses, "progress_in", lambda *_: None):
        assert down(response(), *pieces) == at_once


# -- What passes at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        progress(),
        progress(end="\r\n"),
        progress('"progress":0.5,"total":null'),
        progress('"message":"é \\"quoted\\"\\n","progress":-1e-3'),
        progress().removeprefix(b"event: message\n"),
        b'data: {"method":"notifications/progress","params":{"progress":1,"progressToken":"t-1"},"jsonrpc":"2.0"}\n\n',
        b'data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "t-1", "progress": 1}}\n\n',
    ],
    ids=["TypeScript", "Python", "numbers", "escapes", "nameless", "version last", "blanks"],
)
def test_what_sdks_write_is_recognised(written: bytes) -> None:
    found = progress_in(written * 3 + ANSWER, 0, ROOM, TOKEN)
    assert found is not None
    assert found.end == len(written) * 3
    with patch.object(Relay, "message", side_effect=AssertionError("taken apart")):
        reading = CallResponse(response(), Reading.EVENTS)
        assert reading.feed(written * 3, end=False).down == found.down


@pytest.mark.parametrize("token", [b'"t-2"', b"7", ANY_TOKEN])
def test_only_progress_that_the_call_waits_for(token: bytes) -> None:
    assert progress_in(progress(), 0, ROOM, token) is None


def test_what_others_may_read_otherwise_is_taken_apart() -> None:
    for members in ('"progress":1,"_meta":{}', '"progress":"\\u0041"', '"progress":1,"progressToken":"t-2"'):
        assert progress_in(progress(members), 0, ROOM, TOKEN) is None
    assert progress_in(progress('"message":"x"').replace(b"x", b"\x80"), 0, ROOM, TOKEN) is None


def test_others_have_their_turn_in_between() -> None:
    written = progress() * 2000
    reading = CallResponse(response(), Reading.EVENTS).feeding(written, end=False)
    turns = sum(1 for _ in reading)
    assert turns >= len(written) // ROOM


def test_bounds_hold() -> None:
    """An event is as large as one that was taken apart may be."""
    large = progress('"message":"%s"' % ("x" * 2000))
    for expected in (response(event_bytes=1000), response(json_members=1000)):
        with patch.object(responses, "progress_in", lambda *_: None):
            one_by_one = down(expected, large, ANSWER)
        assert down(expected, large, ANSWER) == one_by_one
    assert b"limits.event_bytes" in down(response(event_bytes=1000), large)
