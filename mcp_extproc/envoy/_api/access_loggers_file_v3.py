"""envoy.extensions.access_loggers.file.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message, Struct

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class FileAccessLog(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    path: str = ''
    format: str | None = None
    json_format: Struct | None = None
    typed_json_format: Struct | None = None
    log_format: config_core_v3.SubstitutionFormatString | None = None
