"""Scalar types of the configuration: durations, sizes, header names, secrets.

Each accepts readable text (``30s``, ``4MiB``), stores one plain type, and gives an example in its error.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, WithJsonSchema

from mcp_extproc.config.patterns import matcher

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d{1,12})\s*(B|KiB|MiB|GiB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

MAX_SIZE = 1 << 30
"""Maximum size, in bytes. It fits gRPC's message limit (int32) and Envoy's buffer limit (uint32)."""

# RFC 9110 section 5.6.2: a field name is a token.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def parse_duration(value: Any) -> float:
    """Seconds from a number or from text such as ``250ms``, ``30s``, ``5m``, ``1h30m``.

    Raises:
        ValueError: the text is not a duration, or not between zero and ten years (exclusive).
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Not converted yet: an int may be too large for a float. The comparison below accepts both.
        seconds: float = value
    elif isinstance(value, str):
        parts = _DURATION.findall(value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            raise ValueError("expected a duration such as 250ms, 30s or 5m")
        seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    else:
        raise ValueError("expected a duration such as 250ms, 30s or 5m")
    if not 0 < seconds < 10 * 365 * 86400:
        raise ValueError("expected a duration greater than zero and less than ten years")
    return float(seconds)


def duration_text(seconds: float) -> str:
    """How a duration is written, such as ``5m``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def parse_size(value: Any) -> int:
    """Bytes from a number or from text such as ``64KiB`` or ``4MiB``.

    Raises:
        ValueError: the text is not a size, or not between 1 and `MAX_SIZE`.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("expected a size such as 65536, 64KiB or 4MiB")
        size = int(match[1]) * _SIZE_UNITS[match[2]]
    if not 0 < size <= MAX_SIZE:
        raise ValueError("expected a size from 1B to 1GiB")
    return size


def _no_bool(value: Any) -> Any:
    # bool is a subclass of int, but `port: true` is a mistake.
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


def is_header_name(name: str) -> bool:
    """Whether a header can have this name (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


def header_name_in(text: str) -> str:
    """What a text begins with that could be a header's name."""
    found = _TOKEN.match(text)
    return "" if found is None else found[0]


def _header_name(name: str) -> str:
    if not is_header_name(name):
        raise ValueError("expected a header's name, of letters, digits and -")
    return name


def _header_key(name: str) -> str:
    if not is_header_name(name):
        # Not repeated in the error: without a space after the colon, the value is part of the key.
        raise ValueError("expected a header name (letters, digits and -) followed by a colon and a space")
    return name


def header_value(value: SecretStr) -> SecretStr:
    """What may stand in a header (RFC 9110 section 5.5).

    Raises:
        ValueError: it may not.
    """
    # The value may be a credential and is never repeated in the error.
    text = value.get_secret_value()
    if any((ord(char) < 0x20 and char != "\t") or ord(char) == 0x7F for char in text):
        raise ValueError("control characters, CR and LF are not allowed in a header value")
    if text != text.strip(" \t"):
        raise ValueError("a header value must not start or end with a space or tab")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("only characters of ISO-8859-1 are allowed in a header value") from None
    return value


def absolute_path(value: str) -> str:
    """A path that is matched exactly.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*", value) or "//" in value:
        raise ValueError("expected an absolute path such as /mcp, without query or fragment")
    if value.startswith("/.well-known/oauth-"):
        raise ValueError("documents for OAuth clients are at such paths (RFC 9728): use another one, such as /mcp")
    return value


def host_name(value: str) -> str:
    """A host name or address in lower case, without brackets and without a dot at the end.

    Raises:
        ValueError: it is none.
    """
    name = value.strip("[]").removesuffix(".").lower()
    if not _HOST.fullmatch(name):
        raise ValueError("expected host names without scheme, port and path, such as host.docker.internal")
    return name


def _origin(value: str) -> str:
    value = value.lower()
    try:
        parts = urlsplit(value)
        _ = parts.port  # up to 65535
    except ValueError:
        parts = urlsplit("")
    if value != "*" and (not parts.scheme or not parts.netloc or value != f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("expected an origin, scheme://host[:port], such as https://app.example.com")
    return value


def _regex(pattern: str) -> str:
    matcher(pattern)
    return pattern


_K = TypeVar("_K")
_V = TypeVar("_V")


def freeze(mapping: dict[_K, _V]) -> dict[_K, _V]:
    """A read-only view, typed as a dict for pydantic and mypy."""
    return MappingProxyType(mapping)  # type: ignore[return-value]


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"},
            ],
            "examples": ["250ms", "30s", "5m"],
        }
    ),
]
"""A duration, in seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\d+\s*(B|KiB|MiB|GiB)?$"}],
            "examples": ["64KiB", "4MiB"],
        }
    ),
]
"""An amount of data, in bytes."""

WholeNumber = Annotated[int, BeforeValidator(_no_bool)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderKey = Annotated[str, AfterValidator(_header_key)]
"""The same, as the key of a mapping."""
HeaderValue = Annotated[SecretStr, AfterValidator(header_value)]
Regex = Annotated[str, AfterValidator(_regex)]
Origin = Annotated[str, AfterValidator(_origin)]
