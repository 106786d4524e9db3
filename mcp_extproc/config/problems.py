"""pydantic's errors as sentences: the field's path, what was expected, never what was found."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcp_extproc.config.config_error import field, quoted

_KEY_MARK = "[key]"
_TOKEN_START = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")

_EXPECTED: Mapping[str, str] = {
    "missing": "required, and missing",
    "string_type": "expected text (numbers, true and false in quotes)",
    "string_unicode": "expected text that is valid Unicode",
    "string_too_short": "expected text that is not empty",
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
    "greater_than_equal": "expected a number of at least {ge}",
    "less_than_equal": "expected a number of at most {le}",
    "literal_error": "expected {expected}",
}


def problems_of(error: ValidationError, model: type[BaseModel], root: Sequence[str] = ()) -> list[str]:
    """One sentence per error, in the order of the file's sections.

    Args:
        error: what `model.model_validate` raised.
        model: the model, which knows the keys that would have been right.
        root: where the validated part stands in the file.
    """
    details = error.errors(include_url=False, include_input=False)
    return list(dict.fromkeys(_sentence(detail, model, root) for detail in details))


def _sentence(detail: ErrorDetails, model: type[BaseModel], root: Sequence[str]) -> str:
    path = [*root, *_shown(detail["loc"])]
    if detail["type"] == "extra_forbidden":
        return f"{field(path)}: {_unknown_key(str(detail['loc'][-1]), model, detail['loc'][:-1])}"
    if detail["type"] == "value_error":
        expected = str(detail["ctx"]["error"])
    else:
        # A message that we did not write might repeat what it found.
        expected = _EXPECTED.get(detail["type"], "not a usable value").format_map(detail.get("ctx", {}))
    return f"{field(path)}: {expected}" if path else expected


def _shown(loc: Sequence[str | int]) -> Iterable[str | int]:
    """The location without pydantic's marks, and without what may be a credential on the wrong side of a colon."""
    for before, part in zip((None, *loc), loc, strict=False):
        if part == _KEY_MARK:
            continue
        if before == "headers" and isinstance(part, str):
            start = _TOKEN_START.match(part)
            part = part if start is None or start[0] == part else start[0] + "..."
        yield part


def _unknown_key(key: str, model: type[BaseModel], loc: Sequence[str | int]) -> str:
    section = section_at(model, loc)
    known = list(section.model_fields) if section is not None else []
    near = difflib.get_close_matches(key, known, n=1) or [name for name in known if name.lower() == key.lower()]
    if near:
        return f"unknown key, did you mean {quoted(near[0])}?"
    for name, info in model.model_fields.items():
        inner = section_of(info.annotation)
        if inner is not None and inner is not section and key in inner.model_fields:
            return f"unknown key here, it belongs under {name}{'.<name>' if is_mapping(info.annotation) else ''}"
    return f"unknown key, expected one of: {', '.join(known)}" if known else "unknown key"


def section_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the section at a location, None where there is no section."""
    found: type[BaseModel] | None = model
    parts = iter(loc)
    for part in parts:
        info = found.model_fields.get(str(part)) if found is not None else None
        if info is None:
            return None
        if is_mapping(info.annotation) or is_list(info.annotation):
            next(parts, None)
        found = section_of(info.annotation)
    return found


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``Model``, ``Model | None``, ``Mapping[str, Model]`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple) or is_mapping(annotation):
        return next((found for inner in get_args(annotation) if (found := section_of(inner)) is not None), None)
    return None


def is_list(annotation: Any) -> bool:
    """Whether a field holds a list."""
    return get_origin(annotation) is tuple


def is_mapping(annotation: Any) -> bool:
    """Whether a field maps names of the user's choice to something."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)
