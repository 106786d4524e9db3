"""Certificates for one test run."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NOW = dt.datetime.now(dt.UTC)


class Authority:
    """An authority, and a server and a client that it knows.

    Args:
        directory: for their files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self._write("ca", self._key, self._certificate("authority", self._key, authority=True))
        for name in ("server", "client"):
            key = ec.generate_private_key(ec.SECP256R1())
            self._write(name, key, self._certificate(name, key, authority=False))

    def server(self) -> ssl.SSLContext:
        """Speaks h2, and asks for the client's certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._directory / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self._directory / "server.pem", self._directory / "server.key")
        return context

    def client(self) -> ssl.SSLContext:
        """Has a certificate."""
        context = ssl.create_default_context(cafile=self._directory / "ca.pem")
        context.load_cert_chain(self._directory / "client.pem", self._directory / "client.key")
        return context

    def client_files(self) -> tuple[bytes, bytes, bytes]:
        """The authority, the client's key and its certificate, in PEM."""
        ca, key, certificate = (
            (self._directory / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")
        )
        return ca, key, certificate

    def _certificate(self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
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
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        pem = serialization.Encoding.PEM
        (self._directory / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        plain = serialization.NoEncryption()
        (self._directory / f"{name}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
