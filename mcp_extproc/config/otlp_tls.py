"""What TLS with a receiver of OTLP takes, from files in PEM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcp_extproc.config.config_error import ConfigError
from mcp_extproc.config.text_file import text_in
from mcp_extproc.pem import TlsError, load_authorities, load_pair

if TYPE_CHECKING:
    import ssl

_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class OtlpTls:
    """Files, whose paths may be secrets by mistake.

    Attributes:
        ca: certificates, one of which the receiver's is issued by; ``None`` for those of this machine.
        certificate, key: the client's; ``None`` where it has none.
    """

    ca: Path | None = field(default=None, repr=False)
    certificate: Path | None = field(default=None, repr=False)
    key: Path | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Path]:
        return (file for file in (self.ca, self.certificate, self.key) if file is not None)


@dataclass(frozen=True, slots=True, eq=False)
class ClientTls:
    """Content of the files at one time, verified to match: for HTTP the context, for gRPC the rest."""

    context: ssl.SSLContext
    ca: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)


def read(files: OtlpTls) -> ClientTls:
    """What a client needs.

    Raises:
        TlsError: they can't be used.
    """
    import ssl  # loads OpenSSL, which is rarely needed where this is imported

    ca, certificate, key = (
        None if file is None else _content(file) for file in (files.ca, files.certificate, files.key)
    )
    context = ssl.create_default_context() if files.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if files.ca is not None:
        load_authorities(context, files.ca)
    if files.certificate is not None and files.key is not None:
        load_pair(context, files.certificate, files.key)
    return ClientTls(context, ca, certificate, key)


def _content(file: Path) -> bytes:
    try:
        return text_in(file, _MAX_BYTES).encode()
    except ConfigError as error:
        raise TlsError((file,), error.problems[0].message) from None
