"""Conditions of the configuration, in the Common Expression Language (CEL), over a request.

The library tells names and functions of an expression, not how they are nested. So the text is read here as well: for what it
names of a request, which decides whether a list can be judged by it, and for loops in loops, which could hold up a worker.
What is read here only narrows what an expression may be and gets to see; its meaning is the library's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, Final, NamedTuple

Path = tuple[str, ...]
"""Names of members below ``request``."""

PARAMS: Final[Path] = ("mcp", "params")
HEADERS: Final[Path] = ("headers",)
HEADERS_ALL: Final[Path] = ("headers_all",)
SCOPES: Final[Path] = ("auth", "jwt", "scopes")
BACKEND: Final[Path] = ("mcp", "backend")
MEMBERS: Final[tuple[Path, ...]] = (
    ("method",), ("path",), ("host",), HEADERS, HEADERS_ALL, ("auth", "jwt", "claims"), SCOPES,
    ("mcp", "method"), BACKEND, ("mcp", "tool"), PARAMS,
)  # fmt: skip
"""All that there is below ``request``. The names are those of Envoy AI Gateway's MCPRoute."""

MAX_CHARS: Final = 4096
"""Of an expression, as in MCPRoute."""


class Bound(NamedTuple):
    """Of what an expression with a loop may be asked about: headers and claims are somebody else's, as ``params`` are."""

    values: int
    """Members and elements of all that it names, nested ones included."""
    copied: int | None = None
    """The same times the bytes of all."""


LOOPS: Final = Bound(1000)
COLLECTS: Final = Bound(200)
"""The time grows with the square: the library copies for each value what ``map`` and ``filter`` have collected before."""
LOOPS_WITH_REQUEST: Final = Bound(200, 4 << 20)
"""It copies all that is named of ``request`` for each value, where a loop's body names ``request`` again."""
COLLECTS_REQUEST: Final = Bound(50, 256 << 10)
"""And with ``map`` it may collect all of that, and copies it for each value: the time grows with the cube."""

_SCALAR_BYTES: Final = 8

_COLLECTING: Final = frozenset({"map", "filter"})
_LOOPS: Final = _COLLECTING | {"all", "exists", "exists_one", "existsOne"}
FUNCTIONS: Final = _LOOPS | {
    "bytes", "contains", "double", "duration", "dyn", "endsWith", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
    "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds", "has", "int", "matches",
    "size", "startsWith", "string", "timestamp", "uint",
}  # fmt: skip
"""What an expression may call. The library reports any other name only when it is called."""

_WORDS: Final = frozenset({"true", "false", "null", "in"})


class ConditionError(Exception):
    """A condition could not be told: a member that is not there, values that do not compare, a result that is no boolean."""


class NotBooleanError(ConditionError):
    """A result is no boolean.

    Args:
        kind: what it is instead, for people.
    """

    def __init__(self, kind: str) -> None:
        super().__init__("no boolean")
        self.kind = kind


_KINDS: Final = (
    (str, "a text"), ((int, float), "a number"), (Mapping, "a mapping"), (list, "a list"), (datetime, "a time"),
    (timedelta, "a duration"), (bytes, "bytes"), (NoneType, "null"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression."""

    names: frozenset[Path]
    """What it may look at, out of :data:`MEMBERS`."""
    bound: Bound | None
    """Of what it is asked about; ``None`` without a loop."""
    _execute: Callable[[dict[str, Any]], Any] = field(repr=False, compare=False)

    @property
    def names_params(self) -> bool:
        """Whether it may look at ``request.mcp.params``, in whatever spelling."""
        return PARAMS in self.names

    def holds(self, values: Mapping[Path, Any]) -> bool:
        """Whether it is true of a request.

        Args:
            values: what there is of :attr:`names`. Nothing else is shown to the expression.

        Raises:
            ConditionError: it can't be told, or not in a short time.
        """
        named = self.names & values.keys()
        if self.bound is not None:
            _check_size((values[path] for path in named), self.bound)
        request: dict[str, Any] = {}
        for path in named:
            inner = request
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = values[path]
        try:
            result = self._execute({"request": request})
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the library's is no Exception
            raise ConditionError(type(error).__name__) from None
        if not isinstance(result, bool):
            raise NotBooleanError(next((word for kind, word in _KINDS if isinstance(result, kind)), "something else"))
        return result


@functools.lru_cache(maxsize=1024)
def condition(text: str) -> Condition:
    """Compile an expression.

    Raises:
        ValueError: it is none, or may not be one here. The message does not repeat it: like any value, it may come from a
            variable.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"expected an expression of at most {MAX_CHARS} characters")
    # Few configurations have expressions, and the library brings a command line of its own.
    import cel

    try:
        program = cel.compile(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        place = re.search(r"<input>:(\d+):(\d+)", str(error))
        where = f", at line {place[1]}, character {place[2]}" if place is not None else ""
        raise ValueError(
            f"not an expression of CEL{where}: expected one such as request.mcp.params.arguments.tenant =="
            " request.auth.jwt.claims.tenant"
        ) from None
    found = _Reading(list(_tokens(text)))
    found.read()
    for literal in found.patterns:
        _check_pattern(cel.compile(f"''.matches({literal.text})").execute, literal)
    made = Condition(frozenset(found.names), found.bound, program.execute)
    _check_type(made, found)
    return made


def _check_type(made: Condition, found: _Reading) -> None:
    """Refuse what is neither true nor false of anything, such as a name alone. Claims and arguments may be of any type,
    and a member that is not there is an error, so only what is known of them tells."""
    if found.chooses:
        return
    words = dict.fromkeys(found.words, "x")
    known: Mapping[Path, Any] = dict.fromkeys(MEMBERS, "x") | {
        HEADERS: words, HEADERS_ALL: {word: ["x"] for word in words}, SCOPES: [], PARAMS: {}, ("auth", "jwt", "claims"): {}
    }  # fmt: skip
    try:
        made.holds(known)
    except NotBooleanError as error:
        raise ValueError(
            f'it is {error.kind}, and never true or false: compare it, as in request.mcp.tool == "report"'
        ) from None
    except ConditionError:
        return


def _check_size(values: Iterable[Any], bound: Bound) -> None:
    count, size, waiting = 0, 0, list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value.encode(errors="replace"))
            continue
        size += _SCALAR_BYTES
        if isinstance(value, Mapping | list):
            count += len(value)
            if count > bound.values:
                raise ConditionError("too many values for a loop")
            waiting += [*value, *value.values()] if isinstance(value, Mapping) else value
    if bound.copied is not None and count * size > bound.copied:
        raise ConditionError("too many and too large values for a loop")


def _check_pattern(execute: Callable[[], Any], literal: _Token) -> None:
    try:
        execute()
    except RuntimeError:
        raise ValueError(f"not a regular expression, at character {literal.at + 1}") from None


# -- Reading the text -----------------------------------------------------------------------------------------------------

_LEXEMES: Final = r"""
      (?P<space> \s+ | //[^\n]* )
    | (?P<string>
        [bB]? (?: [rR] (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n\r]*" | '[^'\n\r]*' )
              | \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3} | "(?:\\.|[^"\\\n\r])*" | '(?:\\.|[^'\\\n\r])*' ) )
    | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]? )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign> == | != | <= | >= | && | \|\| | . )
    """
"""Verbose. It is compiled for the first condition: most configurations have none."""
_PLAIN: Final = re.compile(r"""(["'])([A-Za-z0-9_]*)\1""")


class _Token(NamedTuple):
    kind: str
    text: str
    at: int
    """Characters in front of it."""


def _tokens(text: str) -> Iterator[_Token]:
    for match in re.finditer(_LEXEMES, text, re.VERBOSE | re.DOTALL):
        kind = match.lastgroup or ""
        if kind != "space":
            yield _Token(kind, match.group(), match.start())


_END: Final = _Token("end", "", -1)


def _token(tokens: Sequence[_Token], index: int) -> _Token:
    return tokens[index] if 0 <= index < len(tokens) else _END


def _members(tokens: Sequence[_Token], at: int) -> Iterator[tuple[str, int]]:
    """The members that follow a name, as far as they are written out, each with the index of its last token."""
    while True:
        first, second, third = (_token(tokens, at + step) for step in (1, 2, 3))
        if first.text == "." and second.kind == "name" and third.text != "(":
            at += 2
            yield second.text, at
            continue
        named = _PLAIN.fullmatch(second.text) if first.text == "[" and third.text == "]" else None
        if named is None:
            return
        at += 3
        yield named[2], at


def replaced(text: str, member: Path, by: str) -> str | None:
    """An expression with another one in place of a member of ``request``.

    Args:
        text: the expression.
        member: out of :data:`MEMBERS`. That it is there, which ``has`` tells, stays.
        by: the other one.

    Returns:
        ``None`` if it may look at the member without naming it.
    """
    tokens, found, done = list(_tokens(text)), "", 0
    for at, token in enumerate(tokens):
        if token.text != "request" or _token(tokens, at - 1).text == "." or _token(tokens, at - 2).text == "has":
            continue
        members = list(_members(tokens, at))[: len(member)]
        path = tuple(name for name, _ in members)
        if path != member[: len(path)]:
            continue
        if path != member:
            return None
        last = tokens[members[-1][1]]
        found += text[done : token.at] + by
        done = last.at + len(last.text)
    return found + text[done:]


@dataclass(slots=True)
class _Open:
    """A bracket that is not closed yet."""

    is_literal: bool
    """Whether it is a list that is written out."""
    variable: str | None = None
    """Of a loop, whose body it holds."""
    over_data: bool = False
    """Whether the loop is over more than a list that is written out."""


class _Reading:
    """One pass over the tokens of an expression that the library has taken."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._open: list[_Open] = []
        self._closed_literal = -1
        """Index of the last bracket that ended a list that is written out."""
        self.names: set[Path] = set()
        self.loops = False
        self.loops_over_data = False
        self.loops_again = False
        self.collects = False
        self.maps = False
        self.patterns: list[_Token] = []
        self.words: set[str] = set()
        """Names of members that it may look for."""
        self.chooses = False
        """Whether it has an operator that has one of two values."""

    def read(self) -> None:
        """Find out all that is asked.

        Raises:
            ValueError: the expression may not be.
        """
        for at, token in enumerate(self._tokens):
            if token.kind == "name":
                self.words.add(token.text)
                self._name(at, token)
            elif token.kind == "string":
                self.words.add(token.text.strip("\"'"))
            elif token.text == "?":
                self.chooses = True
            elif token.text in ("(", "[", "{") and token.kind == "sign":
                self._opened(at, token)
            elif token.text in (")", "]", "}") and token.kind == "sign":
                self._closed(at)

    @property
    def bound(self) -> Bound | None:
        """Of what it may be asked about."""
        if not self.loops:
            return None
        if not self.loops_over_data:  # as often as there is something written out
            return LOOPS
        if self.loops_again:
            return COLLECTS_REQUEST if self.maps else LOOPS_WITH_REQUEST
        return COLLECTS if self.collects else LOOPS

    def _at(self, index: int) -> _Token:
        return _token(self._tokens, index)

    def _opened(self, at: int, token: _Token) -> None:
        before = self._at(at - 1)
        stands_behind = (before.kind in ("name", "string") and before.text != "in") or before.text in (")", "]", "}")
        bracket = _Open(is_literal=token.text == "[" and not stands_behind)
        if token.text == "(" and before.kind == "name" and before.text in _LOOPS and self._at(at - 2).text == ".":
            bracket.variable = self._at(at + 1).text
            bracket.over_data = self._closed_literal != at - 3
            self.loops = True
            self.loops_over_data = self.loops_over_data or bracket.over_data
            self.collects = self.collects or before.text in _COLLECTING
            self.maps = self.maps or before.text == "map"
            if bracket.variable == "request":
                raise ValueError(f"a loop's variable is called request, at character {token.at + 2}: call it otherwise")
        self._open.append(bracket)
        loops = [one for one in self._open if one.variable is not None]
        if len(loops) > 2 or sum(one.over_data for one in loops) > 1:
            raise ValueError(
                f"a loop in a loop, at character {before.at + 1}: the time would grow with the square of what a client sends;"
                " loop over one list only, or over a list that is written out"
            )

    def _closed(self, at: int) -> None:
        if self._open.pop().is_literal:
            self._closed_literal = at

    def _name(self, at: int, token: _Token) -> None:
        before, behind = self._at(at - 1), self._at(at + 1)
        if behind.text == "(" and behind.kind == "sign":
            self._called(at, token, is_method=before.text == ".")
        elif before.text == "." or token.text in _WORDS:
            return
        elif token.text == "request":
            self._request(at, token)
        elif all(one.variable != token.text for one in self._open):
            raise ValueError(f"an unknown name, at character {token.at + 1}: expected request, or a loop's variable")

    def _called(self, at: int, token: _Token, *, is_method: bool) -> None:
        if token.text not in FUNCTIONS or (token.text in _LOOPS and not is_method):
            raise ValueError(
                f"an unknown function, at character {token.at + 1}: expected one of {', '.join(sorted(FUNCTIONS))}"
            )
        if token.text != "matches":
            return
        pattern = self._at(at + 2)
        if not is_method or pattern.kind != "string" or self._at(at + 3).text != ")":
            raise ValueError(
                f'matches, at character {token.at + 1}: expected a text that is written out, as in x.matches("^a")'
            )
        self.patterns.append(pattern)

    def _request(self, at: int, token: _Token) -> None:
        if any(one.variable is not None for one in self._open):
            self.loops_again = True
        # Behind what is written out, anything may be looked at.
        path = tuple(name for name, _ in _members(self._tokens, at))
        member = next((one for one in MEMBERS if path[: len(one)] == one), None)
        below = [member] if member is not None else [one for one in MEMBERS if one[: len(path)] == path]
        if not below:
            raise ValueError(
                f"an unknown member of request, at character {token.at + 1}: expected "
                + ", ".join(f"request.{'.'.join(one)}" for one in MEMBERS)
            )
        self.names.update(below)
