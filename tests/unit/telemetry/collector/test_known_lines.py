"""What is made of lines is the same, whichever way they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_extproc.telemetry.collector.intake import Intake
from mcp_extproc.telemetry.collector.known_lines import KnownLines
from mcp_extproc.telemetry.collector.sender import Sender
from mcp_extproc.telemetry.collector.span_writer import SpanWriter
from mcp_extproc.telemetry.exchange import Exchange
from mcp_extproc.telemetry.records.line_reader import LineReader
from mcp_extproc.telemetry.spans import Tracing
from mcp_extproc.telemetry.totals import Family, Totals
from tests.unit.telemetry.records.test_line_reader import UNSEEN, WRITTEN, line
from tests.unit.telemetry.support import FACTS, ONWARD, PARENT, SPAN, TRACE

NOTE = "DYNAMIC_METADATA(mcp_telemetry:record)"


async def sent(_: Sequence[bytes]) -> bool:
    return True


class Collector:
    """One, and all that it has made of lines.

    Args:
        reads_all: whether each line is read as an exchange.
        on: what is on: ``metrics``, ``traces``, ``audit``, ``page``.
    """

    def __init__(self, *on: str, reads_all: bool) -> None:
        self.lines: list[bytes] = []
        self.shown: list[Exchange] = []
        self.sender = Sender(sent, 60)
        numbers = count(1)
        writer = SpanWriter(self.sender) if "traces" in on else None
        show = self.shown.append if "page" in on else None
        self.intake = Intake(
            Tracing(1, parent_based=True),
            lambda size: f"{next(numbers):0{size * 2}x}",
            take_span=None if writer is None else writer.take,
            totals=Totals(10) if "metrics" in on else None,
            take_lines=self.lines.extend if "audit" in on else None,
            show=show,
        )
        self._known = KnownLines(self.intake, writer, show, tells_records=reads_all)
        self.came = 0

    def take(self, *chunks: bytes) -> Collector:
        for chunk in chunks:
            self.came += self._known.take(chunk)
        return self

    async def made(self) -> Mapping[str, object]:
        """All of it."""
        spans: list[bytes] = []

        async def take(items: Sequence[bytes]) -> bool:
            spans.extend(items)
            return True

        self.sender._export = take
        await self.sender.flush()
        shown = [msgspec.structs.replace(each, kind=None) for each in self.shown]
        return {
            "came": self.came, "unreadable": self._known.unreadable, "lines": self.lines, "spans": b"".join(spans),
            "number of spans": self.sender.sent, "metrics": [*map(plain, self.intake.families(0.0))], "shown": shown,
        }  # fmt: skip


def plain(family: Family) -> tuple[object, ...]:
    return family.instrument.name, family.numbers, family.distributions


def note(*, kind: Sequence[object], who: str, id: str, told: str, arguments: str = "", more: str = "") -> str:
    return "\x1f".join((json.dumps(kind), who, id, told, arguments, more))


IDS = f"00-{TRACE}-{SPAN}-01,{PARENT},{ONWARD},"
BEGUN = f"{TRACE}{SPAN}{ONWARD}"
"""Of a trace that begins here."""
CALL = ["tools/call", "notes", "add", None, None, "2025-11-25", True]
USUAL: Mapping[str, Any] = {"kind": CALL, "who": '["s1","alice","https://idp"]', "id": "7", "told": IDS}

KINDS = (
    CALL, CALL, [*CALL[:6], False], ["tools/list"], ["prompts/get", "wiki", None, "sum", "e", None, True], ["made/up"],
    ["tools/call", "notes", "made-up\u00fc\n", None, None, "2025-11-25", False, "rule"], ["tools/call", None, "x"],
    ["initialize", None, None, None, None, "2025-11-25"], [*CALL, None, "consented"], [None], 7,
)  # fmt: skip
WHO = ('["s1","alice","https://idp"]', '["s2",null,null]', "[]", '["s","\u00fc\\n\\"",null]', "", "[7]", "{")
NUMBERS = (
    "7", "", '"7"', '"a-b"', '""', '"a\\u00fc"', '"\\ud800"', '"a"b', "-1", "1e3", '"a b"', "7" * 300, '"', "\u00fc",
    '"\u00fc"',
)  # fmt: skip
TOLD = (
    IDS, IDS, BEGUN, BEGUN.upper(), BEGUN[:-1], BEGUN + "0", f"00-{TRACE}-{SPAN}-01,,{ONWARD},", "-", "",
    f"00-{TRACE}-{SPAN}-00,,{ONWARD},",
    f"01-{TRACE}-{SPAN}-01,,{ONWARD},", f"00-{TRACE}-{SPAN}-01,,,", f"00-{TRACE}-{SPAN}-01,,{ONWARD},00-{TRACE}-{SPAN}-01",
    IDS.upper(), IDS.replace("a", "x"), "x", "\u00fc",
)  # fmt: skip
ARGUMENTS = ("", "hmac-sha256:0a", '{"a":"***"}', "\u00fc", "x" * 3000, '"', "a\\")
MORE = ("", "", "", '["notes__x"]', '[null,"file:///a"]', "[null,null,9.5]", '[null,null,null,"v=1"]', "{")
WORDS: Mapping[str, Sequence[str]] = {
    "START_TIME": (WRITTEN["START_TIME(%s%9f)"], "1790000000999999999", "", "x"),
    "COMMON_DURATION(DS_RX_BEG:DS_TX_END": ("30000000", "9000000000", "0", "", " 1", "-1"),
    "DURATION": ("31", ""),
    "COMMON_DURATION(DS_RX_BEG:US_TX_BEG": ("5000000", "", "0", "40000000"),
    "COMMON_DURATION(DS_RX_BEG:US_RX_END": ("25000000", "", "0"),
    "BYTES_RECEIVED": ("100", "", "1_0", "x"),
    "REQ(:METHOD)": ("POST", "GET", "DELETE", "x"),
    "RESPONSE_CODE": ("200", "503", "404", "x"),
    "UPSTREAM_REMOTE": ("10.0.0.2:8080", "", "/run/a.sock"),
    "RESP(x-mcp-error)": ("", "denied", "rate_limited", "hunter2"),
    "DOWNSTREAM_REMOTE": ("10.0.0.1:4242", "10.0.0.1:5", "/run/a.sock", "", "x" * 300),
    "REQ(X-REQUEST-ID)": ("r-1", "5f1b7fcb-d44a-4994-b21e-bbcae8715691", "", '"\\', "\xfc", "a b", "x" * 128),
    "RESPONSE_CODE_DETAILS": ("via_upstream", "rbac_access_denied_matched_policy[p]", "a\x1fb", "x" * 300, ""),
}  # fmt: skip
"""What Envoy and clients may write. The first is what they mostly do."""


def texts(*values: str) -> st.SearchStrategy[str]:
    """One of them, mostly the first."""
    return st.one_of(st.just(values[0]), st.just(values[0]), st.sampled_from(values))


notes = st.builds(
    note, kind=st.sampled_from(KINDS), who=texts(*WHO), id=texts(*NUMBERS), told=texts(*TOLD),
    arguments=texts(*ARGUMENTS), more=texts(*MORE),
)  # fmt: skip
words = st.fixed_dictionaries({name: texts(*values) for name, values in WORDS.items()})


def written(words: Mapping[str, str], note: str | None, *, outcome: str = "") -> bytes:
    known: dict[str, str] = {
        **(UNSEEN if note is None else WRITTEN),
        "DYNAMIC_METADATA(mcp_proxy:error_reason)": outcome,
    }
    if note is not None:
        known[NOTE] = note.encode().decode("latin-1")
    return line(known, **words)


torn = st.builds(lambda at, text: text[:at] + text[at + 1 :], st.integers(0, 300), st.just(written({}, note(**USUAL))))
some_lines = st.lists(
    st.one_of(
        st.builds(
            written, words, st.one_of(notes, st.just(note(**USUAL)), st.none()),
            outcome=texts("", "tool_error", "not_authorized"),
        ),
        st.binary(max_size=40).map(lambda text: text + b"\n"),
        torn,
    ),
    min_size=1, max_size=8,
)  # fmt: skip
everything = ("metrics", "traces", "audit", "page")


@given(some_lines, st.sets(st.sampled_from(everything)))
@example([written({}, note(**USUAL))], set(everything))
async def test_both_ways_give_the_same(lines: list[bytes], on: set[str]) -> None:
    """Each line comes twice: by the second time its kind is known."""
    chunk = b"".join(lines)
    made = [await Collector(*on, reads_all=each).take(chunk, chunk).made() for each in (False, True)]
    assert made[0] == made[1]


def odd_lines() -> Iterator[bytes]:
    """A usual line with one thing in it that is not usual."""
    for name, values in WORDS.items():
        yield from (written({name: value}, note(**USUAL)) for value in values)
    parts = (("kind", KINDS), ("who", WHO), ("id", NUMBERS), ("told", TOLD), ("arguments", ARGUMENTS), ("more", MORE))
    for name, found in parts:
        yield from (written({}, note(**{**USUAL, name: value})) for value in found)
    nowhere = {"COMMON_DURATION(DS_RX_BEG:US_TX_BEG": "0", "COMMON_DURATION(DS_RX_BEG:US_RX_END": "0"}
    yield written(nowhere, note(**USUAL))
    yield b"\x1d" + written({}, note(**USUAL))
    yield written({}, note(**USUAL)).replace(IDS.encode(), b"\xff")
    yield written({"RESPONSE_CODE_DETAILS": "\x1d"}, note(**USUAL))
    yield written({}, note(**{**USUAL, "kind": ["tools/list"]}))


@pytest.mark.parametrize("on", [everything[:3], ("traces",), ("metrics",)])
async def test_one_odd_thing_is_enough(on: tuple[str, ...]) -> None:
    """In a line of which all else is known, as what is odd may be after the first time."""
    for odd in odd_lines():
        chunk = written({}, note(**USUAL)) + written({"RESPONSE_CODE_DETAILS": "x" * 256}, note(**USUAL)) + odd + odd
        made = [await Collector(*on, reads_all=each).take(chunk).made() for each in (False, True)]
        assert made[0] == made[1], odd


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Lines that were read as exchanges."""
    found: list[bytes] = []
    reading = LineReader.read

    def spied(reader: LineReader, line: bytes) -> Exchange:
        found.append(line)
        return reading(reader, line)

    monkeypatch.setattr(LineReader, "read", spied)
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"id": '"5f1b7fcb-d44a-4994-b21e-bbcae8715691"'}, {"id": ""},
        {"told": BEGUN}, {"told": f"00-{TRACE}-{SPAN}-01,,{ONWARD},"}, {"told": "-"}, {"who": '["s2",null,null]'},
        {"arguments": '{"a":"***"}'}, {"arguments": "hmac-sha256:0a"},
    ],
)  # fmt: skip
async def test_of_usual_lines_only_the_first_of_a_kind_is_read(read: list[bytes], changed: Mapping[str, Any]) -> None:
    first, more = written({}, note(**USUAL)), written({}, note(**{**USUAL, **changed})) * 3
    made = await Collector("metrics", "traces", "audit", reads_all=False).take(first, more).made()
    assert len(read) == 1
    assert (made["came"], len(made["lines"])) == (4, 4)  # type: ignore[arg-type]
    assert made["number of spans"] == (2 if changed.get("told") == "-" else 8)


async def test_a_name_that_is_in_no_list_may_get_into_one(read: list[bytes]) -> None:
    """So lines with it are read each time."""
    unlisted, listed = (note(**{**USUAL, "kind": [*CALL[:6], is_listed]}) for is_listed in (False, True))
    collector = Collector("metrics", reads_all=False)
    collector.take(written({}, unlisted) * 2, written({}, listed) * 2, written({}, unlisted) * 2)
    [requests] = [each for each in collector.intake.families(0.0) if each.instrument.name == "mcp.gateway.requests"]
    assert {dict(labels)["gen_ai.tool.name"]: number for labels, number in requests.numbers.items()} == {
        "other": 2,
        "add": 4,
    }
    assert len(read) == 5


@pytest.mark.parametrize(
    ("on", "more"), [(("metrics",), 0), (("metrics", "page"), 1), (("audit",), 0), (("traces",), 0), (("page",), 1)]
)
async def test_who_looks_sees_all_of_them(read: list[bytes], on: tuple[str, ...], more: int) -> None:
    collector = Collector(*on, reads_all=False).take(written({}, note(**USUAL)) * 3)
    assert len(collector.shown) == 3 * more
    assert len(read) == 1 + 2 * more


async def test_what_nobody_takes_is_not_kept() -> None:
    """Lines where there is no file, spans where there are no traces."""
    made = await Collector("metrics", reads_all=False).take(written({}, note(**USUAL)) * 3).made()
    assert (made["lines"], made["spans"]) == ([], b"")
    assert FACTS["tool"] == CALL[2]
