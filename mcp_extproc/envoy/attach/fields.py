"""Helpers for Envoy's configuration as plain data: dicts, lists and scalars.

Envoy accepts two spellings of each field, ``filter_chains`` and ``filterChains``. Here the first is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mcp_extproc.envoy.message import Message, camel

Object = dict[str, Any]


class CannotAttach(Exception):
    """The gateway can't be added to a configuration. ``str()`` is the reason and what to do, for the person who wrote
    it."""


def plain(message: Message) -> Object:
    """A message as a plain copy."""
    return message.data(str)


def get(data: Object, field: str, default: Any = None) -> Any:
    """A field's value, in either spelling; ``default`` if it is missing or null."""
    for name in (field, camel(field)):
        if name in data and not is_null(data[name]):
            return data[name]
    return default


def put(data: Object, field: str, value: Any) -> None:
    """Set a field, in its existing spelling."""
    name = camel(field)
    data[name if name in data else field] = value


def take(data: Object, *fields: str) -> None:
    """Remove fields."""
    for field in fields:
        data.pop(field, None)
        data.pop(camel(field), None)


def objects(data: Object, field: str) -> list[Object]:
    """The mappings in a list.

    Raises:
        CannotAttach: the field is not a list of mappings.
    """
    value = get(data, field, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CannotAttach(f"{field} is not a list of mappings: Envoy would reject this file")
    return value


def object_at(data: Object, field: str) -> Object:
    """The mapping in a field, by default an empty one.

    Raises:
        CannotAttach: the field is not a mapping.
    """
    value = get(data, field, {})
    if not isinstance(value, dict):
        raise CannotAttach(f"{field} is not a mapping: Envoy would reject this file")
    return value


def extend(data: Object, field: str, items: list[Object], *, at: int | None = None) -> None:
    """Insert items into a list, which is created if missing; at its end, or before an index."""
    present = objects(data, field)
    if not items:
        return
    if not present:
        put(data, field, present := [])
    where = len(present) if at is None else at
    present[where:where] = items


def is_null(value: Any) -> bool:
    """Whether a value is null: null in JSON, and nothing, ``~`` or ``null`` in YAML."""
    return value is None or getattr(value, "tag", "") == "tag:yaml.org,2002:null"


def is_true(value: Any) -> bool:
    """Whether a value is ``true``, as a boolean or as YAML text."""
    return value is True or str(value).lower() == "true"


def words(data: Any) -> Iterator[str]:
    """All keys and texts, at any depth."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield str(key)
            yield from words(value)
    elif isinstance(data, list):
        for item in data:
            yield from words(item)
    elif isinstance(data, str):
        yield str(data)


def message_type(config: Object) -> str:
    """The message type of a typed configuration, such as ``envoy.extensions.filters.http.rbac.v3.RBAC``."""
    name = str(config.get("@type", "")).rpartition("/")[2]
    if name in ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"):
        name = str(get(config, "type_url", "")).rpartition("/")[2]
    return name
