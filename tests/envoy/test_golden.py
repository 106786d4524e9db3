"""The rendered Envoy configurations: as reviewed, accepted by Envoy, and without secrets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mcp_extproc.envoy.render import tls
from mcp_extproc.run.envoy_binary import find_envoy
from tests.envoy.golden import CASES, FOLDER, render


@pytest.fixture(autouse=True)
def system_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of certificate authorities is this machine's; the golden files name Debian's."""
    monkeypatch.setattr(tls, "system_ca_file", lambda: "/etc/ssl/certs/ca-certificates.crt")


@pytest.mark.parametrize("case", CASES)
def test_as_reviewed(case: str) -> None:
    assert json.loads(render(case)) == json.loads((FOLDER / f"{case}.json").read_text()), (
        "run `make golden`, read the diff"
    )


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_envoy_accepts_it(case: str, tmp_path: Path) -> None:
    text = render(case)
    # Certificates are read when a configuration is loaded.
    certificate, key = _certificate(tmp_path)
    for name, file in (("/etc/ca.pem", certificate), ("/etc/client.pem", certificate), ("/etc/client.key", key)):
        text = text.replace(name, str(file))
    text = text.replace("/etc/ssl/certs/ca-certificates.crt", str(certificate))
    file = tmp_path / "envoy.json"
    file.write_text(text)
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", CASES)
def test_no_secret_is_rendered(case: str) -> None:
    assert "hush" not in render(case)


def _certificate(folder: Path) -> tuple[Path, Path]:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(pem))
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate_file, key_file
