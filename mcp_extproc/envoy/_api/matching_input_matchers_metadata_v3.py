"""envoy.extensions.matching.input_matchers.metadata.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import type_matcher_v3


class Metadata(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.matching.input_matchers.metadata.v3.Metadata"
    value: type_matcher_v3.ValueMatcher | None = None
    invert: bool = False
