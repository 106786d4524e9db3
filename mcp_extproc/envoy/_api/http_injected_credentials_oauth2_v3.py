"""envoy.extensions.http.injected_credentials.oauth2.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, transport_sockets_tls_v3


class OAuth2AuthType(StrEnum):
    BASIC_AUTH = "BASIC_AUTH"
    URL_ENCODED_BODY = "URL_ENCODED_BODY"


class OAuth2(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2"
    token_endpoint: config_core_v3.HttpUri | None = None
    scopes: list[str] = []
    client_credentials: OAuth2ClientCredentials | None = None
    token_fetch_retry_interval: timedelta | None = None
    endpoint_params: list[OAuth2EndpointParameter] = []


class OAuth2ClientCredentials(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2.ClientCredentials"
    client_id: str = ''
    client_secret: transport_sockets_tls_v3.SdsSecretConfig | None = None
    auth_type: OAuth2AuthType = OAuth2AuthType.BASIC_AUTH


class OAuth2EndpointParameter(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2.EndpointParameter"
    name: str = ''
    value: str = ''
