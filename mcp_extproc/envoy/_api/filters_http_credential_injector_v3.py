"""envoy.extensions.filters.http.credential_injector.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class CredentialInjector(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector"
    overwrite: bool = False
    allow_request_without_credential: bool = False
    credential: config_core_v3.TypedExtensionConfig | None = None
