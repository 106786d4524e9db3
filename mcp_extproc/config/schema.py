"""The JSON Schema of the native format, and docs/configuration.md, both generated from the model.

``python -m mcp_extproc.config.schema`` prints the latter.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from mcp_extproc.config import bounds, reference_text
from mcp_extproc.config.docstrings import field_docstrings
from mcp_extproc.config.model import SERVER_NAME_PATTERN, GatewayConfig
from mcp_extproc.config.problems import is_list, is_mapping, keys_of, section_of
from mcp_extproc.config.server_entry import CLIENT_KEYS, KEYS
from mcp_extproc.config.values import MAX_SIZE, Seconds, Size, duration_text
from mcp_extproc.config.virtual_servers import ALL, NAME_PATTERN

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "A variable, such as ${PORT}."}


# pydantic writes the constraints of a validator that it can't look into under its own names.
_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _standard(schema: Any) -> Any:
    """A schema with JSON Schema's keywords for bounds."""
    if isinstance(schema, dict):
        # Under another key than these, a number is never a schema, so that properties may have any name.
        return {
            _KEYWORDS.get(key, key) if isinstance(value, int | float) else key: _standard(value)
            for key, value in schema.items()
        }
    return [_standard(item) for item in schema] if isinstance(schema, list) else schema


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the native format, before variables are replaced."""
    schema: dict[str, Any] = _standard(GatewayConfig.model_json_schema())
    sections = {model.__name__: model for _, model in _sections(GatewayConfig)}
    _describe(schema, GatewayConfig)
    for name, section in schema["$defs"].items():
        _describe(section, sections[name])
    schema["properties"]["servers"] |= {"minProperties": 1, "propertyNames": {"pattern": f"^{SERVER_NAME_PATTERN}$"}}
    schema["required"] = []
    schema["anyOf"] = [{"required": ["servers"]}, {"required": ["pass_through"]}, {"required": ["include"]}]
    virtual = schema["$defs"]["VirtualServer"]["properties"]["servers"]
    virtual["additionalProperties"] = {"anyOf": [{"enum": [ALL]}, virtual["additionalProperties"]]}
    schema["properties"]["virtual_servers"]["propertyNames"] = {"pattern": f"^{NAME_PATTERN}$"}
    schema["$defs"]["Server"]["oneOf"] = [{"required": ["url"]}, {"required": ["endpoints"]}, {"required": ["command"]}]
    schema["$defs"] = {name: _with_variables(section) for name, section in schema["$defs"].items()}
    return {"$schema": _DIALECT, **_with_variables(schema), "title": "mcp-extproc configuration"}


def _describe(section: dict[str, Any], model: type[BaseModel]) -> None:
    """Add what the model's fields mean."""
    for name, meaning in _meanings(model).items():
        section["properties"][name]["description"] = meaning


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below the fields, by key."""
    texts = field_docstrings(model)
    return {key: texts[name] for key, name in zip(keys_of(model), model.model_fields, strict=True) if name in texts}


def _with_variables(section: dict[str, Any]) -> dict[str, Any]:
    """Allow a variable in place of any type, since substitution comes before validation."""
    properties = {key: _or_variable(value) for key, value in section["properties"].items()}
    return section | {"properties": properties}


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        about = {key: value for key, value in schema.items() if key in ("title", "description", "default", "examples")}
        constraint = {key: value for key, value in schema.items() if key not in about}
        return {"anyOf": [constraint, _VARIABLE], **about}
    if any(_is_scalar(choice) for choice in schema.get("anyOf", ())):
        return schema | {"anyOf": [*schema["anyOf"], _VARIABLE]}
    return schema


def _is_scalar(choice: dict[str, Any]) -> bool:
    """Whether a choice is a number, a duration, a size or a word of a list: anything but free text, for which a variable needs
    no exception."""
    return choice.get("type") in ("integer", "number", "boolean") or not {"pattern", "anyOf", "enum"}.isdisjoint(choice)


def reference_markdown() -> str:
    """The text of docs/configuration.md."""
    parts = [
        reference_text.INTRODUCTION,
        "## A complete example\n",
        f"```yaml\n{reference_text.EXAMPLE}```\n",
        "## Keys\n",
        *(_section(title, model) for title, model in _described_once(_sections(GatewayConfig))),
        reference_text.VALUES,
        reference_text.VARIABLES,
        _mcp_servers(),
        _limits(),
        reference_text.ERRORS,
    ]
    return "\n".join(parts)


def _sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, info in keys_of(model).items():
        inner = section_of(info.annotation)
        if inner is not None:
            here = f"{path}.{name}" if path else name
            inside = ".<name>" if is_mapping(info.annotation) else "[]" if is_list(info.annotation) else ""
            yield from _sections(inner, here + inside)


def _described_once(sections: Iterator[tuple[str, type[BaseModel]]]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Without the sections of a virtual server whose keys are those of the top level's."""
    seen = set()
    for title, model in sections:
        if model not in seen or not title.startswith("virtual_servers"):
            seen.add(model)
            yield title, model


def _section(title: str, model: type[BaseModel]) -> str:
    properties = _standard(model.model_json_schema(mode="validation")["properties"])
    meanings = _meanings(model)
    rows = [_row(name, info, properties[name], meanings[name]) for name, info in keys_of(model).items()]
    heading = f"### `{title}`" if title else "### Top level"
    return f"{heading}\n\n{_one_line(model.__doc__ or '')}\n\n{_table(('key', 'type', 'default', 'meaning'), rows)}"


# Docstrings describe the meaning of None as "Default: ...".
_DEFAULT_IN_WORDS = re.compile(r" ?Default: (?P<words>.+?)\.(?= |$)")


def _row(name: str, info: FieldInfo, schema: dict[str, Any], meaning: str) -> tuple[str, str, str, str]:
    meaning = _one_line(meaning)
    default = _default(info, schema)
    if in_words := _DEFAULT_IN_WORDS.search(meaning):
        default = in_words["words"]
        meaning = meaning.replace(in_words[0], "", 1)
    return f"`{name}`", _type(info, schema), default, meaning


_DURATION_SCHEMA = TypeAdapter(Seconds).json_schema()["anyOf"]
_SIZE_SCHEMA = TypeAdapter(Size).json_schema()["anyOf"]


def _type(info: FieldInfo, schema: dict[str, Any]) -> str:
    if section_of(info.annotation) is not None:
        if is_list(info.annotation):
            return "list of sections"
        return "mapping of sections" if is_mapping(info.annotation) else "section"
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1 and "anyOf" in choices[0]:
        choices = choices[0]["anyOf"]  # a bound around a duration
    if choices == _DURATION_SCHEMA:
        return "duration"
    if choices == _SIZE_SCHEMA:
        return "size"
    if len(choices) == 2 and choices[0].get("enum") == [ALL]:
        return f"`{ALL}` or {_scalar_type(choices[1])}"
    return _scalar_type(schema if not choices else choices[0])


def _scalar_type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    match schema["type"]:
        case "integer":
            low, high = schema.get("minimum"), schema.get("maximum")
            return f"whole number, {low} to {high}" if high is not None else f"whole number from {low}"
        case "number":
            return f"number, {schema['minimum']:g} to {schema['maximum']:g}"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return _list_type(schema["items"])
        case "object":
            values = schema.get("additionalProperties")
            of_mappings = isinstance(values, dict) and values.get("type") == "object"
            return "mapping of mappings" if of_mappings else "mapping of text to text"
        case _:
            return "text"


def _list_type(items: dict[str, Any]) -> str:
    if "enum" in items:
        return "list of " + ", ".join(f"`{choice}`" for choice in items["enum"])
    return "list of mappings" if items.get("type") == "object" else "list of text"


def _default(info: FieldInfo, schema: dict[str, Any]) -> str:
    value = info.default
    kind = _type(info, schema)
    if info.is_required():
        return "required"
    if value is None or value == () or info.default_factory is not None:
        return "none"
    if kind == "section":
        return "see its keys"
    if kind == "duration":
        return f"`{duration_text(value)}`"
    if kind == "size":
        return f"`{_size_text(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _size_text(size: int) -> str:
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % length == 0:
            return f"{size // length}{unit}"
    return f"{size}B"


def _mcp_servers() -> str:
    rows = [(f"`{key}`", meaning) for key, meaning in KEYS.items()]
    ignored = ", ".join(f"`{key}`" for key in CLIENT_KEYS)
    return "\n".join([
        reference_text.MCP_SERVERS,
        _table(("key", "meaning"), rows),
        reference_text.MCP_SERVERS_REST.format(ignored=ignored),
    ])  # fmt: skip


def _limits() -> str:
    rows = [
        ("size of the file", f"{_size_text(bounds.FILE_BYTES)}"),
        ("nesting of mappings and lists", f"{bounds.DEPTH} levels"),
        ("keys and values, counting YAML aliases at each use", f"{bounds.VALUES}"),
        ("a server's name", "1 to 48 characters out of `A-Z a-z 0-9 _ . -`, first and last a letter or digit"),
        ("`prefix`", "0 to 48 characters out of `A-Z a-z 0-9 _ . -`"),
        ("`separator`", "1 to 8 characters out of `A-Z a-z 0-9 _ . / : -`; a server's may be empty"),
        ("a size", f"1B to {_size_text(MAX_SIZE)}"),
        ("a duration", "more than zero, less than ten years"),
        ("a session secret", "32 characters or more"),
    ]
    return "\n".join([reference_text.LIMITS, _table(("what", "limit"), rows)])


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
