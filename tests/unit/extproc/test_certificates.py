"""The worker's certificate: files that are read when they change, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from mcp_extproc.extproc.certificates import Certificates, TlsFiles
from mcp_extproc.pem import TlsError
from tests.support.tls import Authority, Volume


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def volume(tmp_path: Path, authority: Authority) -> Volume:
    made = Volume(tmp_path / "volume")
    made.put(authority)
    return made


def test_what_did_not_change_is_not_read_again(volume: Volume) -> None:
    certificates = Certificates(volume.files)
    assert certificates.current() is certificates.current()


def test_a_link_that_is_pointed_elsewhere(volume: Volume, authority: Authority) -> None:
    certificates = Certificates(volume.files)
    before = certificates.current()
    authority.issue("server")
    volume.put(authority)
    after = certificates.current()
    assert before is not after
    assert (after.certificate, after.key) == (
        authority.certificate("server").read_bytes(),
        authority.key("server").read_bytes(),
    )
    assert after is certificates.current()


def test_files_that_are_written_one_after_the_other(authority: Authority) -> None:
    """Between the two they do not fit; what was there before is used until they do."""
    certificates = Certificates(authority.server_files())
    before = certificates.current()
    authority.issue("other")
    authority.certificate("server").write_bytes(authority.certificate("other").read_bytes())
    assert certificates.current() is before
    authority.key("other").rename(authority.key("server"))
    after = certificates.current()
    assert after.certificate == authority.certificate("other").read_bytes()


def test_files_that_go_and_come_back(authority: Authority) -> None:
    certificates = Certificates(authority.server_files())
    before = certificates.current()
    kept = authority.key("server").rename(authority.key("kept"))
    assert certificates.current() is before
    kept.rename(authority.key("server"))
    assert certificates.current().key == before.key


def test_files_that_are_replaced_while_they_are_read(
    volume: Volume, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mixture of old and new is nothing to complain about: the next connection looks again."""
    certificates = Certificates(volume.files)
    before = certificates.current()
    authority.issue("server")
    read = Path.read_bytes

    def read_and_replace(path: Path) -> bytes:
        text = read(path)
        monkeypatch.undo()
        authority.issue("server")
        volume.put(authority)
        return text

    volume.put(authority)
    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    assert certificates.current() is before
    assert not caplog.records
    assert certificates.current().certificate == authority.certificate("server").read_bytes()


def test_the_key_is_not_shown(authority: Authority) -> None:
    assert "PRIVATE" not in repr(Certificates(authority.server_files()).current())


@pytest.mark.parametrize("name", ["certificate", "key", "ca"])
def test_files_that_are_not_there(authority: Authority, name: str) -> None:
    files = authority.server_files()
    missing = {"certificate": files.certificate, "key": files.key, "ca": authority.ca}[name]
    missing.unlink()
    with pytest.raises(TlsError, match=f"{missing}: can't be read: No such file or directory"):
        Certificates(files)


def test_files_that_hold_something_else(authority: Authority) -> None:
    good = authority.server_files()
    with pytest.raises(TlsError, match=r"server.key with .*server.key: expected a certificate and its key, in PEM"):
        Certificates(TlsFiles(good.key, good.key))
    with pytest.raises(TlsError, match=r"client.key: the key belongs to another certificate"):
        Certificates(TlsFiles(good.certificate, authority.key("client")))
    with pytest.raises(TlsError, match=r"server.key: expected certificates of authorities, in PEM"):
        Certificates(TlsFiles(good.certificate, good.key, good.key))


def test_a_key_with_a_passphrase_asks_nobody(authority: Authority) -> None:
    files = authority.server_files()
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"hush")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(TlsError, match="the key is encrypted"):
        Certificates(files)
