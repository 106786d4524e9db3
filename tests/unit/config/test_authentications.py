"""Several sections `authentication` in one configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.config import loads
from mcp_extproc.config.endpoint import endpoints
from tests.unit.config.support import error_of

IDP = {"issuer": "https://idp.example", "audiences": ["x"]}
EXTERNAL = {"http": "http://authz/", "principal_header": "x-user"}
KEYS = {"file": "keys.yaml"}


def text(main: Any, **virtual: Any) -> str:
    servers = {"a": {"url": "http://127.0.0.1:1/mcp"}}
    others = {name: {"servers": {"a": "all"}, **one} for name, one in virtual.items()}
    return json.dumps({"servers": servers, "authentication": main, "virtual_servers": others})


def own(**authentication: Any) -> Any:
    return {"authentication": authentication}


@pytest.mark.parametrize(
    ("main", "virtual", "problem"),
    [
        (
            {"oauth": {"issuers": [IDP]}},
            own(oauth={"issuers": [{**IDP, "jwks": {"file": "keys.json"}}]}),
            "virtual_servers.v.authentication.oauth.issuers[0].jwks: the issuer of authentication.oauth.issuers[0]",
        ),
        (
            {"external": EXTERNAL},
            own(api_keys={**KEYS, "from": [{"header": "x-user"}]}),
            "authentication.external.principal_header: clients of another endpoint send credentials in this header",
        ),
        (
            {"api_keys": {**KEYS, "from": [{"header": "x-user"}]}},
            own(external=EXTERNAL),
            "virtual_servers.v.authentication.external.principal_header: clients of another endpoint",
        ),
        (
            {"public_url": "https://gw.example", "oauth": {"issuers": [{"issuer": "https://idp.example"}]}},
            {"host": "other.example"},
            "virtual_servers.v.host: tokens of the top level's authentication have to be for its own URL",
        ),
        (
            {"oauth": {"resource": "https://gw.example/mcp", "issuers": [{"issuer": "https://idp.example"}]}},
            {"hosts": ["other.example"]},
            "virtual_servers.v.hosts: tokens of the top level's authentication have to be for its own URL",
        ),
        (
            {"oauth": {"resource": "https://gw.example/tools", "issuers": [{"issuer": "https://idp.example"}]}},
            {},
            "virtual_servers.v: tokens of the top level's authentication have to be for its own URL",
        ),
    ],
)
def test_sections_that_contradict_each_other(main: Any, virtual: Any, problem: str) -> None:
    assert problem in error_of(text(main, v=virtual))


def test_sections_that_do_not() -> None:
    oauth = {"issuers": [IDP], "algorithms": ["ES256"]}
    loads(text({"oauth": {"issuers": [IDP]}}, v=own(oauth=oauth), host={"host": "other.example"}), "gateway.yaml", {})
    loads(text({"external": EXTERNAL}, v=own(external=EXTERNAL), w=own(api_keys=KEYS)), "gateway.yaml", {})


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://gw.example/mcp", "https://gw.example/mcp/v"),
        ("https://gw.example/behind/mcp", "https://gw.example/behind/mcp/v"),
        ("https://gw.example/tools", None),
    ],
)
def test_a_virtual_server_has_a_url_of_its_own(resource: str, url: str | None) -> None:
    """Clients refuse to log in where they are told another one (RFC 9728 section 3.3). If it is not known, it is the one that
    they use, and so it is at a host of its own."""
    main = {"oauth": {"resource": resource, "issuers": [IDP]}}
    read = loads(text(main, v={}, at={"host": "other.example"}), "gateway.yaml", {}).config
    assert [endpoint.resource for endpoint in endpoints(read)] == [resource, url, None]
