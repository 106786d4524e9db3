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
    """:data:`LISTENER`, with a number for further ones, or :func:`of_server`."""
    path: tuple[str | int, ...]
    """Of its key in the configuration."""
    certificate: str
    key: str = field(repr=False)

    @property
    def file(self) -> str:
        """Name of the file for Envoy. No server is called so."""
        return f"{SECRETS_START}certificate+{self.owner.replace('/', '+')}.json"


def present(context: CommonTlsContext, tls: UpstreamTls | ListenTls, owner: str, folder: Path | None) -> None:
    """Present the certificates that a section names, if it names any. Of several, Envoy takes the first that has the name
    which is asked for.

    Args:
        context: of the connections.
        tls: the section.
        owner: :data:`LISTENER`, or :func:`of_server`.
        folder: of files with secrets, as Envoy sees it; without one none is presented that stands in the configuration.
    """
    pairs = (
        [(one.certificate, one.key) for one in tls.all]
        if isinstance(tls, ListenTls)
        else [(tls.client_certificate, tls.client_key)]
    )
    if pairs[0][0] is not None:
        files = [[DataSource(filename=name) for name in pair] for pair in pairs]
        context.tls_certificates = [TlsCertificate(certificate_chain=chain, private_key=key) for chain, key in files]
    elif folder is not None:
        context.tls_certificate_sds_secret_configs = [
            SdsSecretConfig(name=inline.owner, sds_config=_read_from(folder / inline.file))
            for inline in _inline_in(tls, owner)
        ]


def _read_from(file: Path) -> ConfigSource:
    source = PathConfigSource(path=str(file))
    return ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)


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
        if server.tls is not None:
            yield from _inline_in(server.tls, of_server(name))


def of_listener(config: GatewayConfig) -> Iterator[Inline]:
    """Those which clients get."""
    if config.listen.tls is not None:
        yield from _inline_in(config.listen.tls, LISTENER)


def _inline_in(tls: UpstreamTls | ListenTls, owner: str) -> Iterator[Inline]:
    if isinstance(tls, ListenTls):
        for number, one in enumerate(tls.all):
            within = () if number == 0 else ("more", number - 1)
            if one.certificate_inline is not None and one.key_inline is not None:
                key = one.key_inline.get_secret_value()
                name = owner if number == 0 else f"{owner}/{number + 1}"
                yield Inline(name, ("listen", "tls", *within, "key_inline"), one.certificate_inline, key)
    elif tls.client_certificate_inline is not None and tls.client_key_inline is not None:
        path = ("servers", owner.removeprefix(_OF_SERVER), "tls", "client_key_inline")
        yield Inline(owner, path, tls.client_certificate_inline, tls.client_key_inline.get_secret_value())
