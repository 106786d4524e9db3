"""TLS, to servers and to clients."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError

_ALT_NAME: Final = re.compile(r"[!-~]{1,253}")
_CERTIFICATES: Final = re.compile(
    r"(?:\s*(?:#[^\n]*\n)*\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,65536}-----END CERTIFICATE-----)+\s*"
)
_NOT_PEM: Final = "expected PEM certificates, each from -----BEGIN CERTIFICATE----- to its end"
_WORD: Final = re.compile(r"[A-Za-z0-9_:+|\[\]-]{1,128}")

_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/cert.pem",  # macOS, BSD
)

TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]


class UpstreamTls(Model):
    """TLS to a server. Without this section, an https server's certificate is verified against the system's CAs and the URL's
    host name."""

    ca: str | None = Field(default=None, min_length=1)
    """File of PEM CA certificates to trust instead of the system's."""

    ca_inline: str | None = Field(default=None, min_length=1)
    """The same certificates themselves, PEM text. Not with `ca`."""

    sni: str | None = Field(default=None, min_length=1)
    """Server name sent in the handshake and expected in the certificate. Default: the URL's host."""

    subject_alt_names: tuple[str, ...] = ()
    """Names of which the certificate has to have one, instead of the server name: DNS names, IP addresses, or URIs such as
    `spiffe://example.org/tools`."""

    client_certificate: str | None = Field(default=None, min_length=1)
    """File of the PEM certificate chain presented to the server."""

    client_key: str | None = Field(default=None, min_length=1)
    """File of the PEM private key of `client_certificate`."""

    client_certificate_inline: str | None = Field(default=None, min_length=1)
    """The same chain itself, PEM text. Not with `client_certificate`."""

    client_key_inline: SecretStr | None = None
    """The private key of `client_certificate_inline` itself, PEM text. It is never printed: Envoy reads it from a file of its
    own, for its owner alone, which `run` and `serve --envoy-config` write."""

    min_version: TlsVersion | None = None
    """Lowest version of TLS. Default: 1.2."""

    max_version: TlsVersion | None = None
    """Highest version of TLS. Default: 1.3."""

    ciphers: tuple[str, ...] = ()
    """Cipher suites for TLS up to 1.2, by BoringSSL's names, such as `ECDHE-RSA-AES128-GCM-SHA256`. Default: Envoy's."""

    ecdh_curves: tuple[str, ...] = ()
    """Curves for the key exchange, such as `X25519`. Default: Envoy's."""

    signature_algorithms: tuple[str, ...] = ()
    """Algorithms of signatures, such as `ecdsa_secp256r1_sha256`. Default: Envoy's."""

    insecure_skip_verify: bool = False
    """Accept any certificate. For tests only."""

    @model_validator(mode="after")
    def _fit(self) -> UpstreamTls:
        check_certificate(self, "client_certificate", "client_key")
        verified = [key for key in ("ca", "ca_inline", "subject_alt_names") if getattr(self, key)]
        if self.insecure_skip_verify and verified:
            raise ValueError(f"{verified[0]} and insecure_skip_verify exclude each other")
        if self.ca is not None and self.ca_inline is not None:
            raise ValueError("ca and ca_inline exclude each other")
        if (self.min_version or "1.2") > (self.max_version or "1.3"):
            raise ValueError("min_version is above max_version")
        return self

    @field_validator("ca_inline")
    @classmethod
    def _pem(cls, value: str | None) -> str | None:
        if value is not None and not _CERTIFICATES.fullmatch(value):
            raise ValueError(_NOT_PEM)
        return value

    @field_validator("subject_alt_names")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_ALT_NAME.fullmatch(name) for name in value):
            raise ValueError("expected DNS names, IP addresses or URIs")
        return value

    @field_validator("ciphers", "ecdh_curves", "signature_algorithms")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_WORD.fullmatch, value)):
            raise ValueError("expected names as BoringSSL has them")
        return value


class ClientsCertificate(Model):
    """A certificate that clients are shown."""

    certificate: str | None = Field(default=None, min_length=1)
    """File of the PEM certificate chain."""

    key: str | None = Field(default=None, min_length=1)
    """File of its PEM private key."""

    certificate_inline: str | None = Field(default=None, min_length=1)
    """The chain itself, PEM text, in place of a file."""

    key_inline: SecretStr | None = None
    """Its private key itself, PEM text. It is never printed: Envoy reads it from a file of its own, for its owner alone, which
    `run` and `serve --envoy-config` write."""

    @model_validator(mode="after")
    def _given(self) -> ClientsCertificate:
        check_certificate(self, "certificate", "key")
        if self.certificate is None and self.certificate_inline is None:
            raise ValueError("give certificate and key, or certificate_inline and key_inline")
        return self


class ListenTls(ClientsCertificate):
    """TLS to clients."""

    more: tuple[ClientsCertificate, ...] = Field(default=(), max_length=31)
    """Further certificates: a client is shown the first one of all that has the host name which it asks for (SNI), or else
    the one above. All are files, or all stand here."""

    client_ca: str | None = Field(default=None, min_length=1)
    """File of PEM CA certificates. If given, clients have to present a certificate signed by one of them."""

    alpn: tuple[Literal["h2", "http/1.1"], ...] = ("h2", "http/1.1")
    """Protocols offered (ALPN), in order of preference."""

    @model_validator(mode="after")
    def _fit(self) -> ListenTls:
        if len({one.certificate is None for one in self.all}) > 1:
            raise PlacedError(("more",), "Envoy takes files or inline certificates, not both: give all in one way")
        return self

    @property
    def all(self) -> tuple[ClientsCertificate, ...]:
        """This one, and the further ones."""
        return (self, *self.more)


def check_certificate(section: Model, certificate: str, key: str) -> None:
    """Check that a certificate and its key are given together, as files or inline.

    Args:
        section: that has them.
        certificate: key of the certificate's file; with ``_inline`` that of the certificate itself.
        key: the same for its private key.

    Raises:
        ValueError: they are not, or are none.
    """
    for suffix in ("", "_inline"):
        names = (f"{certificate}{suffix}", f"{key}{suffix}")
        given = [getattr(section, name) for name in names]
        if (given[0] is None) != (given[1] is None):
            raise ValueError(f"{names[0]} and {names[1]} have to be given together")
    chain, private = (getattr(section, f"{name}_inline") for name in (certificate, key))
    if chain is None:
        return
    if getattr(section, certificate) is not None:
        raise ValueError(f"{certificate} and {certificate}_inline exclude each other")
    _check_pair(chain, private, f"{certificate}_inline", f"{key}_inline")


def _check_pair(chain: str, private: SecretStr, certificate: str, key: str) -> None:
    # Few configurations have certificates in them. Envoy would only say that it has no secret.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    if not _CERTIFICATES.fullmatch(chain):
        raise PlacedError((certificate,), _NOT_PEM)
    problem = None
    try:
        public = load_pem_private_key(private.get_secret_value().encode(), None).public_key()
    except TypeError:
        problem = "is encrypted: use one without a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        problem = "expected a private key in PEM, from -----BEGIN PRIVATE KEY----- to its end"
    if problem is not None:
        # Outside the except block: nothing of the key may be chained.
        raise PlacedError((key,), problem)
    try:
        matches = load_pem_x509_certificates(chain.encode())[0].public_key() == public
    except (ValueError, UnsupportedAlgorithm):
        raise PlacedError((certificate,), "the first certificate can't be read") from None
    if not matches:
        raise PlacedError((key,), f"belongs to another certificate than the first one in {certificate}")


def san_type(name: str) -> Literal["DNS", "URI", "IP_ADDRESS"]:
    """What kind of name it is that a certificate may have, as Envoy calls it (RFC 5280 section 4.2.1.6)."""
    if "://" in name:
        return "URI"
    return "IP_ADDRESS" if is_ip(name) else "DNS"


def system_ca_file() -> str:
    """The file with the system's certificate authorities."""
    import ssl  # loads OpenSSL, for which configurations without TLS have no use

    known = ssl.get_default_verify_paths().cafile
    candidates = (*_SYSTEM_CA_FILES, known) if known else _SYSTEM_CA_FILES
    return next((path for path in candidates if Path(path).is_file()), _SYSTEM_CA_FILES[0])


def is_ip(host: str) -> bool:
    """Whether a host is a literal address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
