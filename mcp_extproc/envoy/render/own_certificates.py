"""The certificates that Envoy presents, to servers and to clients: from the operator's files, or from the configuration.

A key that stands in the configuration is in a file of its own, which Envoy reads by SDS: Envoy shows no such key, and takes
another one without a new listener or cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcp_extproc.config import GatewayConfig, UpstreamTls
from mcp_extproc.config.config_error import Problem
from mcp_extproc.config.config_error import field as field_path
from mcp_extproc.config.tls import ListenTls
from mcp_extproc.envoy._api.config_core_v3 import ApiVersion, ConfigSource, DataSource, PathConfigSource
from mcp_extproc.envoy._api.transport_sockets_tls_v3 import CommonTlsContext, SdsSecretConfig, TlsCertificate
from mcp_extproc.envoy.layout import SECRETS_START

LISTENER: Final = "listen"
_OF_SERVER: Final = "server/"


def of_server(name: str) -> str:
    """The name of the certificate that a server gets."""
    return f"{_OF_SERVER}{name}"


@dataclass(frozen=True, slots=True)
class Inline:
    """A certificate that stands in the configuration."""

    owner: str
    """:data:`LISTENER`, or :func:`of_server`."""
    path: tuple[str, ...]
    """Of its key in the configuration."""
    certificate: str
    key: str = field(repr=False)

    @property
    def file(self) -> str:
        """Name of the file for Envoy. No server is called so."""
        return f"{SECRETS_START}certificate+{self.owner.replace('/', '+')}.json"


def present(context: CommonTlsContext, tls: UpstreamTls | ListenTls, owner: str, folder: Path | None) -> None:
    """Present the certificate that a section names, if it names any.

    Args:
        context: of the connections.
        tls: the section.
        owner: :data:`LISTENER`, or :func:`of_server`.
        folder: of files with secrets, as Envoy sees it; without one none is presented that stands in the configuration.
    """
    files = (tls.certificate, tls.key) if isinstance(tls, ListenTls) else (tls.client_certificate, tls.client_key)
    if files[0] is not None:
        chain, key = (DataSource(filename=name) for name in files)
        context.tls_certificates = [TlsCertificate(certificate_chain=chain, private_key=key)]
    elif (inline := _inline_in(tls, owner)) is not None and folder is not None:
        source = PathConfigSource(path=str(folder / inline.file))
        sds = ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)
        context.tls_certificate_sds_secret_configs = [SdsSecretConfig(name=owner, sds_config=sds)]


def secrets(config: GatewayConfig) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """The files with such keys: name, content, and the secret in it. Only their owner may read them."""
    for inline in (*of_servers(config), *of_listener(config)):
        secret = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": inline.owner,
            "tls_certificate": {
                "certificate_chain": {"inline_string": inline.certificate},
                "private_key": {"inline_string": inline.key},
            },
        }
        yield inline.file, {"resources": [secret]}, inline.key


def needing_files(found: Iterable[Inline]) -> Iterator[Problem]:
    """Problems for an Envoy that reads no files of ours besides its bootstrap."""
    for inline in found:
        yield Problem(
            "Envoy reads this key from a file beside its configuration, which what is printed can't have: put certificate and"
            " key into files and name them here, or start Envoy with `mcp-extproc run`, or with the files of `mcp-extproc"
            " serve --envoy-config`",
            field_path(inline.path),
        )


def of_servers(config: GatewayConfig) -> Iterator[Inline]:
    """Those that servers get."""
    for name, server in config.servers.items():
        if server.tls is not None and (inline := _inline_in(server.tls, of_server(name))) is not None:
            yield inline


def of_listener(config: GatewayConfig) -> Iterator[Inline]:
    """That which clients get."""
    if config.listen.tls is not None and (inline := _inline_in(config.listen.tls, LISTENER)) is not None:
        yield inline


def _inline_in(tls: UpstreamTls | ListenTls, owner: str) -> Inline | None:
    if isinstance(tls, ListenTls):
        path: tuple[str, ...] = ("listen", "tls", "key_inline")
        chain, key = tls.certificate_inline, tls.key_inline
    else:
        path = ("servers", owner.removeprefix(_OF_SERVER), "tls", "client_key_inline")
        chain, key = tls.client_certificate_inline, tls.client_key_inline
    return None if chain is None or key is None else Inline(owner, path, chain, key.get_secret_value())
