"""A call in words: what its caller writes stays on its own lines, in quotes, visible and bounded."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.vetting import shown


def lines(arguments: Any, tool: str = "delete") -> list[str]:
    raw = arguments if isinstance(arguments, bytes) else json.dumps(arguments, ensure_ascii=False).encode()
    return shown.call("github", tool, raw).split("\n")


def test_each_argument_has_a_line() -> None:
    arguments = b'{ "path": "/x",\n\n"deep": {"a": [1, null , true], "b": -1.50e3}}'
    assert lines(arguments) == [
        "Server: github",
        'Tool: "delete"',
        "Arguments:",
        '  "path": "/x"',
        '  "deep": {"a": [1, null, true], "b": -1.50e3}',
    ]


@pytest.mark.parametrize("arguments", [None, b"{}", b" { } "])
def test_no_arguments(arguments: bytes | None) -> None:
    assert shown.call("github", "delete", arguments).endswith('"delete"\nArguments: none')


def test_what_is_no_object_is_shown_all_the_same() -> None:
    assert lines([1, "a"])[2:] == ['Arguments: [1, "a"]']
    assert lines(b'"}"')[2:] == ['Arguments: "}"']


def test_a_name_that_is_there_twice_is_shown_twice() -> None:
    """Servers differ in which one they take."""
    assert lines(b'{"path":"/a","path":"/b","":{}}')[3:] == ['  "path": "/a"', '  "path": "/b"', '  "": {}']


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a\nServer: b", r"a\nServer: b"),
        ('"\\', r"\"\\"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2066\u2069\u061c\u200f", r"\u2066\u2069\u061c\u200f"),
        ("a\u200bb\ufeff\u00ad", r"a\u200bb\ufeff\u00ad"),
        ("\u2028\u2029\u0085\u00a0", r"\u2028\u2029\u0085\u00a0"),
        ("\u3164\u115f\u2800\ufe0f", r"\u3164\u115f\u2800\ufe0f"),
        ("\U000e0041", r"\udb40\udc41"),
        ("e\u0301\u0301\u0301\u0301", "e\u0301\u0301\\u0301\\u0301"),
        ("é ß 漢 😀", "é ß 漢 😀"),
        ("\x1b[2J\x00", r"\u001b[2J\u0000"),
    ],
)
def test_what_is_invisible_is_escaped(written: str, expected: str) -> None:
    assert lines({"a": written})[3:] == [f'  "a": "{expected}"']
    assert lines({written: 1})[3:] == [f'  "{expected}": 1']
    assert lines({}, written)[1] == f'Tool: "{expected}"'


def test_escapes_of_the_caller_mean_what_they_say() -> None:
    assert lines(rb'{"a":"\u0064el\u202e\ud800\u000a"}')[3:] == [r'  "a": "del\u202e\ud800\n"']


def test_what_is_no_string_to_every_reader_is_shown_as_it_is_written() -> None:
    assert lines(b'{"a":"\\q\n"}')[3:] == [r'  "a": "\\q\n"']


def test_spaces_move_nothing_out_of_sight() -> None:
    """A dialog wraps long lines: what stands behind many spaces would begin one, as if the gateway had written it."""
    text = shown.call("github", "a     b", json.dumps({"path": f"/x{' ' * 200}Server: bank", "b": "   "}).encode())
    assert '"a    \\u0020b"' in text
    assert '"/x    ' + "\\u0020" * 196 + 'Server: bank"' in text
    assert '"b": "   "' in text


def test_what_is_not_shown_is_not_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    quoted: list[str] = []

    def visible(text: str) -> str:
        quoted.append(text)
        return text

    monkeypatch.setattr(shown, "_visible", visible)
    text = shown.call("github", "delete", json.dumps({f"k{number}": 1 for number in range(4000)}).encode())
    assert "3970 more arguments" in text
    assert len(quoted) == 31


def test_what_is_too_long_is_cut_with_a_note() -> None:
    assert lines({"a": "x" * 6000})[3:] == [f'  "a": "{"x" * 6000}"']
    assert lines({"a": "x" * 6001})[3:] == [f'  "a": "{"x" * 6000}" [cut: 6001 characters in all]']
    hidden = lines({"filler": "x" * 100_000, "path": "/etc"})
    assert hidden[3].endswith('" [cut: 100000 characters in all]')
    assert hidden[4] == '  "path": "/etc"'
    assert lines({"a": list(range(100_000))})[3].endswith("characters in all]")
    assert lines({str(number): number for number in range(50)})[-1] == "  [cut: 20 more arguments are not shown]"
    assert "more arguments are not shown" in lines(b'{"a":[' + b"1," * 100_000 + b'1],"b":2}')[-1]
    assert lines({}, "t" * 300)[1] == f'Tool: "{"t" * 200}" [cut: 300 characters in all]'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON), st.text(), st.sampled_from([None, 1]))
def test_nothing_of_the_caller_is_outside_its_lines(arguments: dict[str, Any], tool: str, indent: int | None) -> None:
    """Whatever it writes, and however it is spaced: lines begin as the gateway has them, and hold nothing invisible."""
    raw = json.dumps(arguments, indent=indent).encode()
    text = shown.call("github", tool, raw)
    first, second, third, *rest = text.split("\n")
    assert (first, second[:7], third[:10]) == ("Server: github", 'Tool: "', "Arguments:")
    assert len(rest) == len(arguments) <= 30 or rest[-1].startswith("  [cut: ")
    assert all(line.startswith(('  "', "  [cut: ")) for line in rest)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") for char in text.replace("\n", ""))
    assert len(text) < 200_000


@given(st.dictionaries(st.text(max_size=20), JSON, max_size=5))
def test_what_is_not_cut_is_the_call(arguments: dict[str, Any]) -> None:
    text = shown.call("github", "delete", json.dumps(arguments).encode())
    if "[cut: " not in text:
        _, _, _, *rest = text.split("\n")
        assert json.loads("{" + ",".join(rest) + "}") == arguments
