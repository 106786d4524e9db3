"""Helpers for messages that repeat in Envoy's configuration."""

from __future__ import annotations

from datetime import timedelta

from mcp_extproc import address as ours
from mcp_extproc.envoy._api.config_core_v3 import (
    Address,
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Pipe,
    SocketAddress,
    SubstitutionFormatString,
    TypedExtensionConfig,
)
from mcp_extproc.envoy.message import Any, Message

ZERO = timedelta(0)
"""Envoy's value for "no timeout"."""


def any_of(message: Message) -> Any:
    """A message as ``google.protobuf.Any``."""
    return Any(message)


def extension(name: str, message: Message) -> TypedExtensionConfig:
    """A named extension."""
    return TypedExtensionConfig(name=name, typed_config=any_of(message))


def envoy_address(address: ours.Address) -> Address:
    """One of our addresses as Envoy's. Unix sockets are created for their owner only."""
    if isinstance(address, ours.UnixAddress):
        return Address(pipe=Pipe(path=address.path, mode=0o600))
    return socket_address(address.host, address.port)


def socket_address(host: str, port: int) -> Address:
    """A TCP address."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def header(name: str, value: str) -> HeaderValueOption:
    """A header that overwrites existing values."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def text_format(text: str) -> SubstitutionFormatString:
    """A text format in Envoy's substitution language."""
    return SubstitutionFormatString(text_format_source=DataSource(inline_string=text))


def seconds(value: float) -> timedelta:
    """A duration."""
    return timedelta(seconds=value)
