"""Arguments of a tool as they are written on a command line, with the types of the tool's schema.

Source: JSON Schema 2020-12, which ``inputSchema`` is (MCP 2025-11-25 server/tools). Only as much of it is read as tells what a
text stands for: whether the arguments are valid is the server's to say.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

MAX_ALTERNATIVES: Final = 256
"""Schemas that are looked at for one argument. A server may write a million, and refer to them from each."""


class DoesNotFit(ValueError):
    """A text on the command line is no argument of this tool."""


def arguments_of(words: Sequence[str], schema: Mapping[str, Any]) -> str:
    """The arguments that words such as ``lines=3`` stand for, as JSON: numbers exactly as they were written.

    A text is a string where the schema allows nothing else, and JSON where it says so. A list is JSON, or its key is repeated.

    Raises:
        DoesNotFit: a word has no key, its value is not of the schema's type, or an argument is unknown or missing.

    >>> schema = {"properties": {"lines": {"type": "integer"}, "id": {"type": "string"}, "tags": {"type": "array"}}}
    >>> arguments_of(["lines=3", "id=3", "tags=a", "tags=b"], schema)
    '{"lines":3,"id":"3","tags":["a","b"]}'
    """
    texts: dict[str, list[str]] = {}
    for word in words:
        name, mark, text = word.partition("=")
        if not mark or not name:
            raise DoesNotFit(f"{word!r} is not KEY=VALUE")
        if not _is_text(word):
            raise DoesNotFit(f"{word!r} is not UTF-8")
        texts.setdefault(name, []).append(text)
    properties = _object(schema.get("properties"))
    if schema.get("additionalProperties") is False:
        _refuse_unknown(texts, properties)
    if missing := [name for name in _list(schema.get("required")) if name not in texts]:
        raise DoesNotFit(f"{' and '.join(map(str, missing))} {'is' if len(missing) == 1 else 'are'} required")
    values = ((name, _value(name, found, properties.get(name), schema)) for name, found in texts.items())
    return "{" + ",".join(f"{_quoted(name)}:{value}" for name, value in values) + "}"


def described(schema: Mapping[str, Any]) -> str:
    """A tool's arguments for people, optional ones in brackets.

    >>> described({"properties": {"path": {"type": "string"}, "lines": {"type": "integer"}}, "required": ["path"]})
    'path=string [lines=integer]'
    """
    required = {name for name in _list(schema.get("required")) if isinstance(name, str)}
    found = []
    for name, of_one in _object(schema.get("properties")).items():
        types = sorted(_types(of_one, schema) - {"null"})
        one = f"{name}={'|'.join(types) or 'any'}"
        found.append(one if name in required else f"[{one}]")
    return " ".join(found)


def unknown_in(words: Sequence[str], schema: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each argument that a schema neither names nor forbids: a server that passes over it does as if it was
    not written.

    >>> list(unknown_in(["limt=3"], {"properties": {"limit": {"type": "integer"}}}))
    ['limt is no argument of this tool, did you mean limit?']
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or any(keyword in schema for keyword in _NAMES_MORE):
        return
    names = dict.fromkeys(word.partition("=")[0] for word in words)
    yield from (_unknown(name, properties) for name in names if name not in properties)


_NAMES_MORE: Final = (
    "additionalProperties", "patternProperties", "unevaluatedProperties",
    "allOf", "anyOf", "oneOf", "$ref", "if", "dependentSchemas",
)  # fmt: skip
"""Keywords of a schema whose arguments are not only those of ``properties``, or may not be."""


def _refuse_unknown(names: Mapping[str, object], properties: Mapping[str, object]) -> None:
    for name in names:
        if name not in properties:
            raise DoesNotFit(_unknown(name, properties))


def _unknown(name: str, properties: Mapping[str, object]) -> str:
    near = get_close_matches(name, properties, n=1)
    hint = f", did you mean {near[0]}?" if near else f": there are {', '.join(properties) or 'none'}"
    return f"{name} is no argument of this tool{hint}"


def _value(name: str, texts: Sequence[str], of_one: object, root: Mapping[str, Any]) -> str:
    if "array" in _types(of_one, root) and not (len(texts) == 1 and isinstance(_json(texts[0]), list)):
        items = next(_items(of_one, root), None)
        return "[" + ",".join(_one(name, text, items, root) for text in texts) + "]"
    if len(texts) > 1:
        raise DoesNotFit(f"{name} is given {len(texts)} times, and is no list")
    return _one(name, texts[0], of_one, root)


def _one(name: str, text: str, of_one: object, root: Mapping[str, Any]) -> str:
    types = _types(of_one, root)
    if types == {"string"}:
        return _quoted(text)
    value = _json(text)
    if value is not _NO_JSON and (not types or types & _types_of(value)):
        return text.strip()
    if not types or "string" in types:
        return _quoted(text)
    raise DoesNotFit(f"{name} takes {' or '.join(sorted(types))}, and {text!r} is none")


_NO_JSON = object()


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NO_JSON


def _refuse(text: str) -> None:
    raise ValueError(text)  # NaN and Infinity, which Python takes


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _types_of(value: object) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"integer", "number"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
    return {"object"}


def _types(schema: object, root: Mapping[str, Any]) -> set[str]:
    """The types that a value may have. None where the schema does not say."""
    found: set[str] = set()
    for one in _alternatives(schema, root):
        named = one.get("type")
        if isinstance(named, str):
            found.add(named)
        elif isinstance(named, list):
            found |= {name for name in named if isinstance(name, str)}
        else:
            values = [one["const"]] if "const" in one else _list(one.get("enum"))
            found = found.union(*map(_types_of, values))
    return found


def _items(schema: object, root: Mapping[str, Any]) -> Iterator[object]:
    """Schemas of a list's elements."""
    return (one["items"] for one in _alternatives(schema, root) if "items" in one)


def _alternatives(schema: object, root: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The schemas of which a value has to fit one, or all. References are followed, each once: they may lead in a circle."""
    found: list[Mapping[str, Any]] = []
    waiting = deque([schema])
    seen = set()
    while waiting and len(found) < MAX_ALTERNATIVES:
        one = waiting.popleft()
        if id(one) in seen or not isinstance(one, dict):
            continue
        seen.add(id(one))
        found.append(one)
        if isinstance(reference := one.get("$ref"), str):
            waiting.append(_at(reference, root))
        for keyword in ("anyOf", "oneOf", "allOf"):
            waiting += _list(one.get(keyword))[:MAX_ALTERNATIVES]
    return found


def _at(reference: str, root: Mapping[str, Any]) -> object:
    """What a reference in the schema leads to (RFC 6901)."""
    place: object = root
    for step in reference.removeprefix("#/").split("/"):
        place = _object(place).get(step.replace("~1", "/").replace("~0", "~"))
    return place


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
