"""The keys of documents, from the models that read them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from mcp_extproc.config.problems import is_list, keys_of, section_of


def keys(model: type[BaseModel], start: str = "") -> Iterator[str]:
    """Paths of all keys below a section that lead to no other section, such as ``backendRefs[].name``."""
    for name, info in keys_of(model).items():
        path = f"{start}{name}{'[]' if is_list(info.annotation) and section_of(info.annotation) else ''}"
        inner = section_of(info.annotation)
        if inner is None:
            yield path
        else:
            yield from keys(inner, f"{path}.")
