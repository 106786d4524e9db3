"""envoy.extensions.filters.http.header_to_metadata.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class Config(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
    request_rules: list[ConfigRule] = []
    response_rules: list[ConfigRule] = []
    stat_prefix: str = ''


class ConfigKeyValuePair(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.header_to_metadata.v3.Config.KeyValuePair"
    metadata_namespace: str = ''
    key: str = ''
    value: str = ''


class ConfigRule(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.header_to_metadata.v3.Config.Rule"
    header: str = ''
    cookie: str = ''
    on_header_present: ConfigKeyValuePair | None = None
    on_header_missing: ConfigKeyValuePair | None = None
    remove: bool = False
