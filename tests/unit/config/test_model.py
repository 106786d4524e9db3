"""What the model accepts, refuses, and derives, read through native YAML as a user would write it."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from mcp_extproc.config.config_error import field
from mcp_extproc.config.endpoint import endpoints
from tests.unit.config.kubernetes.support import PEM
from tests.unit.config.support import error_of, native, server, unplaced_error_of

ONE = "servers: {a: {url: http://a/mcp}}\n"


def test_defaults() -> None:
    config = native(ONE)
    assert (config.listen.address, config.listen.port, config.listen.path) == ("127.0.0.1", 1975, "/mcp")
    assert config.listen.is_loopback
    assert config.separator == "__"
    assert config.origins is None
    assert config.session.secret is None
    assert config.limits.request_bytes == 4 << 20
    assert endpoints(config)[0].starts["a"] == "a__"
    assert config.servers["a"].timeout == 300


def test_nothing_changes_afterwards() -> None:
    config = native("servers: {a: {url: http://a/mcp, headers: {X: y}}}")
    with pytest.raises(ValidationError):
        config.separator = "."  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.servers["b"] = config.servers["a"]  # type: ignore[index]
    with pytest.raises(TypeError):
        config.servers["a"].headers["Y"] = config.servers["a"].headers["X"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("url", "address", "authority", "target", "tls"),
    [
        ("http://a", ("a", 80), "a", "/", False),
        ("https://a", ("a", 443), "a", "/", True),
        ("HTTPS://A.example/x", ("a.example", 443), "A.example", "/x", True),
        ("http://a:8080/mcp?k=v&k=w", ("a", 8080), "a:8080", "/mcp?k=v&k=w", False),
        ("http://a?k=v", ("a", 80), "a", "/?k=v", False),
        ("https://[::1]:8443/m%20p", ("::1", 8443), "[::1]:8443", "/m%20p", True),
        ("http://under_score/", ("under_score", 80), "under_score", "/", False),
    ],
)
def test_urls(url: str, address: tuple[str, int], authority: str, target: str, tls: bool) -> None:
    found = server(f"url: '{url}'")
    assert found.addresses == (address,)
    assert (found.authority, found.path_and_query, found.uses_tls) == (authority, target, tls)


HOST = "expected a URL with a host and a valid port"
CHARACTERS = "spaces, control and non-ASCII characters are not allowed in a URL: percent-encode them"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://a/", "expected a URL that starts with http:// or https://"),
        ("a/mcp", "expected a URL that starts with http:// or https://"),
        ("", "expected a URL that starts with http:// or https://"),
        ("http://", HOST),
        ("http:///mcp", HOST),
        ("http://a:0/", HOST),
        ("http://a:70000/", HOST),
        ("http://a:hidden/", HOST),
        ("http://[hidden]/", HOST),
        ("http://[::1/", HOST),
        ("http://a b/", CHARACTERS),
        ("http://a/\u00e9", CHARACTERS),
        ("http://user:hidden@a/", "a user name or password is not allowed in a URL: use headers.Authorization"),
        ("http://a/#hidden", "a #fragment is not allowed in the URL of a server"),
    ],
)
def test_bad_urls(url: str, problem: str) -> None:
    assert error_of(f"servers: {{a: {{url: '{url}'}}}}") == f"gateway.yaml: servers.a.url: {problem}"


def test_endpoints() -> None:
    found = server("endpoints: ['10.0.0.7:80', '[fd00::9]:8443', 'h.example:1']")
    assert found.addresses == (("10.0.0.7", 80), ("fd00::9", 8443), ("h.example", 1))
    assert (found.authority, found.path_and_query, found.uses_tls) == ("10.0.0.7:80", "/mcp", False)
    found = server("endpoints: ['h:1'], path: '/x?y', tls: {}")
    assert (found.path_and_query, found.uses_tls) == ("/x?y", True)


@pytest.mark.parametrize("endpoint", ["h", "h:0", "h:65536", "h:", ":80", "::1:80", "http://h:80", "h:80/mcp", "-h:80"])
def test_bad_endpoints(endpoint: str) -> None:
    assert error_of(f"servers: {{a: {{endpoints: ['h:1', '{endpoint}']}}}}") == (
        "gateway.yaml: servers.a.endpoints[1]: expected host:port, such as 10.0.0.7:8080 or [::1]:8080"
    )


OURS = "variables that begin with MCP_EXTPROC_ are the gateway's own"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("prefix: x", "servers.a: give either url, endpoints or command"),
        ("url: 'http://a/', endpoints: ['a:1']", "servers.a: give either url, endpoints or command"),
        ("url: 'http://a/', command: [x]", "servers.a: give either url, endpoints or command"),
        ("command: []", "servers.a.command: expected a list that is not empty"),
        (
            "command: npx",
            "servers.a.command: expected a list: program and arguments are one list, such as command: [npx, -y, a-server]",
        ),
        (
            "command: [npx], args: [-y, hush]",
            (
                "servers.a.args: unknown key: program and arguments are one list, such as command: [npx, -y, a-server]; args"
                " is a key of mcp-servers.json"
            ),
        ),
        (
            "command: [npx], type: stdio",
            (
                "servers.a.type: unknown key: leave it out: with command it is stdio, with transport: sse HTTP+SSE; type is a"
                " key of mcp-servers.json"
            ),
        ),
        (
            "command: [npx], envFile: x",
            "servers.a.envFile: unknown key: here it is env_file; envFile is a key of mcp-servers.json",
        ),
        ("command: [x, 1]", "servers.a.command[1]: expected text (numbers, true and false in quotes)"),
        ("command: ['']", "servers.a.command[0]: expected the name or the path of a program"),
        ("command: [x], headers: {a: b}", "servers.a.headers: has no meaning with command"),
        ("command: [x], sticky_sessions: true", "servers.a.sticky_sessions: has no meaning with command"),
        ("command: [x], transport: sse", "servers.a.transport: has no meaning with command"),
        ("url: 'http://a/', transport: ws", "servers.a.transport: expected 'streamable_http', 'sse' or 'auto'"),
        ("url: 'http://a/', transport: sse, retries: {}", "servers.a.retries: has no meaning with transport: sse"),
        (
            "url: 'http://a/', transport: auto, sticky_sessions: true",
            "servers.a.sticky_sessions: has no meaning with transport: auto",
        ),
        ("command: [x], env: {MCP_EXTPROC_CHILD: a}", f"servers.a.env: {OURS}"),
        ("command: [x], inherit_env: [MCP_EXTPROC_SESSION_SECRET]", f"servers.a.inherit_env: {OURS}"),
        ("command: [x], sharing: all", "servers.a.sharing: expected 'session' or 'shared'"),
        ("command: [x], max_processes: 0", "servers.a.max_processes: expected a number of at least 1"),
        ("url: 'http://a/', cwd: /", "servers.a.cwd: requires command"),
        ("url: 'http://a/', max_sessions: 5", "servers.a.max_sessions: requires transport: sse"),
        ("command: [x], max_sessions: 5", "servers.a.max_sessions: requires transport: sse"),
        (
            "url: 'http://a/', transport: auto, max_sessions: 0",
            "servers.a.max_sessions: expected a number of at least 1",
        ),
        ("url: 'http://a/', path: /x", "servers.a: path requires endpoints; with url, the path is part of the URL"),
        ("url: 'http://a/', tls: {}", "servers.a: tls requires an https URL"),
        ("endpoints: ['a:1', 'a:1']", "servers.a: an endpoint is listed twice"),
        ("endpoints: ['a:1'], path: x", "servers.a.path: expected an absolute path such as /mcp or /mcp?key=value"),
        (
            "url: 'https://a/', tls: {client_key: k}",
            "servers.a.tls: client_certificate and client_key have to be given together",
        ),
        (
            "url: 'https://a/', tls: {ca: c, insecure_skip_verify: true}",
            "servers.a.tls: ca and insecure_skip_verify exclude each other",
        ),
        (
            "url: 'https://a/', tls: {subject_alt_names: [x], insecure_skip_verify: true}",
            "servers.a.tls: subject_alt_names and insecure_skip_verify exclude each other",
        ),
        (
            f"url: 'https://a/', tls: {{ca: c, ca_inline: {json.dumps(PEM)}}}",
            "servers.a.tls: ca and ca_inline exclude each other",
        ),
        (
            "url: 'https://a/', tls: {ca_inline: /etc/ca.pem}",
            "servers.a.tls.ca_inline: expected PEM certificates, each from -----BEGIN CERTIFICATE----- to its end",
        ),
        (
            "url: 'https://a/', tls: {subject_alt_names: ['a b']}",
            "servers.a.tls.subject_alt_names: expected DNS names, IP addresses or URIs",
        ),
        ("unix_socket: /run/a.sock, endpoints: ['a:1']", "servers.a.unix_socket: requires url"),
        (
            "url: 'http://a/', unix_socket: a.sock",
            "servers.a.unix_socket: a Unix socket is given by its absolute path, such as /run/mcp.sock",
        ),
        (
            "url: 'http://a/', unix_socket: /a.sock, dns: {refresh_rate: 1s}",
            "servers.a.unix_socket: there is no name to look up: leave dns out",
        ),
        ("url: 'https://a/', tls: {ca: ''}", "servers.a.tls.ca: expected text that is not empty"),
        ("url: 'https://a/', tls: {sni: ''}", "servers.a.tls.sni: expected text that is not empty"),
        (
            "url: 'https://a/', tls: {verify: false}",
            (
                "servers.a.tls.verify: unknown key, expected one of: ca, ca_inline, sni, subject_alt_names, "
                "client_certificate, client_key, client_certificate_inline, client_key_inline, min_version, max_version, "
                "ciphers, ecdh_curves, signature_algorithms, insecure_skip_verify"
            ),
        ),
        (
            "url: 'https://a/', tls: {insecure_skip_verify: maybe}",
            "servers.a.tls.insecure_skip_verify: expected true or false",
        ),
        (
            "url: 'http://a/', prefix: 'a b'",
            "servers.a.prefix: expected at most 48 characters out of A-Z a-z 0-9 _ . -",
        ),
        (
            "url: 'http://a/', timeout: 0",
            "servers.a.timeout: expected a duration greater than zero and less than ten years",
        ),
        (
            "url: 'http://a/', tools: {include: []}",
            "servers.a.tools: include is empty: name at least one tool, or leave the key out",
        ),
        (
            "url: 'http://a/', tools: {exclude: }",
            "servers.a.tools: exclude is empty: name at least one tool, or leave the key out",
        ),
        (
            "url: 'http://a/', tools: {includeRegex: ['hidden(']}",
            "servers.a.tools.includeRegex[0]: not a regular expression: missing )",
        ),
        (
            "url: 'http://a/', tools: {includeRegex: [x, '(?!hidden)']}",
            (
                "servers.a.tools.includeRegex[1]: not a regular expression of RE2: it has a condition on what stands "
                "before or after; exclude what must not match (`exclude`, `excludeRegex`, or a rule that denies)"
            ),
        ),
        ("url: 'http://a/', headers: {X: 3}", "servers.a.headers.X: expected text (numbers, true and false in quotes)"),
        (
            "url: 'http://a/', headers: {X: \"a\\nb\"}",
            "servers.a.headers.X: control characters, CR and LF are not allowed in a header value",
        ),
        (
            "url: 'http://a/', headers: {X: ' a'}",
            "servers.a.headers.X: a header value must not start or end with a space or tab",
        ),
        (
            "url: 'http://a/', headers: {X: \u20ac}",
            "servers.a.headers.X: only characters of ISO-8859-1 are allowed in a header value",
        ),
        (
            "url: 'http://a/', headers: {'X: hidden': y}",
            (
                'servers.a.headers["X..."]: expected a header name '
                "(letters, digits and -) followed by a colon and a space"
            ),
        ),
        (
            "url: 'http://a/', headers: {Mcp-Session-Id: y}",
            "servers.a.headers: Mcp-Session-Id is set by the gateway and can't be configured",
        ),
        (
            "url: 'http://a/', headers: {X-MCP-Server: y}",
            "servers.a.headers: X-MCP-Server is set by the gateway and can't be configured",
        ),
        ("url: 'http://a/', headers: {X: y, x: z}", "servers.a.headers: x is given twice (header names ignore case)"),
    ],
)
def test_bad_servers(keys: str, problem: str) -> None:
    assert error_of(f"servers: {{a: {{{keys}}}}}") == f"gateway.yaml: {problem}"


NAME = (
    "the server's name is not usable as a prefix: expected 1 to 48 characters out of A-Z a-z 0-9 _ . -, "
    "beginning and ending with a letter or digit"
)


@pytest.mark.parametrize("name", ["a b", "", "-a", "a_", ".", "a/b", "a" * 49, "\u00e4"])
def test_bad_names(name: str) -> None:
    assert error_of(f"servers: {{'{name}': {{url: http://a/}}}}") == f"gateway.yaml: {field(('servers', name))}: {NAME}"


@pytest.mark.parametrize("name", ["a", "a-b", "a.b", "a_b", "9", "a" * 48])
def test_names(name: str) -> None:
    assert list(native(f"servers: {{'{name}': {{url: http://a/}}}}").servers) == [name]


def test_an_ambiguous_prefix_is_found_among_others() -> None:
    entries = ", ".join(f"{name}: {{url: http://h/}}" for name in ("a", "m", "z", "m-x"))
    ambiguous = f"servers: {{{entries}, q: {{url: http://h/, prefix: 'm_'}}}}"
    assert error_of(ambiguous).startswith("gateway.yaml: servers.m and servers.q: a name that starts with")


def two(first: str | None, second: str | None, separator: str = "__") -> str:
    """Servers `a` and `b` with these prefixes, None for their names."""
    prefixes = ["" if prefix is None else f", prefix: '{prefix}'" for prefix in (first, second)]
    return (
        f"servers: {{a: {{url: http://a/{prefixes[0]}}}, b: {{url: http://b/{prefixes[1]}}}}}\nseparator: '{separator}'"
    )


def test_prefixes() -> None:
    config = native(two("x", ""))
    assert endpoints(config)[0].starts == {"a": "x__", "b": ""}


def test_a_separator_of_its_own() -> None:
    servers = "a: {url: http://a/, prefix: x_, separator: ''}, b: {url: http://b/, separator: .}, c: {url: http://c/}"
    assert endpoints(native(f"servers: {{{servers}}}"))[0].starts == {"a": "x_", "b": "b.", "c": "c__"}


def test_several_servers_without_a_prefix_have_words_for_their_uris() -> None:
    [main] = endpoints(native(two("", "")))
    assert main.starts == {"a": "", "b": ""}
    assert main.uri_words == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (two("x", "x"), "servers.b and servers.a both have the same prefix: set another `prefix`"),
        (two("b", None), "servers.b and servers.a both have the same prefix: set another `prefix`"),
        (
            two("", "") + "\nbare_names: true",
            "bare_names: several servers have no prefix, so names without one are theirs: leave this out",
        ),
        (
            "servers: {a: {url: http://a/, prefix: x_, separator: ''}, b: {url: http://b/, prefix: x, separator: _}}",
            "servers.b and servers.a both have the same prefix: set another `prefix`",
        ),
        (
            "servers: {a: {url: http://a/, prefix: x, separator: ''}, b: {url: http://b/, prefix: xy, separator: ''}}",
            (
                "servers.a and servers.b: a name that starts with the prefix and separator of b could belong to a "
                "as well: set another `prefix`"
            ),
        ),
        (
            "servers: {a: {url: http://a/, separator: ' '}}",
            "servers.a.separator: expected 1 to 8 characters out of A-Z a-z 0-9 _ . / : -",
        ),
        (
            two("x__y", None),
            (
                "servers.a: the prefix contains the separator, so names would be ambiguous: set another "
                "`prefix` or `separator`"
            ),
        ),
        (
            two("x.y", None, "."),
            (
                "servers.a: the prefix contains the separator, so names would be ambiguous: set "
                "another `prefix` or `separator`"
            ),
        ),
        (
            two("x", "x_"),
            (
                "servers.a and servers.b: a name that starts with the prefix and separator of b could belong to a "
                "as well: set another `prefix`"
            ),
        ),
    ],
)
def test_prefixes_that_can_not_be_told_apart(text: str, problem: str) -> None:
    assert unplaced_error_of(text) == f"gateway.yaml: {problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("separator: ' '", "separator: expected 1 to 8 characters out of A-Z a-z 0-9 _ . / : -"),
        ("separator: ''", "separator: expected 1 to 8 characters out of A-Z a-z 0-9 _ . / : -"),
        ("listen: {address: localhost}", "listen.address: expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1"),
        *[
            (
                f"listen: {{allowed_hosts: ['{host}']}}",
                "listen.allowed_hosts: expected host names without scheme, port and path, such as host.docker.internal",
            )
            for host in ("http://a.example", "a.example:80", "a.example/mcp", "*.example", "*", "", "a,b", "a b")
        ],
        ("listen: {port: 65536}", "listen.port: expected a number of at most 65535"),
        ("listen: {port: -1}", "listen.port: expected a number of at least 0"),
        ("listen: {port: true}", "listen.port: expected a whole number"),
        ("listen: {port: 1.5}", "listen.port: expected a whole number"),
        ("listen: {port: .inf}", "listen.port: expected a whole number"),
        ("listen: {port: x}", "listen.port: expected a whole number"),
        ("listen: {port: []}", "listen.port: expected a whole number"),
        ("listen: {port: '" + "9" * 5000 + "'}", "listen.port: expected a smaller number"),
        ("listen: {path: mcp}", "listen.path: expected an absolute path such as /mcp, without query or fragment"),
        ("listen: {path: '/mcp?x'}", "listen.path: expected an absolute path such as /mcp, without query or fragment"),
        (
            "origins: [https://a.example/x]",
            ("origins[0]: expected an origin, scheme://host[:port], such as https://app.example.com"),
        ),
        (
            "origins: ['http://localhost:99999']",
            ("origins[0]: expected an origin, scheme://host[:port], such as https://app.example.com"),
        ),
        (
            "origins: ['*', 'http://[hidden']",
            ("origins[1]: expected an origin, scheme://host[:port], such as https://app.example.com"),
        ),
        ("origins: '*'", "origins: expected a list"),
        (
            "session: {secret: hidden}",
            ("session.secret: a secret needs at least 32 characters; generate one with: openssl rand -base64 32"),
        ),
        (
            "session: {secret: 12345678901234567890123456789012}",
            "session.secret: expected text (numbers, true and false in quotes)",
        ),
        (f"session: {{previous_secrets: [{'x' * 32}]}}", "session: previous_secrets requires secret"),
        ("limits: {json_depth: 7}", "limits.json_depth: expected a number of at least 8"),
        ("limits: {json_depth: 501}", "limits.json_depth: expected a number of at most 500"),
        ("limits: {list_items: 0}", "limits.list_items: expected a number of at least 1"),
        ("limits: {request_bytes: 4MB}", "limits.request_bytes: expected a size such as 65536, 64KiB or 4MiB"),
        ("log: {level: loud}", "log.level: expected 'debug', 'info', 'warning' or 'error'"),
        ("log: {access: 3}", "log.access: expected text (numbers, true and false in quotes)"),
        ("log:", "log: expected a mapping (key: value)"),
        ("log: [x]", "log: expected a mapping (key: value)"),
    ],
)
def test_bad_top_level(text: str, problem: str) -> None:
    assert unplaced_error_of(ONE + text) == f"gateway.yaml: {problem}"


def test_listen_and_origins() -> None:
    config = native(ONE + "listen: {address: '[::]', port: 0, path: /a/b}\norigins: [HTTP://App.example:3000, '*']")
    assert (config.listen.address, config.listen.is_loopback) == ("::", False)
    assert config.origins == ("http://app.example:3000", "*")
    assert native(ONE + "listen: {address: '::1'}").listen.is_loopback
    listed = native(ONE + "listen: {allowed_hosts: [Host.Docker.Internal., '[FD00::1]']}").listen
    assert listed.hosts == frozenset({"host.docker.internal", "fd00::1"})
    assert native(ONE + "listen: {address: '::1'}").listen.hosts == frozenset()
    assert native(ONE + "listen: {address: '::'}").listen.hosts is None


def test_repr_shows_hosts_and_hides_the_rest() -> None:
    found = server("url: 'https://h.example:1/hidden/mcp?key=hidden', headers: {X: hidden}")
    assert "url='https://h.example:1/...'" in repr(found)
    assert "hidden" not in repr(found) + str(found)
    assert "hidden" not in repr(server("endpoints: ['h:1'], path: '/hidden?k=hidden'"))
