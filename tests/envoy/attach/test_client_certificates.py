"""Certificates name callers on a listener that verifies them with the gateway's authorities, and on no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config.config_error import ConfigError
from tests.envoy.attach.test_endpoint import Data, attached, bootstrap, gateway, loaded, manager_of

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
QUIC = "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport"
RAW = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
CA = "/etc/mcp/clients.pem"
TRUSTED = {"trusted_ca": {"filename": CA}}
MTLS = gateway(authentication={"mtls": {"ca": CA}})


def with_socket(config: Data | None) -> Data:
    data = bootstrap()
    if config is not None:
        [chain] = data["static_resources"]["listeners"][0]["filter_chains"]
        chain["transport_socket"] = {"name": "tls", "typed_config": config}
    return data


def context(**common: Any) -> Data:
    return {"@type": TLS, "common_tls_context": common}


REFUSALS: list[tuple[str, Data | None, str]] = [
    ("no TLS", None, "no TLS that is known here"),
    ("another socket", {"@type": RAW}, "no TLS that is known here"),
    ("none verified", context(), "verifies no certificates by a file"),
    ("required and not verified", {**context(), "require_client_certificate": True}, "verifies no certificates by a file"),
    ("by its hash", context(validation_context={"verify_certificate_hash": ["a"]}), "verifies no certificates by a file"),
    ("inline", context(validation_context={"trusted_ca": {"inline_string": "x"}}), "verifies no certificates by a file"),
    ("another file", context(validation_context={"trusted_ca": {"filename": "/etc/x.pem"}}), "another file, /etc/x.pem"),
    ("anybody", context(validation_context={**TRUSTED, "trust_chain_verification": "ACCEPT_UNTRUSTED"}),
     "has trust_chain_verification: ACCEPT_UNTRUSTED"),
    ("anybody, as a number", context(validation_context={**TRUSTED, "trust_chain_verification": 1}),
     "has trust_chain_verification: 1"),
    ("expired", context(validationContext={"trustedCa": TRUSTED["trusted_ca"], "allowExpiredCertificate": True}),
     "has allow_expired_certificate: true"),
    ("another validator", context(validation_context={**TRUSTED, "custom_validator_config": {"name": "spiffe"}}),
     "has a custom_validator_config"),
    ("by SDS", context(validation_context_sds_secret_config={"name": "clients"}), "validation_context_sds_secret_config"),
    ("partly by SDS", context(combined_validation_context={"default_validation_context": TRUSTED}),
     "combined_validation_context"),
]  # fmt: skip


@pytest.mark.parametrize(("socket", "says"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_verifies_no_or_other_certificates_is_refused(socket: Data | None, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        attached(with_socket(socket), MTLS)
    message = str(caught.value)
    assert message.startswith("envoy.yaml: authentication.mtls: listener 'in' ")
    assert says in message
    assert "authentication.existing" in message


@pytest.mark.parametrize(
    "socket",
    [
        context(validation_context=TRUSTED),
        {"@type": TLS, "commonTlsContext": {"validationContext": {"trustedCa": {"filename": "/etc/mcp//clients.pem"}}}},
        {**context(validation_context={**TRUSTED, "trust_chain_verification": "VERIFY_TRUST_CHAIN"}),
         "require_client_certificate": True},
        {"@type": QUIC, "downstream_tls_context": context(validation_context=TRUSTED)},
    ],
    ids=["plain", "in camel case", "required", "HTTP/3"],
)  # fmt: skip
def test_the_same_authorities_are_enough(socket: Data) -> None:
    found = manager_of(loaded(attached(with_socket(socket), MTLS)))
    assert "mcp/certificate" in [item["name"] for item in found["http_filters"]]


def test_of_a_virtual_server_too() -> None:
    config = gateway(virtual_servers={"ops": {"path": "/ops", "authentication": {"mtls": {"ca": CA}}}})
    with pytest.raises(ConfigError, match=r"virtual_servers\.ops\.authentication\.mtls: listener 'in' has no TLS"):
        attached(bootstrap(), config)


def test_without_certificates_the_listeners_tls_is_its_owners() -> None:
    assert attached(with_socket(context()), gateway())


def test_messages_of_batches_come_without_a_certificate(tmp_path: Path) -> None:
    """A worker says whose the batch is, at a listener that clients can't reach; from clients the header is taken."""
    keys = tmp_path / "keys.yaml"
    keys.write_text(json.dumps({"alice": "k" * 20}))
    config = gateway(
        authentication={"mtls": {"ca": CA}, "api_keys": {"file": str(keys)}},
        virtual_servers={"ops": {"path": "/ops", "authentication": {"mtls": {"ca": CA, "principal": "subject"}}}},
    )
    first = attached(with_socket(context(validation_context=TRUSTED)), config)
    result = loaded(first)
    found = {}
    for listener in (0, -1):
        manager = manager_of(result, listener)
        filters = {item["name"] for item in manager["http_filters"]}
        [early] = manager["early_header_mutation_extensions"]
        removed = {item["remove"] for item in early["typed_config"]["mutations"]}
        found[listener] = filters & {"mcp/certificate", "mcp/certificate/ops"}, removed
    assert found[0][0] == {"mcp/certificate", "mcp/certificate/ops"}
    assert found[-1][0] == set()
    assert found[0][1] - found[-1][1] == {"x-mcp-certificate-name"}
    assert attached(first.text, config).text == first.text, "repeating it replaces what was added"
