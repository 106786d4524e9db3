"""YAML text to plain data, by a strict subset of YAML.

Plain scalars follow the core schema of YAML 1.2: ``no`` and ``2024-01-01`` are text, and ``10:20`` is not 620. Duplicate keys,
keys that are not text, and tags are errors. Anchors, aliases and merge keys work within bounds.
"""

from __future__ import annotations

from typing import Any

from mcp_extproc.config.yaml_document import YamlDocument


def parse_yaml(text: str, name: str) -> Any:
    """Dicts with text keys, lists and scalars from one YAML document. None if it is empty.

    Raises:
        ConfigError: the text is not YAML, or violates a rule above or a bound of `mcp_extproc.config.bounds`.
    """
    from mcp_extproc.config.yaml_reader import data_in  # PyYAML takes a megabyte, and configurations in JSON do without

    return data_in(text, name)


def parse_documents(text: str, name: str) -> list[YamlDocument]:
    """All YAML documents of a text, without those that are empty.

    Raises:
        ConfigError: as :func:`parse_yaml`. The bounds are those of the whole text.
    """
    from mcp_extproc.config.yaml_reader import documents_in

    return documents_in(text, name)
