"""pydantic's errors as problems: the field's path and what was expected, never the value that was found."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError, Problem, field, quoted
from mcp_extproc.config.values import duration_text, header_name_in

_KEY_MARK = "[key]"

_EXPECTED: Mapping[str, str] = {
    "missing": "required, but missing",
    "string_type": "expected text (numbers, true and false in quotes)",
    "string_unicode": "expected text that is valid Unicode",
    "string_too_short": "expected text that is not empty",
    "string_too_long": "expected at most {max_length} characters",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "int_from_float": "expected a whole number",
    "finite_number": "expected a whole number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "model_type": "expected a mapping (key: value)",
    "mapping_type": "expected a mapping (key: value)",
    "dict_type": "expected a mapping (key: value)",
    "tuple_type": "expected a list",
    "too_short": "expected a list that is not empty",
    "too_long": "expected at most {max_length} entries",
    "greater_than_equal": "expected a number of at least {ge}",
    "less_than_equal": "expected a number of at most {le}",
    "literal_error": "expected {expected}",
}


_CHOICE = re.compile("'([^']*)'")
"""In pydantic's list of what a value may be."""

_BOUNDS = (("ge", "least"), ("le", "most"))


def problems_of(error: ValidationError, model: type[BaseModel], root: Sequence[str] = ()) -> list[Problem]:
    """One problem per error, in the order of the file's sections.

    Args:
        error: raised by `model.model_validate`.
        model: the model, to suggest keys that exist.
        root: path of the validated part in the file.
    """
    details = error.errors(include_url=False)
    # A list is too short to pydantic, too, where what is in it is wrong.
    inside = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}
    details = [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in inside]
    return list(dict.fromkeys(_problem(detail, model, root) for detail in details))


def _problem(detail: ErrorDetails, model: type[BaseModel], root: Sequence[str]) -> Problem:
    path = [*root, *_shown(detail["loc"])]
    if detail["type"] == "extra_forbidden":
        return Problem(_unknown_key(str(detail["loc"][-1]), model, detail["loc"][:-1]), field(path))
    if detail["type"] == "value_error":
        cause = detail["ctx"]["error"]
        if isinstance(cause, PlacedError):
            return Problem(cause.message, field([*path, *cause.path]))
        return Problem(str(cause), field(path))
    # pydantic's own messages may contain the value.
    context = detail.get("ctx", {})
    bounds = [
        f"at {word} {duration_text(context[key])}" for key, word in _BOUNDS if isinstance(context.get(key), float)
    ]
    if bounds:  # All numbers with a fraction are durations.
        return Problem(f"expected a duration of {bounds[0]}", field(path))
    expected = _EXPECTED.get(detail["type"], "not a usable value").format_map(context)
    if detail["type"] == "literal_error":
        expected += _meant(detail["input"], _CHOICE.findall(context["expected"]))
    return Problem(expected, field(path))


def _meant(value: object, choices: Sequence[str]) -> str:
    """A suggestion, which holds nothing of the value."""
    near = difflib.get_close_matches(value.lower(), choices, n=1) if isinstance(value, str) else []
    return f", did you mean {near[0]}?" if near else ""


def _shown(loc: Sequence[str | int]) -> Iterable[str | int]:
    """The location without pydantic's markers, and with header names cut where a credential may have ended up in the key."""
    for before, part in zip((None, *loc), loc, strict=False):
        if part == _KEY_MARK:
            continue
        if before == "headers" and isinstance(part, str):
            start = header_name_in(part)
            part = part if start == part else f"{start}..."
        yield part


def _unknown_key(key: str, model: type[BaseModel], loc: Sequence[str | int]) -> str:
    section = section_at(model, loc)
    known = list(keys_of(section)) if section is not None else []
    if section is not None and issubclass(section, Model) and key in section.elsewhere:
        return f"unknown key: {section.elsewhere[key]}"
    near = difflib.get_close_matches(key, known, n=1) or [name for name in known if name.lower() == key.lower()]
    if near:
        return f"unknown key, did you mean {quoted(near[0])}?"
    place = _other_place(key, model, section)
    if place and not loc:
        return f"unknown key here, it belongs under {place}"
    expected = f"unknown key, expected one of: {', '.join(known)}" if known else "unknown key"
    return f"{expected} ({quoted(key)} is a key of {place})" if place else expected


def _other_place(key: str, model: type[BaseModel], section: type[BaseModel] | None) -> str | None:
    """A section of the model that has a key."""
    for name, info in keys_of(model).items():
        inner = section_of(info.annotation)
        if inner is not None and inner is not section and key in keys_of(inner):
            return f"{name}{'.<name>' if is_mapping(info.annotation) else ''}"
    return None


def empty_sections(data: object, model: type[BaseModel], path: Sequence[str | int] = ()) -> Iterator[Problem]:
    """A problem for each section that is there without keys, as where all of them are commented out. Where a section has no
    default, the model refuses that itself; elsewhere it would be as if the section was not there, and nobody would
    authenticate.

    Args:
        data: as it is written.
        model: of the section.
        path: of the section.
    """
    if not isinstance(data, Mapping):
        return
    for key, info in keys_of(model).items():
        inner = section_of(info.annotation)
        if inner is None or key not in data:
            continue
        value, at = data[key], (*path, key)
        if value is None and info.default is None:
            yield Problem("is empty: write its keys, or leave it out", field(at))
        elif is_mapping(info.annotation) and isinstance(value, Mapping):
            for name, one in value.items():
                yield from empty_sections(one, inner, (*at, name))
        elif is_list(info.annotation) and isinstance(value, list):
            for index, one in enumerate(value):
                yield from empty_sections(one, inner, (*at, index))
        else:
            yield from empty_sections(value, inner, at)


def section_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the section at a location, or None."""
    found: type[BaseModel] | None = model
    parts = iter(loc)
    for part in parts:
        info = keys_of(found).get(str(part)) if found is not None else None
        if info is None:
            return None
        if is_mapping(info.annotation) or is_list(info.annotation):
            next(parts, None)
        found = section_of(info.annotation)
    return found


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section, as they are called in a file: ``from`` can't be a name in Python."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``Model``, ``Model | None``, ``Mapping[str, Model]`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple) or is_mapping(annotation):
        return next((found for inner in get_args(annotation) if (found := section_of(inner)) is not None), None)
    return None


def is_list(annotation: Any) -> bool:
    """Whether a field is a list."""
    return get_origin(annotation) is tuple


def is_mapping(annotation: Any) -> bool:
    """Whether a field is a mapping whose keys are chosen by the user."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)
