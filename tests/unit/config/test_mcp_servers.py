from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_extproc.config import ConfigError, Loaded, Server, loads
from mcp_extproc.config.config_error import field
from mcp_extproc.config.server_entry import CLIENT_KEYS, KEYS
from tests.unit.config.support import error_of

URL = "http://a.example/mcp"


def load_entry(entry: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Loaded:
    loaded = loads(json.dumps({"mcpServers": {"a": entry}}), "mcp-servers.json", environ or {})
    assert loaded.source == "mcp-servers"
    return loaded


def variables(server: Server) -> dict[str, str | None]:
    return {name: None if value is None else value.get_secret_value() for name, value in server.env.items()}


def entry_error(entry: Any, name: str = "a", environ: Mapping[str, str] | None = None) -> str:
    text = json.dumps({"mcpServers": {name: entry}})
    return error_of(text, "mcp-servers.json", environ).removeprefix("mcp-servers.json: ")


@pytest.mark.parametrize("kind", ["http", "streamable-http", "streamable_http", "streamableHttp", "", None])
@pytest.mark.parametrize("key", ["url", "httpUrl", "serverUrl", "baseUrl"])
def test_types_and_url_keys(kind: str | None, key: str) -> None:
    loaded = load_entry({"type": kind, key: URL + "?k=v"})
    assert loaded.config.servers["a"].path_and_query == "/mcp?k=v"
    assert loaded.warnings == ()


def test_type_may_be_absent() -> None:
    assert load_entry({"url": URL}).config.servers["a"].url == URL


def test_every_honoured_key() -> None:
    entry = {
        "type": "http",
        "url": "https://${HOST}/mcp",
        "headers": {"Authorization": "Bearer ${KEY}", "X-Team": "platform", "x-other": "${NOPE:-none}"},
        "includeTools": ["one", "two"],
        "tools": ["two", "three"],
        "excludeTools": ["two"],
        "disabledTools": ["four", "two"],
        "timeout": 1500,
        "disabled": False,
        "enabled": True,
        "isActive": True,
    }
    of_commands = {"command", "args", "env", "envFile", "cwd", "sandboxEnabled"}
    assert entry.keys() | {"httpUrl", "serverUrl", "baseUrl"} | of_commands == KEYS.keys()
    loaded = load_entry(entry, {"HOST": "h:1", "KEY": "k"})
    server = loaded.config.servers["a"]
    assert loaded.warnings == ()
    assert server.url == "https://h:1/mcp"
    assert {name: value.get_secret_value() for name, value in server.headers.items()} == {
        "Authorization": "Bearer k",
        "X-Team": "platform",
        "x-other": "none",
    }
    assert (server.tools.include, server.tools.exclude) == (("one", "two", "three"), ("two", "four"))
    assert server.timeout == 1.5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (60000, 60), (60000.0, 60), ("60000", 60), ("${T}", 60), (1000, 1), (999, 999), (60, 60), (0.5, 0.5), ("30s", 30),
        ("250ms", 0.25),
    ],
)  # fmt: skip
def test_timeouts_are_in_seconds_below_1000(value: object, seconds: float) -> None:
    """Some agents write seconds, others milliseconds, and a plain file does not say whose it is."""
    assert load_entry({"url": URL, "timeout": value}, {"T": "60000"}).config.servers["a"].timeout == seconds


TIMEOUT = "expected milliseconds, seconds below 1000, or a duration: 60000, 60 or 60s"


@pytest.mark.parametrize("value", [0, -1, "30 s", "", True, [], {}, 1e300, 10**300])
def test_bad_timeouts(value: object) -> None:
    assert entry_error({"url": URL, "timeout": value}) == f"mcpServers.a.timeout: {TIMEOUT}"


def test_a_star_offers_all_tools() -> None:
    assert load_entry({"url": URL, "tools": ["*"]}).config.servers["a"].tools.include == ()


def test_null_and_an_empty_exclusion_are_nothing() -> None:
    entry: dict[str, Any] = {"url": URL, "headers": None, "includeTools": None, "excludeTools": [], "timeout": None}
    tools = load_entry(entry).config.servers["a"].tools
    assert (tools.include, tools.exclude) == ((), ())


def test_disabled_servers_are_left_out_and_named() -> None:
    text = json.dumps(
        {
            "mcpServers": {
                "a": {"url": URL},
                "b": {"disabled": True, "command": "npx", "headers": {"X": "${NOPE}"}},
                "c d": {"disabled": True},
                "d": {"url": URL, "enabled": False},
                "e": {"url": URL, "isActive": False, "disabled": False},
            }
        }
    )
    loaded = loads(text, "f", {})
    assert list(loaded.config.servers) == ["a"]
    assert loaded.warnings == (
        "mcpServers.b: disabled, so it is left out",
        'mcpServers["c d"]: disabled, so it is left out',
        "mcpServers.d: disabled, so it is left out",
        "mcpServers.e: disabled, so it is left out",
    )


def test_keys_without_effect_are_named_once_per_server() -> None:
    entry: dict[str, Any] = {"url": URL, "zzz": 1, "a\nb": 2} | dict.fromkeys(CLIENT_KEYS, "${NOPE}")
    assert load_entry(entry).warnings == (
        ("mcpServers.a: keys for agents have no effect here: alwaysAllow, description, headersHelper, oauth, trust"),
        'mcpServers.a: unknown keys have no effect: zzz, "a\\nb"',
    )


def test_keys_of_the_native_format() -> None:
    """Without `credentials` the server would be asked all the same."""
    [warning] = load_entry({"url": URL, "zzz": 1, "credentials": {"header": {"name": "X", "value": "k"}}}).warnings
    assert warning == (
        "mcpServers.a: unknown keys have no effect: zzz, credentials; credentials: only in the native format, which"
        " `mcp-extproc convert` writes"
    )


@pytest.mark.parametrize("key", ["authentication", "authorization", "rate_limits", "vetting"])
def test_what_restricts_callers_is_not_left_out(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(json.dumps({"mcpServers": {"a": {"url": URL}}, key: {}}), "f", {})
    [problem] = caught.value.problems
    assert str(problem).endswith(
        f"{key}: has no effect here, and without it everybody could call: use the native format"
    )


@pytest.mark.parametrize(
    ("keys", "meant"),
    [
        (["arg", "enviroment", "zzz"], "args for arg, env for enviroment"),
        (["Args", "work_dir", "env-file"], "args for Args, cwd for work_dir, envFile for env-file"),
        (["roots", "name", "autoApprove", "version", "icon"], None),
        (["commands"], None),  # there is a command
    ],
)
def test_keys_that_are_misspelt(keys: list[str], meant: str | None) -> None:
    [warning] = load_entry({"command": "npx", **dict.fromkeys(keys, 1)}).warnings
    end = "" if meant is None else f"; did you mean {meant}?"
    assert warning == f"mcpServers.a: unknown keys have no effect: {', '.join(keys)}{end}"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        # Zed's settings, and VS Code's
        (
            {"context_servers": {"a": {"command": "npx"}}},
            'context_servers: the servers stand under this key: put them into {"mcpServers": {...}}',
        ),
        (
            {"x": 1, "mcp": {"servers": {"a": {"url": URL}}}},
            'mcp: the servers stand under this key: put them into {"mcpServers": {...}}',
        ),
        ({"a": {"command": "npx"}}, 'the servers stand at the top: put them into {"mcpServers": {...}}'),
        (
            {"a": {"type": "http", "url": URL}, "x": 1},
            'the servers stand at the top: put them into {"mcpServers": {...}}',
        ),
        ({"command": "npx", "args": []}, 'a server stands at the top: put it into {"mcpServers": {"<name>": {...}}}'),
        ({"mcpServer": {"a": {"url": URL}}}, "mcpServer: unknown key, did you mean mcpServers?"),
        ({"mcp_servers": {}}, "mcp_servers: unknown key, did you mean mcpServers?"),
    ],
)
def test_a_table_that_is_missing_or_misspelt(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(json.dumps(data), "f.json", {})
    assert str(caught.value) == f"f.json: {problem}"


LINES = """{
  // servers
  "mcpServers": {
    "a": {"command": "npx",
          "arg": ["-y", "{\\"x\\": ["]},
    /* two
       lines */
    "my server": {
      "urls": "http://localhost/mcp"
    },
    "b": {
      "command": "npx",
      "env": {
        "A": "${NOPE}"
      },
    }
  }
}
"""


def test_warnings_and_problems_name_the_line() -> None:
    a, my_server, b = loads(LINES, "f.json", {}).warnings
    assert a == "line 4, mcpServers.a: unknown keys have no effect: arg; did you mean args for arg?"
    assert my_server.startswith('line 8, mcpServers["my server"] is left out: ')
    assert b.startswith("line 11, mcpServers.b is left out: env.A: the environment variable NOPE is not set")
    with pytest.raises(ConfigError) as caught:
        loads(LINES, "f.json", {}, strict=True)
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [
        ('mcpServers["my server"]', 8), ("mcpServers.b.env.A", 14),
    ]  # fmt: skip
    assert "\n  line 14, mcpServers.b.env.A: the environment variable NOPE" in str(caught.value)


def test_other_top_level_keys_are_named() -> None:
    text = json.dumps({"mcpServers": {"a": {"url": URL}}, **{f"k{number}": 1 for number in range(12)}, "inputs": []})
    assert loads(text, "f", {}).warnings == (
        "inputs: has no effect, since the gateway can't prompt; use ${VAR} instead",
        "unknown keys beside mcpServers have no effect: k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 and 2 more",
    )


TEXT = "expected text (numbers, true and false in quotes)"
SANDBOX = "asks for a sandbox, and the gateway has none: put one into its command, or remove sandboxEnabled"
NO_PROGRAM = "expected text, the program's name or path: its arguments belong into args"
NO_COMMAND = "stdio is for a command, and url is given: give http, sse or no type"
UNKNOWN_TYPE = (
    "has an unknown type: expected one of stdio, sse, http, streamable-http, streamable_http, streamableHttp, "
    'or set "disabled": true'
)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"command": "npx", "url": URL}, "mcpServers.a: command and url are given: keep one of them"),
        ({"command": "npx", "type": "http"}, "mcpServers.a.type: command is given, which is a server of type stdio"),
        ({"command": "npx", "type": "sse"}, "mcpServers.a.type: command is given, which is a server of type stdio"),
        ({"type": "sse"}, "mcpServers.a.url: required, but missing: give the server's endpoint"),
        ({"type": "stdio"}, "mcpServers.a.command: required, but missing: give the program's name or path"),
        (
            {"command": ["npx"]},
            f"mcpServers.a.command: {NO_PROGRAM}",
        ),
        (
            {"type": "stdio", "url": "http://x/"},
            f"mcpServers.a.type: {NO_COMMAND}",
        ),
        ({"comand": "npx"}, "mcpServers.a.comand: unknown key, did you mean command?"),
        ({"cmd": "npx", "arg": []}, "mcpServers.a.cmd: unknown key, did you mean command?"),
        ({"urls": "http://x/"}, "mcpServers.a.urls: unknown key, did you mean url?"),
        ({"http_url": "http://x/"}, "mcpServers.a.http_url: unknown key, did you mean httpUrl?"),
        ({"command": "npx", "args": "-y"}, "mcpServers.a.args: expected a list of texts"),
        ({"command": "npx", "env": {"DEBUG": True}}, f"mcpServers.a.env.DEBUG: {TEXT}"),
        ({"command": "npx", "env": {"PORTS": [1]}}, f"mcpServers.a.env.PORTS: {TEXT}"),
        ({"command": "npx", "sandboxEnabled": True}, f"mcpServers.a: {SANDBOX}"),
        ({"command": "npx", "sandboxEnabled": "true"}, f"mcpServers.a: {SANDBOX}"),
        (
            {"command": "${workspaceFolder}/x"},
            (
                "mcpServers.a.command: ${workspaceFolder} is known in the mcp.json of Cursor (in .cursor) and VS Code "
                "(in .vscode) only: write the path"
            ),
        ),
        (
            {"command": "npx", "env": {"A=hush": "1"}},
            "mcpServers.a.env: expected names of environment variables: letters, digits and _, beginning with no digit",
        ),
        ({"command": "npx", "envFile": 1}, f"mcpServers.a.envFile: {TEXT}"),
        ({"command": "npx", "cwd": ""}, "mcpServers.a.cwd: expected text that is not empty"),
        ({"type": "ws", "url": URL}, f"mcpServers.a: {UNKNOWN_TYPE}"),
        ({"type": ["http"], "url": URL}, f"mcpServers.a: {UNKNOWN_TYPE}"),
        ({}, "mcpServers.a.url: required, but missing: give the server's endpoint"),
        ({"args": ["-y", "x"]}, "mcpServers.a.command: required, but missing: give the program's name or path"),
        ({"command": None, "cwd": "x"}, "mcpServers.a.command: required, but missing: give the program's name or path"),
        ({"type": "http", "args": ["x"]}, "mcpServers.a.url: required, but missing: give the server's endpoint"),
        ({"url": None}, "mcpServers.a.url: required, but missing: give the server's endpoint"),
        ({"url": URL, "httpUrl": URL}, "mcpServers.a: url and httpUrl are given: keep one of them"),
        ({"serverUrl": "ftp://x"}, "mcpServers.a.serverUrl: expected a URL that starts with http:// or https://"),
        ({"url": URL, "enabled": 0}, "mcpServers.a.enabled: expected true or false"),
        ({"url": URL, "isActive": None}, "mcpServers.a.isActive: expected true or false"),
        ({"url": URL, "disabledTools": "x"}, "mcpServers.a.disabledTools: expected a list of tool names"),
        ({"url": "ftp://x"}, "mcpServers.a.url: expected a URL that starts with http:// or https://"),
        ({"httpUrl": "ftp://x"}, "mcpServers.a.httpUrl: expected a URL that starts with http:// or https://"),
        ({"url": 3}, "mcpServers.a.url: expected text (numbers, true and false in quotes)"),
        ({"url": URL, "headers": ["X: y"]}, "mcpServers.a.headers: expected a mapping (key: value)"),
        (
            {"url": URL, "headers": {"Host": "x"}},
            "mcpServers.a.headers: Host is set by the gateway and can't be configured",
        ),
        ({"url": URL, "tools": "x"}, "mcpServers.a.tools: expected a list of tool names"),
        ({"url": URL, "excludeTools": [1]}, "mcpServers.a.excludeTools: expected a list of tool names"),
        (
            {"url": URL, "includeTools": []},
            "mcpServers.a.includeTools: is empty: name at least one tool, or leave the key out",
        ),
        ({"url": URL, "disabled": "yes"}, "mcpServers.a.disabled: expected true or false"),
        (
            {"url": "${input:url}"},
            (
                "mcpServers.a.url: ${input:...} is a prompt, and the gateway can't prompt: use ${VAR} and "
                "set it in the environment"
            ),
        ),
        (
            {"url": URL, "headers": {"X": "${NOPE}"}},
            (
                "mcpServers.a.headers.X: the environment variable NOPE is not set: set it, "
                "or give a default with ${NOPE:-default}"
            ),
        ),
        ("x", 'mcpServers.a: expected an object such as {"url": "https://..."}'),
        ({"disabled": True}, "mcpServers: every server is disabled: enable at least one"),
    ],
)
def test_refused(entry: Any, problem: str) -> None:
    assert entry_error(entry) == problem


NAME = (
    "the server's name is not usable as a prefix: expected 1 to 48 characters out of A-Z a-z 0-9 _ . -, "
    "beginning and ending with a letter or digit"
)


@pytest.mark.parametrize(
    ("name", "shown", "problem"),
    [
        ("My Server", '["My Server"]', f"{NAME}: rename the entry, for example to My-Server"),
        ("@scope/pkg", '["@scope/pkg"]', f"{NAME}: rename the entry, for example to scope-pkg"),
        ("\u00e4", '["\\u00e4"]', f"{NAME}: rename the entry"),
        (
            "a__b",
            ".a__b",
            (
                "the name contains __, which separates a server's name from a tool's: rename the entry, "
                "for example to a-b"
            ),
        ),
    ],
)
def test_names_that_can_not_be_a_prefix(name: str, shown: str, problem: str) -> None:
    assert entry_error({"url": URL}, name) == f"mcpServers{shown}: {problem}"


NOT_SERVED = {"s": {"type": "websocket"}, "w": {"type": "ws"}, "not a prefix": {"type": "ws"}}


def test_what_can_not_be_served_is_left_out_and_named() -> None:
    loaded = loads(json.dumps({"mcpServers": {**NOT_SERVED, "ok": {"url": URL}}}), "m.json", {})
    assert list(loaded.config.servers) == ["ok"]
    assert loaded.warnings == (
        f"mcpServers.s is left out: {UNKNOWN_TYPE}",
        f"mcpServers.w is left out: {UNKNOWN_TYPE}",
        f'mcpServers["not a prefix"] is left out: {UNKNOWN_TYPE}; {NAME}: rename the entry, for example to not-a-prefix',
    )


@pytest.mark.parametrize(
    ("name", "entry", "why"),
    [
        ("My Server", {"url": URL}, f"{NAME}: rename the entry, for example to My-Server"),
        (
            "b", {"url": URL, "headers": {"Authorization": "Bearer ${NOPE}"}},
            "headers.Authorization: the environment variable NOPE is not set: set it, or give a default with ${NOPE:-default}",
        ),
        ("b", {"headers": {}}, "url: required, but missing: give the server's endpoint"),
        ("b", {"url": URL, "type": "tcp"}, UNKNOWN_TYPE),
        ("b", {"url": URL, "type": "websocket"}, UNKNOWN_TYPE),
        ("b", {"url": URL, "excludeTools": "rm"}, "excludeTools: expected a list of tool names"),
        ("b", {"url": URL, "timeout": "soon"}, f"timeout: {TIMEOUT}"),
        ("b", {"url": URL, "disabled": "yes"}, "disabled: expected true or false"),
        ("b", {"command": "x", "args": {"a": 1}}, "args: expected a list of texts"),
        ("b", ["npx"], 'expected an object such as {"url": "https://..."}'),
        ("OK", {"url": URL}, "the name is that of ok in URIs, which ignore case and have - for _: rename one of them"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_one_leaves_the_others(name: str, entry: Any, why: str) -> None:
    """Nothing of it is served: no server without a header that it should have, none with more tools."""
    text = json.dumps({"mcpServers": {"ok": {"url": URL}, name: entry}})
    loaded = loads(text, "m.json", {})
    assert list(loaded.config.servers) == ["ok"]
    assert loaded.warnings == (f"{field(('mcpServers', name))} is left out: {why}",)
    with pytest.raises(ConfigError):
        loads(text, "m.json", {}, strict=True)


def test_a_warning_has_the_first_reasons() -> None:
    entry = {"url": URL, "headers": {f"X-{number}": f"${{NOPE_{number}}}" for number in range(5)}}
    loaded = loads(json.dumps({"mcpServers": {"ok": {"url": URL}, "b": entry}}), "m.json", {})
    assert [f"NOPE_{number} is not set" in loaded.warnings[0] for number in range(4)] == [True, True, True, False]
    assert loaded.warnings[0].endswith("; and 2 more")


@pytest.mark.parametrize(
    ("others", "strict"), [({}, False), ({"off": {"disabled": True}}, False), ({"ok": {"url": URL}}, True)]
)
def test_none_can_be_served_or_all_have_to_be(others: dict[str, Any], strict: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(json.dumps({"mcpServers": {**NOT_SERVED, **others}}), "m.json", {}, strict=strict)
    assert str(caught.value) == (
        f"m.json: 4 problems\n  mcpServers.s: {UNKNOWN_TYPE}\n  mcpServers.w: {UNKNOWN_TYPE}\n"
        f'  mcpServers["not a prefix"]: {UNKNOWN_TYPE}\n'
        f'  mcpServers["not a prefix"]: {NAME}: rename the entry, for example to not-a-prefix'
    )


def test_strict_takes_what_is_disabled() -> None:
    entries = {"a": {"url": URL}, "b": {"command": "x", "disabled": True}}
    assert list(loads(json.dumps({"mcpServers": entries}), "f", {}, strict=True).config.servers) == ["a"]


def test_everything_that_is_wrong_is_in_one_error() -> None:
    entries = {"n": {}, "t": {"url": URL, "timeout": 0, "tools": "x"}, "off": {"disabled": True}}
    assert error_of(json.dumps({"mcpServers": entries}), "m.json") == (
        "m.json: 3 problems\n  mcpServers.n.url: required, but missing: give the server's endpoint\n"
        "  mcpServers.t.tools: expected a list of tool names\n"
        f"  mcpServers.t.timeout: {TIMEOUT}"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"mcpServers": {}}', "mcpServers: there is no server: add at least one"),
        ('{"mcpServers": []}', 'mcpServers: expected an object of servers, such as {"github": {"url": ...}}'),
        ('{"mcpServers": null}', 'mcpServers: expected an object of servers, such as {"github": {"url": ...}}'),
        ('{"mcpServers": {}, "servers": {}}', "both mcpServers and servers are given: keep one of them"),
        ('{"mcpServers": {"a": {}, "a": {}}}', "mcpServers.a: is given twice, remove one"),
        ('{"mcpServers": {"a": {}}, "mcp": {"excluded": "a"}}', "mcp.excluded: expected a list of servers' names"),
        ('{"mcpServers": {"a": {}}, "mcp": ["a"]}', "mcp: expected an object with the lists allowed and excluded"),
    ],
)
def test_files_of_another_shape(text: str, problem: str) -> None:
    assert error_of(text, "m.json") == f"m.json: {problem}"


def test_vscode() -> None:
    text = json.dumps({"servers": {"a": {"type": "http", "url": URL, "tools": ["x"]}}, "inputs": []})
    loaded = loads(text, "mcp.json", {})
    assert loaded.source == "mcp-servers"
    assert loaded.config.servers["a"].tools.include == ("x",)
    assert loaded.warnings == ("inputs: has no effect, since the gateway can't prompt; use ${VAR} instead",)
    text = f'// mine\n{{"servers": {{"a": {{"command": "x"}}, "b": {{"url": "{URL}"}},}}}}'
    for name in ("mcp.json", "mcp.jsonc", "mcp"):
        loaded = loads(text, name, {})
        assert (loaded.source, list(loaded.config.servers)) == ("mcp-servers", ["a", "b"])


def test_a_native_file_in_json_is_none_of_vscodes() -> None:
    loaded = loads('{"servers": {"a": {"command": ["x"]}}}', "gateway.json", {})
    assert loaded.source == "native"


@pytest.mark.parametrize(
    ("entry", "transport"),
    [
        ({"type": "sse", "url": URL}, "sse"),
        ({"type": "http", "url": URL}, "streamable_http"),
        ({"httpUrl": URL}, "streamable_http"),
        ({"url": URL}, "auto"),
        ({"type": "", "url": URL}, "auto"),
        ({"serverUrl": URL}, "auto"),
    ],
)
def test_transports(entry: dict[str, Any], transport: str) -> None:
    assert load_entry(entry).config.servers["a"].transport == transport
    assert load_entry(entry).warnings == ()


def test_a_command() -> None:
    entry = {
        "type": "stdio",
        "command": "${PROGRAM:-npx}",
        "args": ["-y", "@scope/server", "${KEY}"],
        "env": {"TOKEN": "${KEY}", "MODE": "x"},
        "envFile": ".env",
        "cwd": "/data",
        "includeTools": ["one"],
        "timeout": 1500,
    }
    loaded = load_entry(entry, {"KEY": "hush-hush"})
    server = loaded.config.servers["a"]
    assert loaded.warnings == ()
    assert server.command is not None
    assert [word.get_secret_value() for word in server.command] == ["npx", "-y", "@scope/server", "hush-hush"]
    assert variables(server) == {"TOKEN": "hush-hush", "MODE": "x"}
    assert (server.env_file, server.cwd, server.timeout) == (".env", "/data", 1.5)
    assert server.secrets == ("hush-hush",)
    assert "hush" not in repr(server)


def test_keys_of_the_other_kind_are_named() -> None:
    assert load_entry({"command": "npx", "headers": {"A": "${NOPE}"}}, {"NOPE": "1"}).warnings == (
        "mcpServers.a: keys without effect for a server with a command: headers",
    )
    assert load_entry({"url": URL, "args": ["x"], "cwd": "/"}).warnings == (
        "mcpServers.a: keys without effect for a server with a URL: args, cwd",
    )


def test_variables_of_a_command_are_numbers_or_taken_away() -> None:
    """As VS Code's schema has them."""
    env = {"PORT": 3000, "RATIO": 1.5, "BIG": 1e3, "TEXT": "1e3", "HOME": None}
    server = load_entry({"command": "npx", "env": env}).config.servers["a"]
    assert variables(server) == {"PORT": "3000", "RATIO": "1.5", "BIG": "1000", "TEXT": "1e3", "HOME": None}
    assert server.secrets == ("1e3",)


@pytest.mark.parametrize(
    ("lists", "off"),
    [
        ({"excluded": ["b"]}, {"b": "mcp.excluded"}),
        ({"excluded": [" B "]}, {"b": "mcp.excluded"}),
        ({"allowed": ["a"]}, {"b": "mcp.allowed"}),
        ({"allowed": ["a", "b"], "excluded": ["b"]}, {"b": "mcp.excluded"}),
        ({"allowed": None, "serverCommand": "x"}, {}),
        (None, {}),
    ],
)
def test_gemini_clis_lists(lists: Any, off: dict[str, str]) -> None:
    text = json.dumps({"mcpServers": {"a": {"url": URL}, "b": {"url": URL}}, "mcp": lists})
    loaded = loads(text, "settings.json", {})
    assert list(loaded.config.servers) == [name for name in ("a", "b") if name not in off]
    assert loaded.warnings == tuple(
        f"mcpServers.{name}: disabled by {by}, so it is left out" for name, by in off.items()
    )
