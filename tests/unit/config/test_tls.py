"""TLS as it is configured."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcp_extproc.config import UpstreamTls
from mcp_extproc.config.problems import problems_of
from mcp_extproc.config.tls import ListenTls
from tests.support.tls import Authority
from tests.unit.config.kubernetes.support import PEM


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def texts(files: Authority, certificate: str, key: str) -> tuple[str, str]:
    return files.certificate(certificate).read_text(), files.key(key).read_text()


def error_of(model: type[UpstreamTls | ListenTls], section: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(section)
    [problem] = problems_of(caught.value, model)
    return f"{problem.path}: {problem.message}"


def test_a_certificate_and_its_key_belong_together(files: Authority) -> None:
    chain, key = texts(files, "client", "client")
    assert UpstreamTls.model_validate({"client_certificate_inline": chain, "client_key_inline": key}).ca is None
    assert ListenTls.model_validate({"certificate_inline": chain, "key_inline": key}).certificate is None
    assert ListenTls(certificate="a", key="b").certificate_inline is None
    other = texts(files, "server", "server")[1]
    assert error_of(UpstreamTls, {"client_certificate_inline": chain, "client_key_inline": other}) == (
        "client_key_inline: belongs to another certificate than the first one in client_certificate_inline"
    )
    assert error_of(ListenTls, {"certificate_inline": chain, "key_inline": other}).startswith("key_inline: belongs to")


ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHjME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAjOvdC4hpwM2gICCAAw
DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQIyYBtg9xAAxsEgZDzbwM6Yy7dfE1v
-----END ENCRYPTED PRIVATE KEY-----
"""


def test_keys_that_are_none(files: Authority) -> None:
    chain, key = texts(files, "client", "client")
    broken = key.replace("\n", "", 2)[:-60]
    for bad in ("hunter2", broken, ENCRYPTED):
        told = error_of(ListenTls, {"certificate_inline": chain, "key_inline": bad})
        assert told.startswith("key_inline: "), told
        assert "hunter2" not in told
    assert error_of(ListenTls, {"certificate_inline": "x", "key_inline": key}).startswith(
        "certificate_inline: expected PEM"
    )
    assert error_of(ListenTls, {"certificate_inline": PEM, "key_inline": key}) == (
        "certificate_inline: the first certificate can't be read"
    )


@pytest.mark.parametrize(
    ("model", "section", "problem"),
    [
        (ListenTls, {}, "give certificate and key, or certificate_inline and key_inline"),
        (ListenTls, {"certificate": "a"}, "certificate and key have to be given together"),
        (ListenTls, {"key_inline": "a"}, "certificate_inline and key_inline have to be given together"),
        (UpstreamTls, {"client_key": "a"}, "client_certificate and client_key have to be given together"),
        (
            UpstreamTls,
            {"client_certificate": "a", "client_key": "b", "client_certificate_inline": "c", "client_key_inline": "d"},
            "client_certificate and client_certificate_inline exclude each other",
        ),
        (UpstreamTls, {"min_version": "1.3", "max_version": "1.2"}, "min_version is above max_version"),
        (UpstreamTls, {"max_version": "1.1"}, "min_version is above max_version"),
        (UpstreamTls, {"ciphers": ["a b"]}, "expected names as BoringSSL has them"),
    ],
)
def test_what_does_not_fit(model: type[UpstreamTls | ListenTls], section: dict[str, Any], problem: str) -> None:
    assert problem in error_of(model, section)


def test_certificates_for_clients_are_all_files_or_none() -> None:
    several = ListenTls.model_validate({"certificate": "a", "key": "b", "more": [{"certificate": "c", "key": "d"}]})
    assert [one.certificate for one in several.all] == ["a", "c"]
    assert error_of(ListenTls, {"certificate": "a", "key": "b", "more": [{"certificate": "c"}]}) == (
        "more[0]: certificate and key have to be given together"
    )


def test_certificates_for_clients_are_given_in_one_way(files: Authority) -> None:
    chain, key = files.certificate("server").read_text(), files.key("server").read_text()
    more = [{"certificate_inline": chain, "key_inline": key}]
    assert error_of(ListenTls, {"certificate": "a", "key": "b", "more": more}) == (
        "more: Envoy takes files or inline certificates, not both: give all in one way"
    )
