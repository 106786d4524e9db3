"""What conditions in CEL are asked about: a request, as far as they name it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Final

import msgspec

from mcp_extproc.config.expressions import BACKEND, Condition, ConditionError, Path
from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import jsontext, methods

_SCOPE_CLAIMS: Final = frozenset({"scope", "scp"})


class Params:
    """The ``params`` of a request, for conditions that name them.

    Args:
        message: JSON text of the request.
        most_bytes: of ``params`` in it.
    """

    def __init__(self, message: bytes, most_bytes: int) -> None:
        self._message = message
        self._most_bytes = most_bytes

    @cached_property
    def value(self) -> Any:
        """What they are.

        Raises:
            ConditionError: they are too large, or mean different things to different readers.
        """
        members = jsontext.object_of(self._message)
        if members is None:
            raise ConditionError("params can't be read")
        text = bytes(members["params"]) if "params" in members else b"{}"
        if len(text) > self._most_bytes:
            raise ConditionError("params are larger than limits.cel_bytes")
        try:
            return json.loads(text, object_pairs_hook=_members, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise ConditionError("params can't be read") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Servers differ in which of two they take, and some ignore case.
    if len({name.casefold() for name, _ in pairs}) != len(pairs):
        raise ConditionError("a member of params is there twice")
    return dict(pairs)


def _no_number(_: str) -> None:
    raise ValueError


_OF_ITEMS: Final = frozenset({("mcp", "method"), BACKEND, ("mcp", "tool")})
"""What differs from one item to the next of a list."""


class Question(msgspec.Struct, frozen=True):
    """What is asked about items: by whom, and how they would be used."""

    principal: Principal
    head: RequestHead | None = None
    """The HTTP request; ``None`` where it is not known, such as for what a server sends of its own accord."""
    use: str | None = None
    """JSON-RPC method of the use; ``None`` before there is one, as in lists: the one by which each kind is used."""
    params: Params | None = None
    """Of the use; ``None`` before there is one."""
    answers: dict[tuple[int, frozenset[str]], bool | str] = msgspec.field(default_factory=dict)
    """What conditions have said that are about no item, or why they could not: for a list they are asked once, and not for
    each entry."""

    @property
    def before_use(self) -> Question:
        """The same about seeing the items, before anything is done with them."""
        return Question(self.principal, self.head)

    def holds(self, condition: Condition, item: Item, held: frozenset[str]) -> bool:
        """Whether a condition is true of an item.

        Args:
            condition: that names no arguments, or there are some.
            item: the item.
            held: scopes of the caller.

        Raises:
            ConditionError: it can't be told.
        """
        if not condition.names.isdisjoint(_OF_ITEMS):
            return self._asked(condition, item, held)
        # By identity, as rules hold them for as long as there are questions.
        key = (id(condition), held)
        answer = self.answers.get(key)
        if answer is None:
            try:
                answer = self._asked(condition, item, held)
            except ConditionError as error:
                answer = str(error)
            self.answers[key] = answer
        if isinstance(answer, str):
            raise ConditionError(answer)
        return answer

    def _asked(self, condition: Condition, item: Item, held: frozenset[str]) -> bool:
        return condition.holds({path: self._value(path, item, held) for path in condition.names})

    def _value(self, path: Path, item: Item, held: frozenset[str]) -> Any:
        match path:
            case ("method",) if self.head is None:  # messages come by no other
                return "POST"
            case ("method" | "path" | "host" | "headers" | "headers_all",):
                return _of_http(path[0], self.head)
            case ("auth", "jwt", "claims"):
                return {name: value for name, value in self.principal.claims.items() if name not in _SCOPE_CLAIMS}
            case ("auth", "jwt", "scopes"):
                return sorted(held)
            case ("mcp", "method"):
                return methods.USED_BY[item.kind] if self.use is None else self.use
            case ("mcp", "backend"):
                return item.server
            case ("mcp", "tool"):
                return item.name if item.kind == "tools" else ""
            case ("mcp", "params"):
                assert self.params is not None
                return self.params.value
        raise AssertionError(path)


def _of_http(name: str, head: RequestHead | None) -> Any:
    if head is None:
        raise ConditionError("the HTTP request is not known")
    match name:
        case "method":
            return head.method
        case "path":
            return head.path.partition("?")[0]
        case "host":
            return head.headers.get("host", "").lower()
        case "headers":
            return dict(head.headers)
    return {name: list(head.repeated.get(name, (value,))) for name, value in head.headers.items()}
