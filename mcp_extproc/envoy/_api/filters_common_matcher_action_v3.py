"""envoy.extensions.filters.common.matcher.action.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class SkipFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
