"""JSON read without touching it: objects split into members whose values stay the bytes that were sent.

``msgspec`` checks the grammar strictly (numbers, escapes, trailing commas and bytes); UTF-8 and depth are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import msgspec

Members = dict[str, msgspec.Raw]
"""An object's members in order, each value as its original JSON text."""

_decode_members = msgspec.json.Decoder(Members).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KEY = re.compile(rb'[ \t\n\r]*("(?:[^"\\]|\\.)*+")[ \t\n\r]*:[ \t\n\r]*')
_AFTER_VALUE = re.compile(rb"[ \t\n\r]*([,}])")
_OTHER_THAN_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))
_BRACKET_STEPS = bytes.maketrans(b"{[}]", bytes([1, 1, 255, 255]))
_STRINGS = re.compile(rb'"[^"]*"')


class NotJson(ValueError):
    """The text is not JSON as RFC 8259 has it, or nests too deeply. ``str()`` is the reason, without the text itself."""


class DuplicateMember(ValueError):
    """An object names a member twice, so that two readers could see two meanings. ``str()`` is the member's name."""


def check_text(text: bytes, max_depth: int) -> None:
    """Check what the tokenizer does not: UTF-8 (RFC 8259 section 8.1) and nesting.

    Raises:
        NotJson: the text is no UTF-8 or nests deeper than ``max_depth``.
    """
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotJson(f"invalid UTF-8 at byte {error.start}") from None
    if _has_more_brackets(text, max_depth) and depth(text) > max_depth:
        raise NotJson(f"nested deeper than {max_depth} levels")


def _has_more_brackets(text: bytes, most: int) -> bool:
    """Whether it opens so many that the depth has to be counted. ``find`` looks for one byte many times faster than ``count``
    does, and is called so often at most."""
    for bracket in (b"[", b"{"):
        position = text.find(bracket)
        while position >= 0 and most >= 0:
            most -= 1
            position = text.find(bracket, position + 1)
    return most < 0


def depth(text: bytes) -> int:
    """How deeply valid JSON nests. Linear, and mostly in C: only brackets outside of strings are counted.

    >>> depth(b'{"a": [1, {"b": "[[["}]}')
    3
    """
    if b"\\" in text:
        # Escapes go first, in pairs from the left, so that no escaped quote is taken for the end of a string.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = text.translate(None, _OTHER_THAN_BRACKETS).replace(b'""', b"")
    brackets = _STRINGS.sub(b"", brackets)
    return max(accumulate(memoryview(brackets.translate(_BRACKET_STEPS)).cast("b")), default=0)


def split(text: bytes | msgspec.Raw) -> Members:
    """The members of a JSON object.

    Raises:
        NotJson: not JSON.
        TypeError: JSON, but no object.
    """
    try:
        return _decode_members(text)
    except msgspec.ValidationError:
        raise TypeError("not an object") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"invalid UTF-8 in a name: {error.reason}") from None
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except msgspec.DecodeError as error:
        raise NotJson(why_malformed(text, error)) from None


def why_malformed(text: bytes | msgspec.Raw, error: Exception) -> str:
    """The tokenizer's word for what is wrong, in our words where it misleads."""
    if _SURROGATE.search(bytes(text)):
        return "a \\u escape of half a character (a lone surrogate), or what follows it"
    return str(error).removeprefix("JSON is malformed: ")


def join(members: Mapping[str, msgspec.Raw]) -> bytes:
    """The compact JSON object of these members, values byte for byte."""
    return _encode(members)


def text_of(raw: msgspec.Raw | bytes) -> str | None:
    """The string that this JSON text is, or ``None`` where it is something else."""
    try:
        return _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def is_null(raw: msgspec.Raw) -> bool:
    """Whether this JSON text is ``null``, which many writers give for what is not there."""
    return bytes(raw) == b"null"


def object_of(raw: msgspec.Raw | bytes) -> Members | None:
    """The members of the object that this JSON text is, or ``None`` where it is something else."""
    try:
        return split(raw)
    except (TypeError, NotJson):
        return None


def text_in(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """A string among these members, or ``None`` where there is none of that name."""
    return text_of(members[name]) if name in members else None


def object_in(members: Mapping[str, msgspec.Raw], name: str) -> Members | None:
    """An object among these members, or ``None`` where there is none of that name."""
    return object_of(members[name]) if name in members else None


def text_at(raw: msgspec.Raw | bytes, name: str) -> str | None:
    """A string member of an object, or ``None`` where either is something else."""
    members = object_of(raw)
    return None if members is None else text_in(members, name)


def offsets(text: bytes, members: Members) -> dict[str, int]:
    """Where in the object ``text`` each member's value starts.

    Only names are scanned: the lengths of the values are known, so that a megabyte of arguments costs one comparison.

    Raises:
        DuplicateMember: a name occurs twice. (:func:`split` keeps the last one, in the place of the first.)
    """
    found: dict[str, int] = {}
    position = text.index(b"{") + 1
    for name, raw in members.items():
        key = _KEY.match(text, position)
        assert key is not None, "split() accepted this object"
        value = bytes(raw)
        end = key.end() + len(value)
        if (found_name := text_of(key[1])) != name:
            # Members come in the order of their first occurrence, so any other name has been passed before.
            raise DuplicateMember(found_name or "")
        if text[key.end() : end] != value:
            raise DuplicateMember(name)
        found[name] = key.end()
        after = _AFTER_VALUE.match(text, end)
        if after is None:
            raise DuplicateMember(name)
        position = after.end()
    if members and text[position - 1 : position] != b"}":
        raise DuplicateMember(text_of(_next_key(text, position)) or "")
    return found


def is_compact(text: bytes | msgspec.Raw, members: Members) -> bool:
    """Whether ``text`` is exactly how we would write these members: no blanks, and no name twice.

    It is if it is as short: whatever else could be written differently takes more characters, but for the case of an escape.
    """
    return len(_encode(members)) == len(memoryview(text)) and all(map(str.isprintable, members))


def replace(text: bytes, members: Members, name: str, value: bytes) -> bytes:
    """The object ``text`` with the value of one of its ``members`` replaced, every other byte as it was."""
    at = _offset(text, members, name)
    return text[:at] + value + text[at + len(bytes(members[name])) :]


def _offset(text: bytes, members: Members, name: str) -> int:
    """Where a member's value starts: counted where the text is compact, else found."""
    if not is_compact(text, members):
        return offsets(text, members)[name]
    before: Members = {}
    for key, raw in members.items():
        if key == name:
            break
        before[key] = raw
    # `{"a":1,` + `"name":`; with nothing before it, only the brace.
    start = len(join(before)) if before else 1
    return start + len(_encode(name)) + 1


def _next_key(text: bytes, position: int) -> bytes:
    key = _KEY.match(text, position)
    return key[1] if key else b'""'


# -- Values deep inside -------------------------------------------------------------------------------------------------

Places = Mapping[str, Any] | None
"""Where in a JSON value certain strings stand, as a tree of names: ``{"content": {"[]": {"uri": None}}}``."""

_EACH = "[]"


def places(*paths: str) -> Places:
    """The tree of some paths. ``[]`` after a name stands for each element, or for the value itself where it is no array.

    >>> places("content[].uri", "_meta.ui")
    {'content': {'[]': {'uri': None}}, '_meta': {'ui': None}}
    """
    tree: dict[str, Any] = {}
    for path in paths:
        steps = path.replace(_EACH, f".{_EACH}").split(".")
        node = tree
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        node[steps[-1]] = None
    return tree


def edit(text: bytes | msgspec.Raw, where: Places, change: Callable[[str], str]) -> bytes | None:
    """The JSON value with the strings at certain places changed, or ``None`` where nothing changed.

    What is not on the way to such a place stays as it was written; objects and arrays on the way are written compactly.
    Places that do not exist, or hold something else than expected, are left alone.
    """
    if where is None:
        before = text_of(text)
        after = None if before is None else change(before)
        return None if after is None or after == before else _encode(after)
    if _EACH in where:
        return _edit_each(text, where[_EACH], change)
    members = object_of(text)
    if members is None:
        return None
    changed = False
    for name in where.keys() & members.keys():
        value = edit(members[name], where[name], change)
        if value is not None:
            members[name] = msgspec.Raw(value)
            changed = True
    return join(members) if changed else None


def _edit_each(text: bytes | msgspec.Raw, where: Places, change: Callable[[str], str]) -> bytes | None:
    elements = elements_of(text)
    if elements is None:
        return edit(text, where, change)
    edited = [edit(element, where, change) for element in elements]
    if all(element is None for element in edited):
        return None
    return b"[%b]" % b",".join(bytes(old) if new is None else new for old, new in zip(elements, edited, strict=True))


def elements_of(text: bytes | msgspec.Raw) -> list[msgspec.Raw] | None:
    """The elements of an array as their original text, or ``None`` where it is none."""
    try:
        return _decode_elements(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
