"""Rendering Envoy's configuration is most of the work of starting a gateway, and the tests start hundreds.

Most of rendering is that betterproto2 (0.9 and 0.10) evaluates a message's annotations, and builds the validator of its class,
anew for each message. Both are the same for all messages of a class, and are kept here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pydantic_core
from betterproto2 import Message


def install() -> None:
    """Have this process render three times as fast."""
    base: Any = Message
    keep: Any = cache
    validator = keep(lambda kind: pydantic_core.SchemaValidator(kind.__pydantic_core_schema__))

    def validate(message: Any) -> None:
        fields = message.__dict__.copy()
        del fields["_unknown_fields"]
        validator(type(message)).validate_python(fields)

    base._type_hints = classmethod(keep(base._type_hints.__func__))
    base._validate = validate
