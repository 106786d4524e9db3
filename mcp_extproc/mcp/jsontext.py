"""JSON read without touching it: objects split into members whose values stay the bytes that were sent.

``msgspec`` checks the grammar strictly (numbers, escapes, trailing commas and bytes); UTF-8 and depth are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import msgspec

from mcp_extproc.slices import Slices, whole

Members = dict[str, msgspec.Raw]
"""An object's members in order, each value as its original JSON text."""

_decode_members = msgspec.json.Decoder(Members).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KEY = re.compile(rb'[ \t\n\r]*("(?:[^"\\]|\\.)*+")[ \t\n\r]*:[ \t\n\r]*')
_AFTER_VALUE = re.compile(rb"[ \t\n\r]*([,}])")
_OTHER_THAN_STRUCTURE = bytes(set(range(256)) - set(b'{}[],"'))
_BRACKET_STEPS = bytes.maketrans(b"{[}]", bytes([1, 1, 255, 255]))
_STRINGS = re.compile(rb'"[^"]*"')

MAX_OWN_MEMBERS = 1000
"""Most members of an object that is taken apart here, its values' members not counted. MCP's own objects have a dozen."""

MAX_EDITED_ELEMENTS = 10_000
"""Most elements of an array in which each element is taken apart."""

_MANY_ELEMENTS = 100_000
"""An array of as many is decoded in some ten milliseconds. The other way has to be prepared, once, which takes longer."""

_SLICE_BYTES = 256 * 1024
"""Of a text that is scanned in slices: a slice of the worst of them takes some 5 ms."""

_SLICE_ELEMENTS = 500
"""Of an array in which each element is taken apart, likewise."""

_SHORT_BYTES = 1024
"""Of a text in which something is counted as soon as it is found."""

_FEW_BRACKETS = 64
"""In a large text: mostly it is large for its strings, then, as answers with files are."""

_NARROW_BYTES = 64 * 1024
"""Texts up to this size have few members, whatever they are: the worst of them is taken apart in some 2 ms."""


class NotJson(ValueError):
    """The text is not JSON as RFC 8259 has it, or nests too deeply. ``str()`` is the reason, without the text itself."""


class TooManyMembers(NotJson):
    """It may be JSON, but has more members than are read. ``str()`` is how many that are."""


class _TooWide(Exception):
    """No ``ValueError``, so that the decoder lets it pass."""


class _Name(str):
    """A member's name for the decoder, which calls back for each of them."""

    __slots__ = ()


class DuplicateMember(ValueError):
    """An object names a member twice, so that two readers could see two meanings. ``str()`` is the member's name."""


def check_text(text: bytes, max_depth: int, max_members: int) -> None:
    """Check what the tokenizer does not: UTF-8 (RFC 8259 section 8.1), nesting, and how many members there are.

    Raises:
        TooManyMembers: it has more than ``max_members``, as :attr:`Scan.members` counts them.
        NotJson: the text is no UTF-8 or nests deeper than ``max_depth``.
    """
    if len(text) <= min(_SHORT_BYTES, max_members - max_depth) and text.isascii() and _brackets_in(text) <= max_depth:
        return  # as nearly all are
    _check_encoding(text)
    if _has_to_be_scanned(text, max_depth, max_members):
        for _ in _scanning(text, max_depth, max_members):
            pass


def checking(text: bytes, max_depth: int, max_members: int) -> Iterator[None]:
    """The same in slices: others may run between two of them."""
    _check_encoding(text)
    if _has_to_be_scanned(text, max_depth, max_members):
        yield
        yield from _scanning(text, max_depth, max_members)


def _check_encoding(text: bytes) -> None:
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotJson(f"invalid UTF-8 at byte {error.start}") from None


def _has_to_be_scanned(text: bytes, max_depth: int, max_members: int) -> bool:
    return _has_more_brackets(text, max_depth) or _has_more_commas(text, max_members - max_depth)


def _scanning(text: bytes, max_depth: int, max_members: int) -> Iterator[None]:
    scan = Scan(max_members)
    for start in range(0, len(text), _SLICE_BYTES):
        if start:
            yield
        scan.feed(text[start : start + _SLICE_BYTES])
        if scan.deepest > max_depth:
            raise NotJson(f"nested deeper than {max_depth} levels")


def _has_more_brackets(text: bytes, most: int) -> bool:
    """Whether it opens so many that the depth has to be counted. ``find`` looks for one byte many times faster than ``count``
    does, which tells in a large text, and is called so often at most."""
    if len(text) <= _SHORT_BYTES:
        return _brackets_in(text) > most
    for bracket in (b"[", b"{"):
        position = text.find(bracket)
        while position >= 0 and most >= 0:
            most -= 1
            position = text.find(bracket, position + 1)
    return most < 0


def _brackets_in(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _has_more_commas(text: bytes, most: int) -> bool:
    """Whether there are more of them, in strings or not. In a text that is as short nothing is counted."""
    return len(text) > most and text.count(b",") > most


class Scan:
    """Counts what a JSON text consists of while it comes in pieces, which may end anywhere. Linear, and mostly in C.

    Args:
        max_members: where it gives up.
    """

    def __init__(self, max_members: int) -> None:
        self.members = 0
        """Members of objects and elements of arrays, at all levels. Empty ones count as one."""
        self.deepest = 0
        """How deeply valid JSON nests."""
        self._max = max_members
        self._depth = 0
        self._in_string = False
        self._cut_escape = b""
        self._waiting: bytearray | None = bytearray()

    def feed(self, piece: bytes) -> None:
        """Count the next piece.

        Raises:
            TooManyMembers: there are more than may be.
        """
        structure = self._outside_strings(piece)
        # Each container has a first member, or counts as one, and each comma stands before another member.
        self.members += structure.count(b",") + structure.count(b"{") + structure.count(b"[")
        if self.members > self._max:
            raise TooManyMembers(f"more than {self._max} members")
        brackets = structure.translate(_BRACKET_STEPS, b",")
        depths = list(accumulate(memoryview(brackets).cast("b"), initial=self._depth))
        self.deepest, self._depth = max(self.deepest, *depths), depths[-1]

    @property
    def is_closed(self) -> bool:
        """Whether no bracket is open, and some were."""
        return self.deepest > 0 and self._depth == 0 and not self._in_string

    def feed_late(self, piece: bytes) -> None:
        """The same for texts most of which are short: nothing is counted before there are bytes enough for too many.

        Raises:
            TooManyMembers: there are more than may be.
        """
        if self._waiting is not None:
            self._waiting += piece
            if len(self._waiting) <= self._max:
                return
            piece, self._waiting = bytes(self._waiting), None
        self.feed(piece)

    def _outside_strings(self, piece: bytes) -> bytes:
        """The brackets and commas that are no part of a string."""
        piece = self._cut_escape + piece
        self._cut_escape = b"\\" if (len(piece) - len(piece.rstrip(b"\\"))) % 2 else b""
        if self._cut_escape:
            piece = piece[:-1]
        if b"\\" in piece:
            # Escapes go first, in pairs from the left, so that no escaped quote is taken for the end of a string.
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        left = piece.translate(None, _OTHER_THAN_STRUCTURE)
        if self._in_string:
            left = b'"' + left
        self._in_string = left.count(b'"') % 2 == 1
        if self._in_string:
            left += b'"'
        return _STRINGS.sub(b"", left.replace(b'""', b""))


def has_more_members(text: bytes, most: int) -> Slices[bool]:
    """Whether there are more members than may be, as :attr:`Scan.members` counts them. Counted in slices: others may run
    between two of them."""
    if len(text) <= most or sum(map(text.count, (b",", b"{", b"["))) <= most:
        return False
    scan = Scan(most)
    for start in range(0, len(text), _SLICE_BYTES):
        yield
        try:
            scan.feed(text[start : start + _SLICE_BYTES])
        except TooManyMembers:
            return True
    return False


def depth(text: bytes) -> int:
    """How deeply valid JSON nests: only brackets outside of strings are counted.

    >>> depth(b'{"a": [1, {"b": "[[["}]}')
    3
    """
    scan = Scan(len(text))
    scan.feed(text)
    return scan.deepest


def split(text: bytes | msgspec.Raw) -> Members:
    """The members of a JSON object.

    Raises:
        TooManyMembers: it has more than are taken apart.
        NotJson: not JSON.
        TypeError: JSON, but no object.
    """
    try:
        members = _decode_members(text) if memoryview(text).nbytes <= _NARROW_BYTES else _split_large(text)
    except msgspec.ValidationError:
        raise TypeError("not an object") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"invalid UTF-8 in a name: {error.reason}") from None
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except msgspec.DecodeError as error:
        raise NotJson(why_malformed(text, error)) from None
    except _TooWide:
        members = None
    if members is None or len(members) > MAX_OWN_MEMBERS:
        raise TooManyMembers(f"an object with more than {MAX_OWN_MEMBERS} members")
    return members


def _split_large(text: bytes | msgspec.Raw) -> Members:
    """The same, given up at the first member too many: a dictionary of a million takes a second."""
    seen = 0

    def named(_: type, name: str) -> _Name:
        nonlocal seen
        seen += 1
        if seen > MAX_OWN_MEMBERS:
            raise _TooWide
        return _Name(name)

    members = msgspec.json.decode(text, type=dict[_Name, msgspec.Raw], dec_hook=named)
    return {str(name): raw for name, raw in members.items()}


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


def is_json(text: bytes | bytearray) -> bool:
    """Whether this is a whole JSON text, as far as its structure goes: characters in strings are not looked at."""
    try:
        _decode_any(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def is_utf8(text: bytes) -> bool:
    """Whether this can be a JSON text as far as its characters go (RFC 8259, section 8.1)."""
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


def is_null(raw: msgspec.Raw) -> bool:
    """Whether this JSON text is ``null``, which many writers give for what is not there."""
    return bytes(raw) == b"null"


def object_of(raw: msgspec.Raw | bytes) -> Members | None:
    """The members of the object that this JSON text is, or ``None`` where it is something else.

    Raises:
        TooManyMembers: as of :func:`split`. Whoever took that for no object would pass over what a server sees.
    """
    try:
        return split(raw)
    except TooManyMembers:
        raise
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


def is_unambiguous(text: bytes, members: Members) -> bool:
    """Whether the object ``text`` names no member twice."""
    if is_compact(text, members):
        return True
    try:
        offsets(text, members)
    except DuplicateMember:
        return False
    return True


def replace(text: bytes, members: Members, name: str, value: bytes) -> bytes:
    """The object ``text`` with the value of one of its ``members`` replaced, every other byte as it was."""
    at = _offset(text, members, name)
    return text[:at] + value + text[at + len(bytes(members[name])) :]


def edited(text: bytes, edits: Sequence[tuple[int, msgspec.Raw, bytes]]) -> bytes:
    """A text in which some parts are replaced: where each starts, what it is, and what it becomes."""
    parts: list[bytes | memoryview] = []
    rest, position = memoryview(text), 0
    for start, old, new in sorted(edits, key=lambda edit: edit[0]):
        parts += (rest[position:start], new)
        position = start + memoryview(old).nbytes
    return b"".join((*parts, rest[position:]))


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


class _Tree(dict[str, Any]):
    """All places of a kind of value."""

    __slots__ = ("last_names",)

    def __init__(self, last_names: tuple[bytes, ...]) -> None:
        self.last_names = last_names
        """Of the members that hold such a string, each in quotes."""


_EACH = "[]"


def places(*paths: str) -> Places:
    """The tree of some paths. ``[]`` after a name stands for each element, or for the value itself where it is no array.

    >>> places("content[].uri", "_meta.ui")
    {'content': {'[]': {'uri': None}}, '_meta': {'ui': None}}
    """
    last_names = dict.fromkeys(path.replace(_EACH, "").rpartition(".")[2] for path in paths)
    tree = _Tree(tuple(map(_encode, last_names)))
    for path in paths:
        steps = path.replace(_EACH, f".{_EACH}").split(".")
        node: dict[str, Any] = tree
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        node[steps[-1]] = None
    return tree


def edit(text: bytes | msgspec.Raw, where: Places, change: Callable[[str], str]) -> bytes | None:
    """The JSON value with the strings at certain places changed, or ``None`` where nothing changed.

    What is not on the way to such a place stays as it was written; objects and arrays on the way are written compactly.
    Places that do not exist, or hold something else than expected, are left alone.

    Raises:
        TooManyMembers: an object or an array on the way has more than are taken apart.
    """
    return whole(editing(text, where, change))


def editing(text: bytes | msgspec.Raw, where: Places, change: Callable[[str], str]) -> Slices[bytes | None]:
    """The same in slices: others may run between two of them."""
    if memoryview(text).nbytes > _SLICE_BYTES:
        yield
    if isinstance(where, _Tree):
        return (yield from _editing_all(bytes(text), where, change))
    return (yield from _editing_at(text, where, change))


def _editing_all(text: bytes, where: _Tree, change: Callable[[str], str]) -> Slices[bytes | None]:
    """The same from the top."""
    if len(text) > _SHORT_BYTES and not _has_more_brackets(text, _FEW_BRACKETS):
        # A few passes over it take less than to look for each name in it.
        try:
            return (yield from _editing_at(text, where, change))
        except TooManyMembers:
            if _may_have(text, where.last_names):
                raise
            return None
    if not _may_have(text, where.last_names):
        return None
    return (yield from _editing_at(text, where, change))


def _editing_at(text: bytes | msgspec.Raw, where: Places, change: Callable[[str], str]) -> Slices[bytes | None]:
    if where is None:
        before = text_of(text)
        after = None if before is None else change(before)
        return None if after is None or after == before else _encode(after)
    if _EACH in where:
        return (yield from _editing_each(text, where[_EACH], change))
    members = object_of(text)
    if members is None:
        return None
    changed = False
    for name in where.keys() & members.keys():
        value = yield from editing(members[name], where[name], change)
        if value is not None:
            members[name] = msgspec.Raw(value)
            changed = True
    return join(members) if changed else None


def _may_have(text: bytes, names: tuple[bytes, ...]) -> bool:
    """Whether a JSON text may have members of these names, also where a character or a slash is escaped. Most answers have
    none, and need not be taken apart."""
    for name in names:
        if name in text:
            return True
    return b"\\u" in text or b"\\/" in text


def _editing_each(text: bytes | msgspec.Raw, where: Places, change: Callable[[str], str]) -> Slices[bytes | None]:
    elements = elements_of(text)
    if elements is None:
        return (yield from editing(text, where, change))
    if len(elements) > MAX_EDITED_ELEMENTS:
        raise TooManyMembers(f"an array with more than {MAX_EDITED_ELEMENTS} elements")
    changed: list[bytes | None] = []
    for number, element in enumerate(elements, 1):
        if not number % _SLICE_ELEMENTS:
            yield
        changed.append((yield from editing(element, where, change)))
    if all(element is None for element in changed):
        return None
    return b"[%b]" % b",".join(bytes(old) if new is None else new for old, new in zip(elements, changed, strict=True))


def first_elements(text: bytes | msgspec.Raw, most: int) -> list[msgspec.Raw] | None:
    """The same up to a number of them. The others are checked, but cost little, however many they are."""
    if memoryview(text).nbytes <= _MANY_ELEMENTS or bytes(text).count(b",") <= _MANY_ELEMENTS or most > _MANY_ELEMENTS:
        elements = elements_of(text)
        return None if elements is None else elements[:most]
    try:
        found = msgspec.json.decode(text, type=_array_of(most))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return [element for element in msgspec.structs.astuple(found) if element is not msgspec.UNSET]


@lru_cache(maxsize=4)
def _array_of(size: int) -> type[msgspec.Struct]:
    """An array as a structure with so many fields: the decoder passes over what is behind them."""
    field = (msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)
    return msgspec.defstruct("_Array", [(f"_{index}", *field) for index in range(size)], array_like=True)


def elements_of(text: bytes | msgspec.Raw) -> list[msgspec.Raw] | None:
    """The elements of an array as their original text, or ``None`` where it is none."""
    try:
        return _decode_elements(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
