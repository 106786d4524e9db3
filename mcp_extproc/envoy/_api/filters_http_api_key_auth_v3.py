"""envoy.extensions.filters.http.api_key_auth.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class ApiKeyAuth(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"
    credentials: list[Credential] = []
    key_sources: list[KeySource] = []
    forwarding: Forwarding | None = None


class ApiKeyAuthPerRoute(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"
    credentials: list[Credential] = []
    key_sources: list[KeySource] = []
    allowed_clients: list[str] = []
    forwarding: Forwarding | None = None


class Credential(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.api_key_auth.v3.Credential"
    key: str = ''
    client: str = ''


class Forwarding(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.api_key_auth.v3.Forwarding"
    header: str = ''
    hide_credentials: bool = False


class KeySource(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.api_key_auth.v3.KeySource"
    header: str = ''
    query: str = ''
    cookie: str = ''
