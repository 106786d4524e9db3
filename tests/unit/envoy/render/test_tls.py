from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.config import Server
from mcp_extproc.envoy.message import camel
from mcp_extproc.envoy.render.tls import to_server
from tests.unit.config.kubernetes.support import PEM


def validation(**tls: Any) -> Any:
    server = Server.model_validate({"url": "https://a.example/mcp", "tls": tls})
    return to_server("a", server, None).data(camel)["typedConfig"]["commonTlsContext"]["validationContext"]


def test_certificates_of_authorities_may_stand_in_the_configuration() -> None:
    assert validation(ca="ca.pem")["trustedCa"] == {"filename": "ca.pem"}
    assert validation(ca_inline=PEM)["trustedCa"] == {"inlineString": PEM}


@pytest.mark.parametrize(
    ("tls", "names"),
    [
        ({}, [("DNS", "a.example")]),
        ({"sni": "b.example"}, [("DNS", "b.example")]),
        (
            {"sni": "b.example", "subject_alt_names": ["c.example", "spiffe://x/y", "10.0.0.1"]},
            [("DNS", "c.example"), ("URI", "spiffe://x/y"), ("IP_ADDRESS", "10.0.0.1")],
        ),
    ],
)
def test_the_names_that_a_certificate_may_have(tls: dict[str, Any], names: list[tuple[str, str]]) -> None:
    found = validation(**tls)["matchTypedSubjectAltNames"]
    assert [(name["sanType"], name["matcher"]["exact"]) for name in found] == names
