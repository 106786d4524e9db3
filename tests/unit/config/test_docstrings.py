"""What stands below the fields of a model."""

from __future__ import annotations

from mcp_extproc.config.base import Model
from mcp_extproc.config.docstrings import field_docstrings
from mcp_extproc.config.schema import json_schema


class Section(Model):
    """Of a test."""

    first: int = 1
    """Indented
    over two lines."""

    bare: int = 2
    last: str = "3"
    """After `bare`."""

    def method(self) -> None:
        """No field's."""


class Longer(Section):
    """Of a test."""

    more: int = 4
    """Of its own."""


def test_each_text_belongs_to_the_field_above_it() -> None:
    assert field_docstrings(Section) == {"first": "Indented\nover two lines.", "last": "After `bare`."}


def test_a_section_has_the_fields_of_those_that_it_extends() -> None:
    assert field_docstrings(Longer) == {**field_docstrings(Section), "more": "Of its own."}


def test_every_key_of_the_configuration_is_described() -> None:
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        assert all(value.get("description") for value in section["properties"].values())
