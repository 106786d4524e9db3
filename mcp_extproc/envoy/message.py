"""What the messages in :mod:`mcp_extproc.envoy._api` are: plain objects that know how protobuf writes them as JSON.

Source: "ProtoJSON Format", protobuf.dev.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any as Anything
from typing import ClassVar

import msgspec

Data = dict[str, Anything]
Struct = dict[str, Anything]
"""``google.protobuf.Struct``: any JSON object."""

Spelling = Callable[[str], str]
"""Of fields' names."""

_URL = "type.googleapis.com/"


def camel(field: str) -> str:
    """A field's name in JSON.

    >>> camel("filter_chains")
    'filterChains'
    """
    head, *rest = field.split("_")
    return head + "".join(word.capitalize() for word in rest)


class Message(msgspec.Struct):
    """A message. ``None`` is a field that is not set; what has no presence is not set at its default."""

    FULL_NAME: ClassVar[str] = ""
    """In the API, with its package."""
    AS_TEXT: ClassVar[frozenset[str]] = frozenset()
    """Fields of 64 bits: JSON numbers may be too small for them."""

    def data(self, spelling: Spelling) -> Data:
        """As JSON data."""
        found = {}
        for field, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, field)
            if value == default or (default is not None and not value):
                continue
            found[spelling(field.rstrip("_"))] = str(value) if field in self.AS_TEXT else _data(value, spelling)
        return found


class Any(Message):
    """``google.protobuf.Any``: a message with the name of its type, or what somebody wrote as such."""

    message: Message | Mapping[str, Anything]

    def data(self, spelling: Spelling) -> Data:
        """As JSON data."""
        if isinstance(self.message, Message):
            return {"@type": _URL + self.message.FULL_NAME, **self.message.data(spelling)}
        written = {key: value for key, value in self.message.items() if key != "@type"}
        return {"@type": self.message["@type"], **written}


def _data(value: Anything, spelling: Spelling) -> Anything:
    if isinstance(value, Message):
        return value.data(spelling)
    if isinstance(value, list):
        return [_data(item, spelling) for item in value]
    if isinstance(value, dict):
        return {key: _data(item, spelling) for key, item in value.items()}
    if isinstance(value, timedelta):
        return _duration(value)
    return str(value) if isinstance(value, str) else value  # an enum's member is a str, too


def _duration(value: timedelta) -> str:
    """Seconds with 0, 3 or 6 digits."""
    seconds, fraction = divmod(value // timedelta(microseconds=1), 1_000_000)
    if not fraction:
        return f"{seconds}s"
    digits = f"{fraction:06}"
    return f"{seconds}.{digits.removesuffix('000')}s"
