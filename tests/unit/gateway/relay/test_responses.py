"""The response of a call: the same bytes for the client, however they were cut on the way."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.relay import responses
from mcp_extproc.gateway.relay.identifiers import session_checksum
from mcp_extproc.gateway.relay.responses import CallResponse, Expected, Out, Reading, ResponseHead
from mcp_extproc.gateway.relay.server_messages import ANY_TOKEN, Call
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.sse import SseEvent, SseParser, render
from tests.support.codings import CODINGS
from tests.support.passes import Passes
from tests.support.rounds import LEAST, MOST, flooded
from tests.unit.gateway.relay.support import Rig, error, notification, request, result, upstream

SSE = "text/event-stream"
JSON = "application/json"


def read(expected: Expected, *chunks: bytes, kind: str = SSE) -> Out:
    """The whole of what a response becomes."""
    response = CallResponse(expected, expected.reading("200", kind))
    outs = [*(response.feed(chunk, end=False) for chunk in chunks), response.feed(b"", end=True)]
    return Out([b"".join(out.down for out in outs)], [answer for out in outs for answer in out.up])


def events(text: bytes) -> list[SseEvent]:
    parser = SseParser(1 << 20)
    found = list(parser.feed(text))
    assert parser.finish() is None
    return [event for event in found if event != SseEvent(None)]


def event(message: Any, **more: Any) -> bytes:
    return render(SseEvent(json.dumps(message).encode(), **more))


def messages(out: Out) -> list[Any]:
    return [json.loads(found.data) for found in events(out.down) if found.data]


@pytest.mark.parametrize(
    ("status", "kind", "reads_json", "reading"),
    [
        ("200", "text/event-stream", False, Reading.EVENTS),
        ("200", "text/event-stream; charset=utf-8", True, Reading.EVENTS),
        ("200", "application/json", True, Reading.WHOLE),
        ("200", "Application/JSON; charset=utf-8", True, Reading.WHOLE),
        ("200", "application/json", False, Reading.PASS),
        ("200", "text/html", True, Reading.PASS),
        ("202", "application/json", True, Reading.PASS),
        ("404", "text/event-stream", True, Reading.PASS),
    ],
)
def test_what_is_read(status: str, kind: str, reads_json: bool, reading: Reading) -> None:
    assert Rig().response(reads_json=reads_json).reading(status, kind) is reading


LONG_STREAM = (
    "\ufeff: hi\n\nid: 1\nretry: 5\ndata:\n\n".encode()
    + event(notification("notifications/message", {"level": "error", "data": "é😀"}), id="2")
    + event(request(1, "ping"), id="3")
    + event(request("1", "roots/list"), id="4", event="odd")
    + event(notification("notifications/tools/list_changed"))
    + b"data: not json\n\n: ka\n\n"
    + event([notification("x/y"), notification("x/z"), result({"content": []})], id="5")
)


@given(st.lists(st.integers(0, len(LONG_STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_gives_the_same(cuts: list[int], end: bytes) -> None:
    stream = LONG_STREAM.replace(b"\n", end)
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(edges)]
    whole, split = read(Rig().response(), stream), read(Rig().response(), *pieces)
    assert split == whole
    assert read(Rig().response(), *(stream[i : i + 1] for i in range(len(stream)))) == whole
    assert [json.loads(up)["id"] for up in whole.up] == [1]
    methods = [message.get("method", "response") for message in messages(whole)]
    assert methods == [
        "notifications/message", "roots/list", "notifications/tools/list_changed", "x/y", "x/z", "response",
    ]  # fmt: skip


@given(st.binary(max_size=200))
def test_any_bytes_end_with_an_answer(garbage: bytes) -> None:
    for kind in (SSE, "application/json"):
        out = read(Rig().response(), garbage, kind=kind)
        found = messages(out) if kind == SSE else [json.loads(out.down)]
        assert (found[-1]["id"], found[-1]["error"]["code"]) == (1, -32603)


def test_event_ids_name_server_session_and_stream() -> None:
    rig = Rig()
    out = read(rig.response(), event(notification("x"), id="7"), event(result({})))
    first, second = events(out.down)
    assert first.id is not None
    assert first.id != "7"
    position = rig.identifiers.position("s1", first.id)
    assert position is not None
    [cursor] = position.cursors
    assert (position.method, cursor.server, cursor.event_id) == ("tools/call", "b", "7")
    assert cursor.session == session_checksum(upstream())
    assert second.id is None


@pytest.mark.parametrize("id", ["a\x01b", "a\x7f", "x" * 5000], ids=["control", "delete", "long"])
def test_event_ids_that_no_header_can_carry_are_none(id: str) -> None:
    """Nothing could ask the server to go on after them."""
    out = read(Rig().response(), event(notification("x"), id=id), event(result({})))
    assert [one.id for one in events(out.down)] == [None, None]


def test_an_array_has_its_id_at_its_end() -> None:
    """Whoever resumes after it must have seen all of it, and ids are unique."""
    found = events(read(Rig().response(), event([notification("x"), result({})], id="7")).down)
    assert [one.id is None for one in found] == [True, False]


def test_an_empty_id_forgets_the_last_one() -> None:
    out = read(Rig().response(), event(notification("x"), id="7"), b"id:\ndata:\n\n")
    assert events(out.down)[1] == SseEvent(b"", id="")
    assert messages(out)[-1]["error"]["code"] == -32603  # and so the stream can't go on


ENDS: list[tuple[bytes, str, bool]] = [
    (b"", "2025-11-25", True),
    (event(notification("x")), "2025-11-25", True),
    (event(notification("x"), id="1"), "2025-11-25", False),
    (b"id: 1\ndata:\n\n", "2025-11-25", False),
    (b"id: 1\n\n", "2025-11-25", False),
    (b"id: 1\ndata:\n\n", "2025-06-18", True),
    (event(notification("x"), id="1"), "2025-06-18", False),
    (event(request(1, "ping"), id="1"), "2025-11-25", False),
    (event(request(1, "ping"), id="1"), "2025-06-18", True),
    (b"id: " + b"x" * 600 + b"\ndata: {}\n\n", "2025-11-25", True),
]


@pytest.mark.parametrize(("stream", "version", "fails"), ENDS)
def test_the_end_without_an_answer(stream: bytes, version: str, fails: bool) -> None:
    """An error, unless the client was given an id to go on after."""
    out = read(Rig(version=version).response(id=b'"7"'), stream)
    last = [message for message in messages(out) if message.get("id") == "7"]
    assert [message["error"]["code"] for message in last] == ([-32603] if fails else [])
    assert fails or events(out.down)[-1].id


@pytest.mark.parametrize("id", [b"1", None], ids=["of this release", "of release 0.2"])
def test_not_for_a_resumed_stream(id: bytes | None) -> None:
    """The client can go on asking, after the event that it resumed after."""
    call = Call("tools/call", ANY_TOKEN)
    assert read(Rig().response(call=call, id=id), event(notification("x"))).down == event(notification("x"))


# -- Whose answer it is -------------------------------------------------------------------------------------------------

ANOTHERS: list[Any] = [
    result({}, 2), result({}, "x"), result({}, None), result({}, True), result({}, 1.5), result({}, [1]),
    {"jsonrpc": "2.0", "result": {}}, {"jsonrpc": "2.0", "id": 1, "ID": 2, "result": {}},
    {"jsonrpc": "2.0", "id": 1, "Error": {}, "result": {}}, error(-1, id=2), {"jsonrpc": "2.0", "id": 1},
]  # fmt: skip


@pytest.mark.parametrize("anothers", ANOTHERS, ids=json.dumps)
@pytest.mark.parametrize("kind", ["application/json", SSE])
def test_an_answer_to_another_request_is_none(kind: str, anothers: Any) -> None:
    """Clients go by the id alone, and would take it for what another server answered."""
    body = json.dumps(anothers).encode()
    out = read(Rig().response(), event(anothers) if kind == SSE else body, kind=kind)
    [answer] = messages(out) if kind == SSE else [json.loads(out.down)]
    assert (answer["id"], answer["error"]["code"]) == (1, -32603)


@pytest.mark.parametrize("kind", ["application/json", SSE])
def test_the_answer_is_found_among_others(kind: str) -> None:
    """And the first one counts."""
    several = [result({}, 2), result({"n": 1}), result({"n": 2}), error(-1)]
    text = b"".join(map(event, several)) if kind == SSE else json.dumps(several).encode()
    out = read(Rig().response(), text, kind=kind)
    assert (messages(out) if kind == SSE else [json.loads(out.down)]) == [result({"n": 1})]
    assert not out.is_refused


@pytest.mark.parametrize(
    ("id", "answered"),
    [
        (b"1", b"1"), (b"1", b'"1"'), (b"1", b"1.0"), (b"1", b"1e0"), (b"-0", b"0"), (b'"\\u0041"', b'"A"'),
        (b"12345678901234567890123", b"12345678901234567890123"), (b'"7"', b'"mcp-extproc:7"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", [b'{"jsonrpc":"2.0","id":%b,"result":{}}', b'{ "id" : %b , "result": {} }'])
@pytest.mark.parametrize("kind", ["application/json", SSE])
def test_an_id_that_is_spelled_otherwise_is_the_same(id: bytes, answered: bytes, text: bytes, kind: str) -> None:
    """It comes back as the client wrote it, and every other byte as the server did."""
    body = text % answered
    out = read(Rig().response(id=id), b"data: " + body + b"\n\n" if kind == SSE else body, kind=kind)
    assert (events(out.down)[0].data if kind == SSE else out.down) == text % id


@pytest.mark.parametrize(
    ("id", "answered"),
    [(b'"7"', b"7"), (b'"7"', b'"7"'), (b"9007199254740993", b"9007199254740992.0"), (b"1", b"true")],
)
def test_an_id_that_only_reads_like_it_is_another(id: bytes, answered: bytes) -> None:
    """``7`` and ``"7"`` may be under way together."""
    out = read(Rig().response(id=id), b'{"id":%b,"result":{}}' % answered, kind="application/json")
    assert json.loads(out.down)["error"]["code"] == -32603


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", SSE])
def test_a_head_without_a_body_is_no_answer(kind: str) -> None:
    """Also where JSON is not read: the head is there anyway."""
    expected = Rig().response(reads_json=False)
    text = expected.without_body(ResponseHead("200", kind, has_body=False))
    assert text is not None
    answer = json.loads(text.removeprefix(b"data: "))
    assert (answer["id"], answer["error"]["code"]) == (1, -32603)
    for other in (
        ResponseHead("200", kind),
        ResponseHead("202", kind, has_body=False),
        ResponseHead("200", has_body=False),
    ):
        assert expected.without_body(other) is None


@pytest.mark.parametrize("members", [b"", b'"id":null,'])
def test_an_error_without_an_id_is_about_the_request(members: bytes) -> None:
    """As JSON-RPC has it where the server could not read the id."""
    out = read(Rig().response(), b'{%b"error":{"code":-1,"message":"no"}}' % members, kind="application/json")
    assert json.loads(out.down) == {"id": 1, "error": {"code": -1, "message": "no"}}


def test_no_second_id_is_left() -> None:
    out = read(Rig().response(), b'{"id":2,"id":1,"result":{}}', kind="application/json")
    assert out.down == b'{"id":1,"result":{}}'


def test_resumed_streams_know_whose_answer_they_carry() -> None:
    """By the event id."""
    rig = Rig()
    [first] = events(read(rig.response(id=b'"a"'), event(notification("x"), id="7")).down)
    assert first.id is not None
    position = rig.identifiers.position("s1", first.id)
    assert position is not None
    assert position.id == b'"a"'
    call = Call(position.method, ANY_TOKEN)
    out = read(rig.response(call=call, id=position.id), event(result({}, "b")) + event(result({}, "a")))
    assert messages(out) == [result({}, "a")]


# -- Compressed -----------------------------------------------------------------------------------------------------------


def decoded(encoding: str, compressed: bytes, *, kind: str = SSE, size: int = 7) -> Out:
    expected = Rig().response()
    response = CallResponse(expected, expected.reading("200", kind), encoding)
    whole = Out()
    for start in range(0, len(compressed), size):
        whole.add(response.feed(compressed[start : start + size], end=False))
    whole.add(response.feed(b"", end=True))
    return whole


@pytest.mark.parametrize("encoding", CODINGS)
@pytest.mark.parametrize("size", [1, 100_000])
def test_compressed_answers_are_read(encoding: str, size: int) -> None:
    body = json.dumps(result({"content": [{"type": "resource_link", "uri": "f:a"}]})).encode()
    json_out = decoded(encoding, CODINGS[encoding](body), kind="application/json", size=size)
    assert json.loads(json_out.down)["result"]["content"][0]["uri"] == "bee+f:a"
    out = decoded(encoding, CODINGS[encoding](LONG_STREAM), size=size)
    assert messages(out)[-1] == result({"content": []})
    assert [json.loads(up)["id"] for up in out.up] == [1]


@pytest.mark.parametrize("kind", ["application/json", SSE])
@pytest.mark.parametrize(("encoding", "says"), [
    ("compress", "not supported"), ("gzip, gzip", "not supported"), ("gzip", "not what gzip makes"), ("zstd", "not what"),
    ("br", "not what br makes"),
])  # fmt: skip
def test_what_can_not_be_decompressed_is_an_error(kind: str, encoding: str, says: str) -> None:
    out = decoded(encoding, b"data: {}\n\n" * 3, kind=kind, size=100)
    [answer] = messages(out) if kind == SSE else [json.loads(out.down)]
    assert (answer["id"], answer["error"]["code"]) == (1, -32603)
    assert says in answer["error"]["message"]


@pytest.mark.parametrize("kind", ["application/json", SSE])
def test_a_compressed_answer_that_is_cut_off_is_an_error(kind: str) -> None:
    out = decoded("gzip", gzip.compress(event(notification("x")) * 100)[:-12], kind=kind)
    answer = messages(out)[-1] if kind == SSE else json.loads(out.down)
    assert "is cut off" in answer["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_bomb_does_not_go_off(encoding: str) -> None:
    """Neither is it held, nor does it reach the client."""
    blank = CODINGS[encoding](b" " * 10_000_000)
    out = decoded(encoding, blank, kind="application/json", size=1 << 20)
    assert "limits.response_bytes" in json.loads(out.down)["error"]["message"]
    events_of_it = CODINGS[encoding](event(notification("x")) * 100_000)
    out = decoded(encoding, events_of_it, size=1 << 20)
    assert "too large when it is decompressed" in messages(out)[-1]["error"]["message"]
    assert len(out.down) <= 2 * ((1 << 20) + 100 * len(events_of_it))


def test_what_a_decompressor_takes_counts_as_held() -> None:
    response = CallResponse(Rig().response(), Reading.EVENTS, "br")
    assert response.held == 0
    response.feed(CODINGS["br"](LONG_STREAM)[:20], end=False)
    assert response.held >= 16 << 20
    response.give_up()
    assert response.held == 0


def test_priming_for_new_clients_only() -> None:
    prime = b"id: 1\nretry: 10\ndata:\n\n"
    [found] = events(read(Rig().response(), prime).down)
    assert (found.data, found.retry) == (b"", 10)
    assert found.id
    for version in ("2025-03-26", "2025-06-18"):
        response = CallResponse(Rig(version=version).response(), Reading.EVENTS)
        assert response.feed(prime, end=False).down == b":\n\n"


def test_comments_pass() -> None:
    for version in ("2025-03-26", "2025-11-25"):
        response = CallResponse(Rig(version=version).response(), Reading.EVENTS)
        assert response.feed(b": ka\n\n", end=False).down == b":\n\n"


def test_an_event_over_the_limit() -> None:
    small = event(notification("x"))
    for after in (b"data: " + b"x" * 300, b"data: " + b"x" * 300 + b"\n\n" + event(result({}))):
        out = read(Rig().response(event_bytes=200), small + after, event(result({})))
        assert [message.get("method", message.get("error", {}).get("code")) for message in messages(out)] == [
            "x",
            -32603,
        ]
        assert "limits.event_bytes" in messages(out)[1]["error"]["message"]


def test_nothing_is_said_twice_once_the_answer_is_out() -> None:
    out = read(Rig().response(event_bytes=200), event(result({})), b"data: " + b"x" * 300)
    assert messages(out) == [result({})]


def test_the_blank_line_that_servers_forget() -> None:
    assert messages(read(Rig().response(), event(result({})).rstrip(b"\n"))) == [result({})]


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_json_is_read_when_complete(pieces: int) -> None:
    """Also if nothing says so, as where trailers follow."""
    body = json.dumps(result({"content": [{"type": "resource_link", "uri": "f:a"}]})).encode()
    size = max(1, len(body) // pieces)
    response = CallResponse(Rig().response(), Reading.WHOLE)
    *others, last = [response.feed(body[start : start + size], end=False) for start in range(0, len(body), size)]
    assert others == [Out() for _ in others]
    assert json.loads(last.down)["result"]["content"][0]["uri"] == "bee+f:a"
    assert response.is_complete
    assert response.feed(b"", end=True) == Out()


def test_json_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece looks like the last one, and trying takes as long as what came so far is large. The last one is found all
    the same."""
    tried, is_json = [0], jsontext.is_json

    def counted(text: bytes | bytearray) -> bool:
        tried[0] += 1
        return is_json(text)

    monkeypatch.setattr(jsontext, "is_json", counted)
    response = CallResponse(Rig().response(), Reading.WHOLE)
    pieces = [b'{"jsonrpc":"2.0","id":1,"result":{"a":[{}', *(b',"}{",{}' for _ in range(20)), b"]}}"]
    *others, last = [response.feed(piece, end=False) for piece in pieces]
    assert others == [Out() for _ in others]
    assert tried == [8]
    assert json.loads(last.down)["result"] == {"a": [{}, *["}{", {}] * 20]}
    assert response.feed(b"", end=True) == Out()


def test_json_over_the_limit() -> None:
    out = read(Rig().response(response_bytes=100), b"x" * 60, b"x" * 60, kind="application/json")
    answer = json.loads(out.down)
    assert (answer["id"], answer["error"]["code"]) == (1, -32603)
    assert "limits.response_bytes" in answer["error"]["message"]


@flooded
def test_others_have_their_turn_while_a_server_floods(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, feed = [0], SseParser.feed

    def counted(parser: SseParser, chunk: bytes) -> Iterator[SseEvent]:
        parsed[-1] += chunk.count(b"\n")
        return feed(parser, chunk)

    monkeypatch.setattr(SseParser, "feed", counted)
    for _ in CallResponse(Rig().response(), Reading.EVENTS).feeding(flood, end=True):
        parsed.append(0)
    assert sum(parsed) >= LEAST
    assert max(parsed) <= MOST


class Piece(bytes):
    """Fails where it is put behind what came before."""

    def __radd__(self, before: bytes) -> bytes:
        raise AssertionError(f"{len(before)} bytes are copied")


def test_no_event_copies_what_came_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are thousands in a chunk, and an id of one byte is sealed in a hundred."""
    monkeypatch.setattr(responses, "render", lambda event: Piece(render(event)))
    out = CallResponse(Rig().response(), Reading.EVENTS).feed(b"id:1\n\n" * 100 + event(result({})), end=True)
    assert len(events(out.down)) == 101


def test_usual_chunks_are_read_at_once() -> None:
    """Large ones too, if their lines are long."""
    reading = CallResponse(Rig().response(), Reading.EVENTS).feeding(event("x" * 60_000) + event({}), end=False)
    with pytest.raises(StopIteration):
        next(reading)


@pytest.mark.parametrize("kind", ["application/json", SSE])
def test_more_members_than_may_be_read(kind: str) -> None:
    """Commas of its texts are none."""
    expected = Rig().response(json_members=2000)
    many = result({"content": [{"type": "text", "text": "a,b,[" * 2000, "n": [1] * 2000}]})
    fewer = result({"content": [{"type": "text", "text": "a,b,[" * 2000, "n": [1] * 1900}]})
    for message, passes in ((many, False), (fewer, True)):
        body = json.dumps(message).encode()
        text = b"data: " + body + b"\n\n" if kind == SSE else body
        out = read(expected, *(text[start : start + 1000] for start in range(0, len(text), 1000)), kind=kind)
        [answer] = messages(out) if kind == SSE else [json.loads(out.down)]
        if passes:
            assert answer == message
        else:
            assert (answer["id"], answer["error"]["code"]) == (1, -32603)
            assert "more than 2000 members (limits.json_members)" in answer["error"]["message"]


@pytest.mark.parametrize(
    "value",
    [
        {"content": [{"type": "resource_link", "uri": "ant+f:a"}] * 10_001},
        {"content": [{"type": "resource_link", "uri": "ant+f:a", **{f"k{n}": 1 for n in range(1000)}}]},
        {"content": [], "_meta": {"ui": {"resourceUri": "ui:a"}, **{f"k{n}": 1 for n in range(1000)}}},
    ],
    ids=["blocks", "members of a block", "members of _meta"],
)
def test_what_has_too_many_members_to_be_taken_apart_does_not_pass(value: Any) -> None:
    """Unread, it could hold another server's URIs."""
    out = read(Rig().response(), json.dumps(result(value)).encode(), kind="application/json")
    assert json.loads(out.down)["error"]["code"] == -32603


def test_nothing_is_held_of_what_is_given_up() -> None:
    response = CallResponse(Rig().response(), Reading.WHOLE)
    response.feed(b"{" * 1000, end=False)
    assert response.held == 1000
    assert response.give_up() == Out()
    refused = response.feed(b"{" * 1000, end=False)
    assert response.held == 0
    assert "limits.held_bytes" in json.loads(refused.down)["error"]["message"]
    assert response.feed(b"", end=True) == Out()


def test_json_arrays() -> None:
    body = json.dumps([notification("x"), request(1, "ping"), result({"a": 1})]).encode()
    out = read(Rig().response(), body, kind="application/json")
    assert json.loads(out.down) == result({"a": 1})
    assert [json.loads(up)["result"] for up in out.up] == [{}]


def test_uris_go_by_the_method_of_the_call() -> None:
    body = json.dumps(result({"contents": [{"uri": "f:a"}]})).encode()
    changed = read(Rig().response(call=Call("resources/read", None)), body, kind="application/json")
    assert json.loads(changed.down)["result"]["contents"] == [{"uri": "bee+f:a"}]
    assert read(Rig().response(call=Call("completion/complete", None)), body, kind="application/json").down == body


@pytest.mark.parametrize("as_event", [False, True], ids=["json", "event"])
def test_no_slice_of_a_large_answer_is_more_than_one_pass_over_it(
    as_event: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others run in between."""
    rig, link = Rig(), {"type": "resource_link", "name": "x", "uri": "file:///x"}
    message = result({"content": [link, {"type": "text", "text": "x," * 200_000}]})
    text = event(message) if as_event else json.dumps(message).encode()
    expected = rig.response(event_bytes=1 << 20)
    response = CallResponse(expected, expected.reading("200", SSE if as_event else "application/json"))
    out, slices = (passes := Passes(monkeypatch)).in_slices(response.feeding(text, end=True))
    assert b"x,x,x," in out.down
    assert passes.tokenized > 1.9 * len(text)
    assert max(slices) <= 1.01 * len(text), "a large part of it, and small ones"


def test_an_array_of_many_elements_is_adapted_in_slices() -> None:
    rig = Rig()
    link = {"type": "resource_link", "name": "x" * 40, "uri": "file:///x"}
    text = json.dumps(result({"content": [link] * 9_000})).encode()
    expected = rig.response()
    response = CallResponse(expected, expected.reading("200", "application/json"))
    assert sum(1 for _ in response.feeding(text, end=True)) > 9


def test_a_member_too_many_is_one_wherever_the_body_is_cut() -> None:
    """Pieces of fewer bytes than there may be members are looked at once there are more."""
    text = json.dumps(result({"content": [1] * 1_000}), separators=(",", ":")).encode()
    scan = jsontext.Scan(len(text))
    scan.feed(text)
    for spare in (0, -1):
        expected = Rig().response(json_members=scan.members + spare)
        out = read(expected, *(text[at : at + 700] for at in range(0, len(text), 700)), kind=JSON)
        assert ("result" in json.loads(out.down)) == (spare == 0)


def test_commas_in_strings_are_no_members() -> None:
    """They are counted first, as it is cheap; where there are many, members are."""
    text = json.dumps(result({"content": [{"type": "text", "text": "," * 5_000}]})).encode()
    whole = read(
        Rig().response(json_members=1000), *(text[at : at + 700] for at in range(0, len(text), 700)), kind=JSON
    )
    assert "result" in json.loads(whole.down)
    many = json.dumps(result({"content": [], "x": [1] * 1_000, "y": "," * 5_000})).encode()
    refused = read(
        Rig().response(json_members=1000), *(many[at : at + 700] for at in range(0, len(many), 700)), kind=JSON
    )
    assert "members" in json.loads(refused.down)["error"]["message"]
