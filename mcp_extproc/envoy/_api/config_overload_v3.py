"""envoy.config.overload.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from mcp_extproc.envoy.message import Any, Message


class BufferFactoryConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.BufferFactoryConfig"
    minimum_account_to_track_power_of_two: int = 0


class OverloadAction(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.OverloadAction"
    name: str = ''
    triggers: list[Trigger] = []
    typed_config: Any | None = None


class OverloadManager(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.OverloadManager"
    refresh_interval: timedelta | None = None
    resource_monitors: list[ResourceMonitor] = []
    actions: list[OverloadAction] = []
    buffer_factory_config: BufferFactoryConfig | None = None


class ResourceMonitor(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.ResourceMonitor"
    name: str = ''
    typed_config: Any | None = None


class ScaledTrigger(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.ScaledTrigger"
    scaling_threshold: float = 0.0
    saturation_threshold: float = 0.0


class ThresholdTrigger(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.ThresholdTrigger"
    value: float = 0.0


class Trigger(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.overload.v3.Trigger"
    name: str = ''
    threshold: ThresholdTrigger | None = None
    scaled: ScaledTrigger | None = None
