"""What all Kubernetes objects share: the form of their sections, and their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from mcp_extproc.config.base import Model

DEFAULT_NAMESPACE = "default"


class Section(Model):
    """A section of an object. Its keys are written in camel case, and unknown ones are errors, as with
    ``kubectl --validate=strict``."""

    meaningless: ClassVar[frozenset[str]] = frozenset()
    """Keys that the section has in Kubernetes, and that have no meaning here."""

    model_config = ConfigDict(alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None and key not in cls.meaningless}


_OF_KUBERNETES: Final = frozenset({
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "labels", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
})  # fmt: skip


class Metadata(Section):
    """Of an object. What Kubernetes itself writes there, and labels, have no meaning here."""

    meaningless = _OF_KUBERNETES

    name: str = Field(min_length=1, max_length=253)
    namespace: str = Field(default=DEFAULT_NAMESPACE, min_length=1, max_length=63)
    annotations: Mapping[str, str] | None = None


Spec = TypeVar("Spec")


class Object(Section, Generic[Spec]):
    """An object with a ``spec``."""

    api_version: str
    kind: str
    metadata: Metadata
    spec: Spec
    status: Any = None
    """What a controller wrote. It has no meaning here."""


Item = TypeVar("Item")
Items = tuple[Item, ...]
"""A list that may be absent."""

Name = Annotated[str, Field(min_length=1, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
