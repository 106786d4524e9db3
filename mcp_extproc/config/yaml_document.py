"""One YAML document of a text, as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One of a stream of YAML documents."""

    data: Any = field(repr=False)
    """As :func:`mcp_extproc.config.yaml_text.parse_yaml` gives it."""
    lines: Mapping[str, int] = field(repr=False)
    """By path, as :func:`mcp_extproc.config.config_error.field` writes it. That of the document has the empty path."""
