"""Certificates for one test run."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcp_extproc.extproc.certificates import Certificates, TlsFiles

_NOW = dt.datetime.now(dt.UTC)


class Authority:
    """An authority, and the certificates ``server`` and ``client`` that it gave to this machine's address.

    Args:
        directory: for their files; made where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self._write("ca", self._key, self._certificate("authority", self._key, authority=True))
        for name in ("server", "client"):
            self.issue(name)

    @property
    def ca(self) -> Path:
        """Its own certificate."""
        return self._directory / "ca.pem"

    def certificate(self, name: str) -> Path:
        """The file of a certificate."""
        return self._directory / f"{name}.pem"

    def key(self, name: str) -> Path:
        """The file of its key."""
        return self._directory / f"{name}.key"

    def issue(self, name: str, *names: x509.GeneralName) -> None:
        """Write a certificate with these further names, and its key, in place of any before."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, key, self._certificate(name, key, *names, authority=False))

    def server_files(self, *, asks: bool = True) -> TlsFiles:
        """Of a server that asks its clients for a certificate of this authority, or not."""
        return TlsFiles(self.certificate("server"), self.key("server"), self.ca if asks else None)

    def server(self, *, asks: bool = True) -> Certificates:
        """The same, read."""
        return Certificates(self.server_files(asks=asks))

    def client(self, alpn: list[str], name: str = "client") -> ssl.SSLContext:
        """Has a certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate(name), self.key(name))
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def client_files(self) -> tuple[bytes, bytes, bytes]:
        """The authority, the client's key and its certificate, in PEM."""
        return self.ca.read_bytes(), self.key("client").read_bytes(), self.certificate("client").read_bytes()

    def _certificate(
        self, name: str, key: ec.EllipticCurvePrivateKey, *names: x509.GeneralName, authority: bool
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - dt.timedelta(hours=1))
            .not_valid_after(_NOW + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *names]), critical=False
            )
            # RFC 5280, sections 4.2.1.1 to 4.2.1.3: Python 3.13 takes no authority or certificate without them.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(authority=authority), critical=True)
        )
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        pem = serialization.Encoding.PEM
        self.certificate(name).write_bytes(certificate.public_bytes(pem))
        plain = serialization.NoEncryption()
        self.key(name).write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


class Volume:
    """Files as Kubernetes mounts them: links through ``..data``, which is pointed elsewhere in one step.

    Args:
        directory: of the mount; made where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._versions = 0
        self.files = TlsFiles(directory / "tls.crt", directory / "tls.key", directory / "ca.crt")

    def put(self, authority: Authority) -> None:
        """All files at once: the authority's ``server``, and the authority itself for clients."""
        self.put_files(authority.certificate("server"), authority.key("server"), authority.ca)

    def put_files(self, certificate: Path, key: Path, client_ca: Path) -> None:
        """All files at once, copied from these."""
        self._versions += 1
        version = self._directory / f"..version-{self._versions}"
        version.mkdir()
        for file, source in zip(self.files, (certificate, key, client_ca), strict=True):
            (version / file.name).write_bytes(source.read_bytes())
            if not file.is_symlink():
                file.symlink_to(Path("..data") / file.name)
        link = self._directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._directory / "..data")


def _usage(*, authority: bool) -> x509.KeyUsage:
    """What a key is for: an authority signs certificates, all others sign handshakes."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
