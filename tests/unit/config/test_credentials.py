"""What a server is sent as credentials, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, Loaded, loads
from mcp_extproc.config.credentials import PASSED_HEADERS, RESERVED_HEADERS
from mcp_extproc.config.named_files import missing_files, named_files
from mcp_extproc.config.writing import written
from mcp_extproc.gateway import headers
from tests.unit.config.support import error_of, native, server

URL = "url: http://h/mcp"
NOT_FREE = "is set by the gateway, or reaches servers anyway: it can't carry what a server relies on"
PREFIX = "expected at most 64 characters of visible ASCII, such as `Bearer ` with a space at its end"
QUERY_NAME = "expected a name of 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -"


def credentials(text: str) -> str:
    return f"servers: {{a: {{{URL}, credentials: {{{text}}}}}}}"


def test_a_credential_of_the_gateways_own() -> None:
    found = server(f"{URL}, credentials: {{header: {{name: Authorization, value: k3y-9fA1, prefix: 'Bearer '}}}}")
    own = found.credentials.header
    assert own is not None
    assert own.value is not None
    assert (own.name, own.value.get_secret_value(), own.prefix) == ("Authorization", "k3y-9fA1", "Bearer ")
    assert found.secrets == ("k3y-9fA1",)
    assert "k3y-9fA1" not in repr(found)


def test_a_file_is_named_and_not_opened() -> None:
    config = native(credentials("query: {name: key, file: /run/secrets/none}"))
    assert list(named_files(config)) == [("servers.a.credentials.query.file", Path("/run/secrets/none"))]


@pytest.mark.parametrize("kind", ["client_credentials", "token_exchange"])
def test_a_clients_secret_is_in_a_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "secret"
    client = f"token_endpoint: https://idp.example/token, client_id: g, client_secret_file: {file}"
    text = f"{credentials(f'{kind}: {{{client}}}')}\nauthentication: {{oauth: {OAUTH}}}"

    def read() -> Loaded:
        return loads(text, "gateway.yaml", {})

    place = f"servers.a.credentials.{kind}.client_secret_file"
    # Where it is only checked it need not be there.
    loaded = read()
    assert (loaded.config.servers["a"].credentials.clients[kind].secret, loaded.files) == (None, (file,))
    assert [one.path for one in missing_files(loaded.config)] == [place]
    file.write_text("k3y-9fA1\n")
    loaded = read()
    server = loaded.config.servers["a"]
    assert (server.credentials.clients[kind].secret, server.secrets) == ("k3y-9fA1", ("k3y-9fA1",))
    assert "k3y-9fA1" not in repr(loaded) + str(loaded.config) + written(loaded.config, {}).text()
    assert written(loaded.config, {}).data["servers"]["a"]["credentials"][kind]["client_secret_file"] == str(file)
    file.write_text("another-9fA1")
    assert read().config != loaded.config
    file.write_text("\n")
    with pytest.raises(ConfigError) as caught:
        read()
    [problem] = caught.value.problems
    assert str(problem) == f"line 1, {place}: the file is empty: write the credential into it"
    assert caught.value.files == (file,)


OAUTH = "{resource: 'https://g.example/mcp', issuers: [{issuer: 'https://idp.example'}]}"


@pytest.mark.parametrize("given", ["", ", client_secret: a, client_secret_file: /b"])
def test_a_client_has_one_secret(given: str) -> None:
    client = f"token_endpoint: https://idp.example/token, client_id: g{given}"
    assert error_of(credentials(f"client_credentials: {{{client}}}")) == (
        "gateway.yaml: servers.a.credentials.client_credentials: give either client_secret or client_secret_file"
    )


def test_what_a_server_gets_of_callers() -> None:
    keys = "forward: [{name: x-tenant}, {name: x-token, as: Authorization}], claims: [{claim: sub, header: x-user}]"
    callers = "authentication: {api_keys: {keys: {alice: a-key-of-16-chars-or-more}}}"
    found = native(f"{credentials(keys)}\n{callers}").servers["a"].credentials
    assert [target for _, target in found.targets()] == ["x-tenant", "Authorization", "x-user"]
    assert found.of_callers


def test_what_servers_let_clients_choose_is_no_header_of_the_gateways() -> None:
    """Although it begins like those."""
    own = "url: 'http://a/', headers: {X-MCP-Readonly: 'true'}, credentials: {forward: [{name: x-mcp-toolsets}]}"
    found = native(f"servers: {{a: {{{own}}}}}").servers["a"]
    assert list(found.headers) == ["X-MCP-Readonly"]
    assert [target for _, target in found.credentials.targets()] == ["x-mcp-toolsets"]


def test_the_clients_own_authorization_is_warned_of() -> None:
    loaded = loads(credentials("forward: [{name: authorization}]"), "gateway.yaml", {})
    [warning] = loaded.warnings
    assert warning.startswith("servers.a.credentials.forward[0]: the server gets the client's Authorization.")


def test_a_scheme_without_a_space_is_warned_of() -> None:
    [warning] = loads(
        credentials("header: {name: Authorization, prefix: Bearer, value: k}"), "gateway.yaml", {}
    ).warnings
    assert warning.endswith(
        "credentials.header.prefix: the credential follows without a space: put one at its end, as in `Bearer `"
    )
    assert loads(credentials("header: {name: X-Key, prefix: key-, value: k}"), "gateway.yaml", {}).warnings == ()


def test_claims_of_nobody_are_warned_of() -> None:
    [warning] = loads(credentials("claims: [{claim: sub, header: x-user}]"), "gateway.yaml", {}).warnings
    assert warning.endswith(
        "credentials.claims: no caller has any, as nothing says who calls: configure `authentication`"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("header: {name: x}", "credentials.header: give either value or file"),
        ("header: {name: x, value: v, file: f}", "credentials.header: give either value or file"),
        (
            "header: {name: Host, value: v}",
            "credentials.header.name: Host is set by the gateway and can't be configured",
        ),
        (
            "header: {name: 'x:', value: v}",
            "credentials.header.name: expected a header's name, of letters, digits and -",
        ),
        ("header: {name: x, value: v, prefix: ' '}", f"credentials.header.prefix: {PREFIX}"),
        ("query: {name: 'a b', value: v}", f"credentials.query.name: {QUERY_NAME}"),
        (
            "query: {name: k, value: v}, header: {name: x, value: v}",
            "credentials: header and query are given: keep one of them",
        ),
        (
            "header: {name: X-User, value: v}, claims: [{claim: sub, header: x-user}]",
            "credentials.claims[0].header: x-user is set twice (header names ignore case)",
        ),
        (
            "forward: [{name: x-a, as: x-user}, {name: X-User}]",
            "credentials.forward[1]: X-User is set twice (header names ignore case)",
        ),
        ("forward: [{name: user-agent}]", f"credentials.forward[0].name: user-agent {NOT_FREE}"),
        ("forward: [{name: x-a, as: x-mcp-server}]", f"credentials.forward[0].as: x-mcp-server {NOT_FREE}"),
        (
            "claims: [{claim: '', header: x-user}]",
            "credentials.claims[0].claim: expected the name of a claim, such as sub",
        ),
    ],
)
def test_bad_credentials(text: str, problem: str) -> None:
    assert error_of(credentials(text)) == f"gateway.yaml: servers.a.{problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            f"{URL}, headers: {{X-User: v}}, credentials: {{claims: [{{claim: sub, header: x-user}}]}}",
            "servers.a.credentials.claims[0].header: x-user is among the server's headers, too",
        ),
        (
            "url: 'http://h/mcp?key=', credentials: {query: {name: key, value: v}}",
            "servers.a.credentials.query.name: the server's URL has this parameter already",
        ),
        ("command: [x], credentials: {}", "servers.a.credentials: has no meaning with command"),
        (f"{URL}, transport: sse, credentials: {{}}", "servers.a.credentials: has no meaning with transport: sse"),
    ],
)
def test_beside_the_rest_of_a_server(text: str, problem: str) -> None:
    assert error_of(f"servers: {{a: {{{text}}}}}") == f"gateway.yaml: {problem}"


def test_tokens_are_exchanged_only_where_there_are_some() -> None:
    exchange = "token_exchange: {token_endpoint: https://idp.example/token, client_id: g, client_secret: k3y-9fA1}"
    oauth = "authentication: {oauth: {issuers: [{issuer: https://idp.example, audiences: [a]}]}}"
    assert error_of(credentials(exchange)) == (
        "gateway.yaml: servers.a.credentials.token_exchange: requires authentication.oauth: only tokens that Envoy has"
        " verified are exchanged"
    )
    found = native(f"{credentials(exchange)}\n{oauth}").servers["a"]
    assert (found.secrets, found.credential_keys) == (("k3y-9fA1",), ("credentials.token_exchange",))
    assert [target for _, target in found.credentials.targets()] == ["Authorization"]


ALONE = "an endpoint has further servers, and clients can log in at one only"
TAKEN = "its endpoint has authentication: the client's Authorization can't be for both"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("servers: {a: PASS, b: {url: http://h/mcp}}", ALONE),
        ("servers: {a: PASS, b: {url: http://h/mcp}}\nvirtual_servers: {v: {servers: {a: all}}}", ALONE),
        (
            "servers: {a: PASS, b: {url: http://h}}\nmain_endpoint: false\nvirtual_servers: {v: {servers: {a: all, b: all}}}",
            ALONE,
        ),
        ("servers: {a: PASS}\nauthentication: {mtls: {ca: ca.pem}}\nlisten: {tls: {certificate: a, key: b}}", TAKEN),
        (
            "servers: {a: PASS}\nmain_endpoint: false\nvirtual_servers: {v: {servers: {a: all}, authentication: KEYS}}",
            TAKEN,
        ),
    ],
)
def test_where_clients_can_log_in_at_the_server(text: str, problem: str) -> None:
    words = {"PASS": f"{{{URL}, credentials: {{pass_through: true}}}}", "KEYS": "{api_keys: {file: keys}}"}
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    assert f"servers.a.credentials.pass_through: {problem}" in error_of(text)


def test_one_server_of_an_endpoint_of_its_own_may_have_its_clients_log_in() -> None:
    text = f"servers: {{a: {{{URL}, credentials: {{pass_through: true}}}}, b: {{url: http://h/mcp}}}}\nmain_endpoint: false\n"
    loaded = loads(text + "virtual_servers: {v: {servers: {a: all}}, w: {servers: {b: all}}}", "gateway.yaml", {})
    assert loaded.warnings == ()
    assert [target for _, target in loaded.config.servers["a"].credentials.targets()] == ["Authorization"]


def test_no_secret_is_repeated_in_an_error() -> None:
    assert "k3y-9fA1" not in error_of(credentials("header: {name: x, value: k3y-9fA1, file: k3y-9fA1}"))


def test_no_header_passes_that_could_be_the_name_of_a_credential() -> None:
    assert headers.PASSED <= RESERVED_HEADERS | PASSED_HEADERS
