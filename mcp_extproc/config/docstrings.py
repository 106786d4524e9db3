"""The docstrings below the fields of a model, from its source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from textwrap import dedent

from mcp_extproc.config.base import Model


@cache
def field_docstrings(model: type) -> Mapping[str, str]:
    """The text below each field of a class, and of those that it extends.

    Raises:
        OSError: the source of a class can't be read.
    """
    found: dict[str, str] = {}
    for section in reversed(model.__mro__):
        if issubclass(section, Model) and section is not Model:
            found |= _own(section)
    return found


def _own(model: type) -> Mapping[str, str]:
    [definition] = ast.parse(dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
