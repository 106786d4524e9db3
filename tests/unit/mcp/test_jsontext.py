"""Objects split into members whose values keep their bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.jsontext import DuplicateMember, NotJson
from mcp_extproc.slices import whole
from tests.unit.mcp.strategies import blanks, join_members, json_texts, spelled

json_values = st.recursive(
    st.one_of(st.none(), st.integers(0, 99), st.text('a,"\\[}é', max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text('k,"{\\', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def naive_depth(text: str) -> int:
    """The same the slow way: character by character."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            escaped, in_string = (char == "\\" and not escaped), (char != '"' or escaped)
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


@given(json_texts)
def test_depth(text: str) -> None:
    assert jsontext.depth(text.encode()) == naive_depth(text)


@given(st.lists(st.text('["\\{}]ab\u00e9', max_size=12), max_size=4))
def test_depth_of_strings_full_of_brackets_and_quotes(strings: list[str]) -> None:
    text = json.dumps({"k": strings, "[": [{"]": string} for string in strings]}, ensure_ascii=False)
    assert jsontext.depth(text.encode()) == naive_depth(text)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        (b"", 0), (b"1", 0), (b'"["', 0), (b"[]", 1), (b'{"a":[]}', 2), (b'["\\"[",[]]', 2), (b'["\\\\",[]]', 2),
        (b'["\\\\\\"[[",[]]', 2), (b'["","[",""]', 1), (b'{"[":"{"}', 1), (b"[[],[[]],[]]", 3),
    ],
)  # fmt: skip
def test_depths(text: bytes, levels: int) -> None:
    assert jsontext.depth(text) == levels


def naive_members(value: Any) -> int:
    """Members of objects and elements of arrays; empty ones count as one."""
    if not isinstance(value, dict | list):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return max(len(inner), 1) + sum(map(naive_members, inner))


def scanned(text: bytes, size: int) -> jsontext.Scan:
    scan = jsontext.Scan(len(text))
    for start in range(0, len(text), size):
        scan.feed(text[start : start + size])
    return scan


@given(json_values, st.integers(1, 7))
def test_members_are_counted_wherever_the_text_is_cut(value: Any, size: int) -> None:
    text = json.dumps(value, ensure_ascii=False)
    scan = scanned(text.encode(), size)
    assert (scan.members, scan.deepest) == (naive_members(value), naive_depth(text))


@given(st.lists(st.text('["\\{},]ab\u00e9', max_size=12), max_size=4), st.integers(1, 5))
def test_members_of_strings_full_of_commas_and_escapes(strings: list[str], size: int) -> None:
    value = {"k,": strings, "[": [{'",': string} for string in strings]}
    text = json.dumps(value)
    scan = scanned(text.encode(), size)
    assert (scan.members, scan.deepest) == (naive_members(value), naive_depth(text))


@pytest.mark.parametrize(
    "text", [b"[" + b"1," * 1000 + b"1]", b"[" + b"[]," * 500 + b"1]", b'{"a":[' + b'{"b":1},' * 500 + b"1]}"]
)
def test_a_member_too_many(text: bytes) -> None:
    count = naive_members(json.loads(text))
    jsontext.check_text(text, 100, count)
    assert not whole(jsontext.has_more_members(text, count))
    with pytest.raises(jsontext.TooManyMembers, match=f"more than {count - 1} members"):
        jsontext.check_text(text, 100, count - 1)
    assert whole(jsontext.has_more_members(text, count - 1))


def test_commas_of_texts_are_no_members() -> None:
    text = json.dumps({"a": "b,[{" * 100_000 + '"\\', "c": [1]}).encode()
    jsontext.check_text(text, 100, 1000)
    assert not whole(jsontext.has_more_members(text, 1000))


def test_a_large_text_is_checked_in_slices() -> None:
    text = json.dumps(["b,[{" * 500_000]).encode()
    slices = sum(1 for _ in jsontext.checking(text, 100, 1000))
    assert slices > 5
    assert sum(1 for _ in jsontext.checking(b"[1]", 100, 1000)) == 0


def test_few_bytes_are_counted_only_if_more_come() -> None:
    scan = jsontext.Scan(1000)
    scan.feed_late(b'["' + b"," * 500)
    scan.feed_late(b'",')
    assert scan.members == 0
    with pytest.raises(jsontext.TooManyMembers):
        scan.feed_late(b"1," * 1000)


@pytest.mark.parametrize("more", ["", '"filler":"' + "x" * 80_000 + '",'], ids=["short", "large"])
def test_an_object_is_taken_apart_up_to_a_number_of_members(more: str) -> None:
    most = jsontext.MAX_OWN_MEMBERS
    names = [f"k{index}" for index in range(most - bool(more))]
    texts = [more + ",".join(f'"{name}":1' for name in (*names, *over)) for over in ([], ["one"])]
    fits, too_many = (b"{%b}" % text.encode() for text in texts)
    assert list(jsontext.split(fits))[-len(names) :] == names
    assert {type(name) for name in jsontext.split(fits)} == {str}
    with pytest.raises(jsontext.TooManyMembers):
        jsontext.split(too_many)
    with pytest.raises(jsontext.TooManyMembers):
        jsontext.object_of(too_many)


def test_a_large_object_is_given_up_at_the_first_member_too_many() -> None:
    """What comes after it is not even looked at."""
    text = b"{" + b",".join(b'"%d":1' % index for index in range(20_000)) + b",what is no JSON"
    with pytest.raises(jsontext.TooManyMembers):
        jsontext.split(text)


def test_arrays_are_edited_up_to_a_number_of_elements() -> None:
    places = jsontext.places("content[].uri")
    elements = [b'{"uri":"a"}'] * jsontext.MAX_EDITED_ELEMENTS
    fits = b'{"content":[%b]}' % b",".join(elements)
    assert jsontext.edit(fits, places, str.upper) == fits.replace(b'"a"', b'"A"')
    with pytest.raises(jsontext.TooManyMembers):
        jsontext.edit(b'{"content":[%b]}' % b",".join([*elements, b"1"]), places, str.upper)


@pytest.mark.parametrize("count", [3, 110_000])
def test_the_first_elements_of_an_array(count: int) -> None:
    """However many there are: beyond some thousands another way is taken."""
    text = b"[" + b", ".join(b'{"a":%d}' % index for index in range(count)) + b"]"
    expected = [b'{"a":%d}' % index for index in range(min(count, 100))]
    found = jsontext.first_elements(text, 100)
    assert found is not None
    assert [bytes(raw) for raw in found] == expected
    assert jsontext.first_elements(b'{"a":%b}' % text, 100) is None
    assert jsontext.first_elements(text + b"]", 100) is None


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"abc\xe2\x82"])
def test_text_has_to_be_utf8(text: bytes) -> None:
    with pytest.raises(NotJson, match="invalid UTF-8 at byte"):
        jsontext.check_text(text, 10, 1000)


def test_nothing_of_the_text_is_repeated() -> None:
    with pytest.raises(NotJson) as caught:
        jsontext.split(b'{"token": hidden}')
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("text", [b"[]", b"1", b"null", b'"x"'])
def test_only_objects_are_split(text: bytes) -> None:
    with pytest.raises(TypeError):
        jsontext.split(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'"a"', "a"),
        (b'"\\u0061"', "a"),
        (b'""', ""),
        (b"1", None),
        (b"null", None),
        (b"[]", None),
        (b"x", None),
        (b"", None),
    ],
)
def test_strings(text: bytes, found: str | None) -> None:
    assert jsontext.text_of(text) == found


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    members = draw(st.dictionaries(names, json_texts, max_size=4))
    spelled_members = [(draw(spelled(name)), value) for name, value in members.items()]
    return draw(blanks) + join_members(draw, spelled_members) + draw(blanks), members


@given(objects())
def test_members_keep_order_and_text(object: tuple[str, dict[str, str]]) -> None:
    text, members = object
    found = jsontext.split(text.encode())
    assert [(name, bytes(raw).decode()) for name, raw in found.items()] == list(members.items())
    offsets = jsontext.offsets(text.encode(), found)
    assert all(text.encode()[at:].startswith(bytes(found[name])) for name, at in offsets.items())
    assert list(offsets) == list(members)


@given(objects(), st.booleans())
def test_replacing_a_value_cuts_exactly_it_out(object: tuple[str, dict[str, str]], compact: bool) -> None:
    members = jsontext.split(object[0].encode())
    text = jsontext.join(members) if compact else object[0].encode()
    for name, at in jsontext.offsets(text, members).items():
        changed = jsontext.replace(text, members, name, b"[42]")
        assert changed == text[:at] + b"[42]" + text[at + len(bytes(members[name])) :]


@given(objects(), json_texts, st.data())
def test_a_name_given_twice_is_found_and_named(
    object: tuple[str, dict[str, str]], value: str, data: st.DataObject
) -> None:
    text, members = object
    if not members:
        return
    twice = data.draw(st.sampled_from(sorted(members)))
    again = data.draw(spelled(twice)) + ":" + value
    at_start = data.draw(st.booleans())
    head, _, tail = text.partition("{") if at_start else text.rpartition("}")
    doubled = (f"{head}{{{again},{tail}" if at_start else f"{head},{again}}}{tail}").encode()
    with pytest.raises(DuplicateMember) as caught:
        jsontext.offsets(doubled, jsontext.split(doubled))
    assert str(caught.value) == twice


def test_compact_is_exactly_how_we_write() -> None:
    for text, expected in [
        (b'{"a":1}', True),
        (b'{"a": 1}', False),
        (b'{"a":1,"a":1}', False),
        (b'{"\\u0061":1}', False),
        (b'{"\\u001A":1}', False),
    ]:
        assert jsontext.is_compact(text, jsontext.split(text)) is expected


def test_joined_members_are_values_byte_for_byte() -> None:
    members = {"b": msgspec.Raw(b"1.50"), "a\n": msgspec.Raw(b'[ "\\u0041" ]')}
    assert jsontext.join(members) == b'{"b":1.50,"a\\n":[ "\\u0041" ]}'


# -- Arrays, and values deep inside -----------------------------------------------------------------------------------------


@given(st.lists(json_texts, max_size=5))
def test_elements_keep_their_text(texts: list[str]) -> None:
    elements = jsontext.elements_of(f"[ {' , '.join(texts)} ]".encode())
    assert elements is not None
    assert [bytes(element).decode() for element in elements] == texts


@pytest.mark.parametrize("text", [b"{}", b"1", b'"[]"', b"null", b"", b"[1", b"[1,]", b"[" * 100_000, b"[nan]"])
def test_what_has_no_elements(text: bytes) -> None:
    assert jsontext.elements_of(text) is None


WHERE = jsontext.places("uri", "blocks[].uri", "one[].at", "a.b.c", "a.d/e")

EDITED = [
    ('{"uri":"x"}', '{"uri":"X"}'),
    ('{ "n" : 1.50, "uri" : "x", "s":"\\u0041" }', '{"n":1.50,"uri":"X","s":"\\u0041"}'),
    (
        '{"blocks":[{"uri":"x"},{"text":"x"}, 1,{"uri":"y" , "n":1.50}]}',
        '{"blocks":[{"uri":"X"},{"text":"x"},1,{"uri":"Y","n":1.50}]}',
    ),
    # One value in the place of an array of them.
    ('{"one":{"at":"x"}}', '{"one":{"at":"X"}}'),
    ('{"a":{"b":{"c":"x"},"c":"x"}}', '{"a":{"b":{"c":"X"},"c":"x"}}'),
    ('{"uri":"\\u0078"}', '{"uri":"X"}'),
    ('{"\\u0075ri":"x"}', '{"uri":"X"}'),
    ('{"a":{"d\\/e":"x"}}', '{"a":{"d/e":"X"}}'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), EDITED)
def test_strings_are_changed_where_they_stand(text: str, expected: str) -> None:
    assert jsontext.edit(text.encode(), WHERE, str.upper) == expected.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"URI":"x","other":{"uri":"x"}}', '{"uri":"X"}', '{"uri":5}', '{"uri":null}', '{"uri":["x"]}', '{"uri":{"uri":"x"}}',
        '{"blocks":[]}', '{"blocks":["x"]}', '{"blocks":"x"}', '{"blocks":[[{"uri":"x"}]]}', '{"a":"x"}',
        '{"a":{"b":[{"c":"x"}]}}',
        "{}", "[]", '["uri"]', '"x"', "1", "null",
    ],
)  # fmt: skip
def test_where_nothing_changes_the_text_is_not_written_again(text: str) -> None:
    assert jsontext.edit(text.encode(), WHERE, str.upper) is None


LARGE = f'"large":"{"x" * 2000}"'


@pytest.mark.parametrize(("text", "expected"), EDITED)
@pytest.mark.parametrize("brackets", ["", "[" * 100], ids=["few brackets", "many"])
def test_large_texts_are_edited_alike(text: str, expected: str, brackets: str) -> None:
    text, expected = (f'{{"more":"{brackets}",{LARGE},{each[1:]}' for each in (text, expected))
    assert jsontext.edit(text.encode(), WHERE, str.upper) == expected.encode().replace(b", ", b",")


@pytest.mark.parametrize("name", ["own", "uri", "\\u0075ri"])
@pytest.mark.parametrize("brackets", ["", "[" * 100], ids=["few brackets", "many"])
def test_what_is_not_taken_apart_passes_where_nothing_can_be_changed(name: str, brackets: str) -> None:
    members = ",".join(f'"{number}":1' for number in range(jsontext.MAX_OWN_MEMBERS))
    text = f'{{{members},"{name}":"{brackets}"}}'.encode()
    if name == "own":
        assert jsontext.edit(text, WHERE, str.upper) is None
    else:
        with pytest.raises(jsontext.TooManyMembers):
            jsontext.edit(text, WHERE, str.upper)


@given(json_texts)
def test_any_value_can_be_edited(text: str) -> None:
    found = jsontext.edit(text.encode(), WHERE, str.upper)
    assert found is None or json.loads(found) is not None


@pytest.mark.parametrize(
    ("text", "found"), [('{"a":"x"}', "x"), ('{"a":1}', None), ("{}", None), ("[]", None), ("nonsense", None)]
)
def test_a_string_member_of_what_may_be_an_object(text: str, found: str | None) -> None:
    assert jsontext.text_at(text.encode(), "a") == found


def test_nobody_can_write_a_name_shorter_than_we_do() -> None:
    """Otherwise blanks, or a name given twice, would fit into the difference unseen."""
    two = {"\b", "\t", "\n", "\f", "\r", '"', "\\"}
    for code in (*range(0x800), 0x2028, 0x2029, 0xFFFD, 0x10FFFF):
        name = chr(code)
        shortest = 2 if name in two else 6 if code < 0x20 else len(name.encode())
        assert len(jsontext.join({name: msgspec.Raw(b"1")})) == len('{"":1}') + shortest, hex(code)
