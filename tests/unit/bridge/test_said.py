from __future__ import annotations

import pytest

from mcp_extproc.bridge.said import KEPT_LINES, LINE_CHARACTERS, LOOKED_AT_BYTES, Allowance, Said, plain
from mcp_extproc.gateway.redaction import Redactor

NO_SECRETS = Redactor([], "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("a\x07b\u202ec", "a\\u0007b\\u202ec"),
        ("\x1bcreset", "\\u001bcreset"),
    ],
)
def test_what_terminals_obey(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_of_any_length_in_any_pieces() -> None:
    said = Said(NO_SECRETS)
    assert said.feed(b"one\r\ntw") == ["one"]
    assert said.feed(b"o\n\n" + b"x" * 10_000) == ["two"]
    assert said.feed(b"x" * 100_000) == []
    assert len(said._pending) <= LOOKED_AT_BYTES
    assert said.feed(b"\nafter\n") == ["x" * LINE_CHARACTERS, "after"]
    assert said.feed(b"\xff") == []
    assert said.finish() == ["\ufffd"]


def test_no_beginning_of_a_secret_is_left_where_a_line_is_cut() -> None:
    said = Said(Redactor(["hush-" * 100], ""))
    [line] = said.feed(b"x" * (LINE_CHARACTERS - 10) + b"hush-" * 100 + b" error\n")
    assert line == "x" * (LINE_CHARACTERS - 10) + "[redacted]"
    assert "hush" not in said.reason + "".join(said.last)


def test_the_last_lines_are_kept() -> None:
    said = Said(NO_SECRETS)
    said.feed(b"".join(b"%d\n" % number for number in range(100)))
    assert list(said.last) == [str(number) for number in range(100 - KEPT_LINES, 100)]


def test_the_line_that_says_why() -> None:
    said = Said(NO_SECRETS)
    assert said.reason == ""
    said.feed(b"starting\nstopping\n")
    assert said.reason == "stopping"
    said.feed(b"ModuleNotFoundError: No module named 'x'\n" + b"  at y\n" * 50 + b"Node.js v22\n")
    assert said.reason == "ModuleNotFoundError: No module named 'x'"


def test_an_allowance() -> None:
    allowance = Allowance(0)
    taken = sum(allowance.takes(0) for _ in range(1000))
    assert taken == 20
    assert allowance.taken_left_out() == 980
    assert sum(allowance.takes(1) for _ in range(1000)) == 5
