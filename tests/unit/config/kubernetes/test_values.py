from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.kubernetes.support import backend, error_of, load, quiet, route, secret, to_backend

ROUTE = route(backendRefs=to_backend(securityPolicy={"apiKey": {"secretRef": {"name": "s"}}}))


def annotated(document: dict[str, Any], **annotations: str) -> dict[str, Any]:
    document["metadata"]["annotations"] = {
        f"substitution.aigw.run/{kind}/apiKey": value for kind, value in annotations.items()
    }
    return document


def key_of(document: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    headers = quiet(ROUTE, backend(), document, environ=environ).config.servers["a"].headers
    return headers["Authorization"].get_secret_value().removeprefix("Bearer ")


def test_base64_and_text() -> None:
    encoded = base64.b64encode(b"of data").decode()
    assert key_of(secret() | {"data": {"apiKey": encoded}, "stringData": None}) == "of data"
    # `stringData` wins, and kubectl wraps what is long.
    assert key_of(secret(apiKey="of text") | {"data": {"apiKey": encoded}}) == "of text"
    assert key_of(secret() | {"data": {"apiKey": f"{encoded[:4]}\n{encoded[4:]}"}}) == "of data"


def test_annotations(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("of a file\n")
    assert key_of(annotated(secret(apiKey="x"), env="TOKEN"), {"TOKEN": "of the environment"}) == "of the environment"
    assert key_of(annotated(secret(), file=str(file))) == "of a file"
    assert key_of(annotated(secret(), file="~/token"), {"HOME": str(tmp_path)}) == "of a file"
    # The environment comes first.
    both = annotated(secret(), env="TOKEN", file=str(file))
    assert key_of(both, {"TOKEN": "of the environment"}) == "of the environment"


def test_a_file_that_an_annotation_names_is_watched(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("x")
    assert load(ROUTE, backend(), annotated(secret(), file=str(file))).files == (file,)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Where Envoy AI Gateway keeps the placeholder, and sends it."""
    place = 'Secret default/s metadata.annotations["substitution.aigw.run/{}/apiKey"]'
    assert error_of(ROUTE, backend(), annotated(secret(apiKey="TOKEN"), env="TOKEN")) == (
        f"{place.format('env')}: the environment variable TOKEN is not set: set it"
    )
    assert error_of(ROUTE, backend(), annotated(secret(apiKey="x"), file=str(tmp_path / "no"))) == (
        f"{place.format('file')}: of the file: no such file"
    )
    assert error_of(ROUTE, backend(), secret(other="x")) == "Secret default/s data: has no key apiKey: add it"
    assert error_of(ROUTE, backend(), secret() | {"data": {"apiKey": "!"}}) == (
        "Secret default/s data.apiKey: expected Base64 of text in UTF-8: put text as it is under stringData"
    )


def test_a_variable_that_may_be_the_credential_itself_is_not_repeated() -> None:
    assert "ghp_1aB" not in error_of(ROUTE, backend(), annotated(secret(apiKey="x"), env="ghp_1aB"))


def test_line_breaks_at_the_end_are_left_out() -> None:
    """As `kubectl create secret --from-file` keeps them."""
    encoded = base64.b64encode(b"of a file\n").decode()
    assert key_of(secret() | {"data": {"apiKey": encoded}}) == "of a file"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (secret(apikey="x"), "data: has no key apiKey, but apikey: rename it"),
        (secret(apiKey=""), "data: the value of apiKey is empty: give it one"),
        ({"stringdata": {"apiKey": "x"}}, "stringdata: unknown key, did you mean stringData?"),
    ],
)
def test_slips_in_a_secret(wrong: dict[str, Any], problem: str) -> None:
    assert error_of(ROUTE, backend(), secret() | wrong) == f"Secret default/s {problem}"


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        ("env/apikey", "the Secret has no key apikey: did you mean substitution.aigw.run/env/apiKey?"),
        ("envs/apiKey", "expected substitution.aigw.run/env/apiKey or substitution.aigw.run/file/apiKey"),
    ],
)
def test_no_placeholder_is_sent_for_a_slip_in_an_annotation(annotation: str, problem: str) -> None:
    document = secret(apiKey="placeholder")
    document["metadata"]["annotations"] = {f"substitution.aigw.run/{annotation}": "TOKEN"}
    said = error_of(ROUTE, backend(), document, environ={"TOKEN": "x"})
    assert said == f'Secret default/s metadata.annotations["substitution.aigw.run/{annotation}"]: {problem}'


def test_nor_is_a_clients_key_a_placeholder() -> None:
    document = secret(alice="placeholder-of-16-chars")
    document["metadata"]["annotations"] = {"substitution.aigw.run/envs/alice": "TOKEN"}
    auth = {"credentialRefs": [{"name": "s"}], "extractFrom": [{"headers": ["x-api-key"]}]}
    said = error_of(route(securityPolicy={"apiKeyAuth": auth}), backend(), document)
    assert said.endswith(": expected substitution.aigw.run/env/KEY or substitution.aigw.run/file/KEY")


def test_an_annotation_for_another_key_is_none_of_its_business() -> None:
    document = secret(apiKey="x")
    document["metadata"]["annotations"] = {"substitution.aigw.run/env/tls.crt": "TOKEN"}
    assert key_of(document) == "x"


def test_an_empty_key_is_no_header_value() -> None:
    inline = route(backendRefs=to_backend(securityPolicy={"apiKey": {"inline": ""}}))
    assert error_of(inline, backend()).endswith("securityPolicy.apiKey.inline: is empty: give a key")
