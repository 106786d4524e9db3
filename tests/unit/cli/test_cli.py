"""The commands that start nothing."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from mcp_extproc import __version__
from mcp_extproc.cli import cli, common
from mcp_extproc.config import ConfigError
from tests.support.processes import ROOT, envoy_that_says


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "servers:\n  notes:\n    url: http://localhost:3001/mcp\n    headers: {Authorization: Bearer hush}\n"
    )
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcp_extproc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def imported(*arguments: str) -> set[str]:
    """Packages that a command imports."""
    return {module.partition(".")[0] for module in imported_modules(*arguments)}


def imported_modules(*arguments: str, descriptors: Collection[int] = ()) -> set[str]:
    """Modules that a command imports, whose standard input is empty."""
    command = [sys.executable, "-S", "-X", "importtime", "-m", "mcp_extproc", *arguments]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        command, input="", capture_output=True, env=environment, text=True, timeout=60, check=True,
        pass_fds=descriptors,
    )  # fmt: skip
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("command", ["validate", "run"])
def test_garbage_is_looked_for_while_a_command_runs(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it is imported, where that is most of what it does."""
    monkeypatch.setattr(gc, "freeze", lambda: None)  # for good, of all that the tests have
    assert cli.commands[command].name == command
    assert gc.isenabled()


def test_version() -> None:
    assert run("--version").output == f"mcp-extproc, version {__version__}\n"
    assert program("--version").stdout == f"mcp-extproc, version {__version__}\n"


def test_version_imports_nothing() -> None:
    found = imported("--version")
    assert "mcp_extproc" in found
    assert not found & {"asyncio", "click", "dataclasses", "logging", "pydantic"}


def test_validate_imports_only_what_it_needs(file: Path) -> None:
    modules = imported_modules("validate", str(file))
    found = {module.partition(".")[0] for module in modules}
    assert {"mcp_extproc", "pydantic"} <= found
    assert not found & {"aiohttp", "asyncio", "cryptography", "envoy_data_plane", "grpc", "msgspec", "rich", "uvloop"}
    # These take as long as ten of its other modules.
    assert not modules & {"ssl", "mcp_extproc.config.command_words"}


def test_the_bridge_imports_no_configuration() -> None:
    """It is told what it needs to know, and would have ten megabytes of it for nothing."""
    with socket.socket() as listening, open(os.devnull, "w") as answers:  # noqa: PTH123 - no file
        listening.bind(("127.0.0.1", 0))
        descriptors = (listening.fileno(), answers.fileno())
        found = imported_modules(
            "bridge-process",
            "--inherited",
            str(descriptors[0]),
            "--answers",
            str(descriptors[1]),
            descriptors=descriptors,
        )
    assert {"aiohttp", "mcp_extproc.bridge.server"} <= found
    packages = {module.partition(".")[0] for module in found}
    assert not packages & {"cryptography", "grpc", "pydantic", "re2", "rich", "yaml"}
    assert not [module for module in found if module.startswith(("mcp_extproc.config", "mcp_extproc.envoy"))]


def test_commands_are_found_under_their_names() -> None:
    assert {name: command.name for name, command in cli.commands.items()} == {name: name for name in cli.commands}


def test_validate(file: Path) -> None:
    result = run("validate", str(file))
    assert result.exit_code == 0
    assert result.output == f"{file}: valid, 1 server: notes\n"
    assert json.loads(run("validate", "--json", str(file)).output) == {
        "valid": True,
        "warnings": [],
        "servers": ["notes"],
    }


def test_validate_says_what_is_wrong_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("servers:\n  notes:\n    url: ftp://localhost/\n    uri: x\n")
    done = program("validate", str(path))
    assert done.returncode == 2
    assert "servers.notes.url" in done.stderr
    assert "servers.notes.uri" in done.stderr
    answer = program("validate", "--json", str(path))
    assert answer.returncode == 2
    assert json.loads(answer.stdout) == {
        "valid": False,
        "problems": [
            {"path": "servers.notes.url", "message": "expected a URL that starts with http:// or https://", "line": 3},
            {"path": "servers.notes.uri", "message": "unknown key, did you mean url?", "line": 4},
        ],
    }


def test_validate_says_what_to_write_instead_of_a_command_line(tmp_path: Path) -> None:
    program = tmp_path / "my server"
    program.touch(mode=0o755)
    file = tmp_path / "mcp-servers.json"
    line = {"command": "npx -y @scope/pkg --token hush"}
    file.write_text(json.dumps({"mcpServers": {"line": line, "fine": {"command": str(program)}}}))
    done = run("validate", str(file), "--json")
    assert done.exit_code == 0
    args = '["-y", "@scope/pkg", "--token", "[redacted]"] (in YAML, all of it in the list command)'
    assert json.loads(done.stdout)["warnings"] == [
        f'mcpServers.line.command is a whole command line: write "command": "npx", "args": {args}'
    ]


def test_validate_warns_of_files_that_envoy_could_not_read_here(tmp_path: Path) -> None:
    """Where it is checked need not be where it is served."""
    file = tmp_path / "gateway.yaml"
    file.write_text("servers: {a: {url: 'https://a.example/mcp', tls: {ca: /nowhere/ca.pem}}}")
    result = run("validate", "--json", str(file))
    assert result.exit_code == 0
    [warning] = json.loads(result.output)["warnings"]
    assert warning.startswith("on this machine: servers.a.tls.ca: there is no such file")
    keys = tmp_path / "keys.yaml"
    keys.write_text("alice: hush\n")
    file.write_text(
        f"servers: {{a: {{url: 'https://a.example/mcp'}}}}\nauthentication: {{api_keys: {{file: '{keys}'}}}}"
    )
    [warning] = json.loads(run("validate", "--json", str(file)).output)["warnings"]
    assert warning.startswith(
        "on this machine: line 2, authentication.api_keys.file: entry 1: expected a key of 16 to 512"
    )


@pytest.mark.parametrize(
    ("name", "text", "path"),
    [
        ("gateway.yaml", "servers: {a: {url: 'http://a/'}}\nrate_limits: [{match: {server: b}, requests: 1, per: day}]\n",
         "rate_limits[0].match.server"),
        ("gateway.yaml", "servers: {a: {url: 'http://a/', prefix: a__b}}\n", "servers.a"),
        ("gateway.yaml", "servers: {a: {url: '${NOT_SET_ANYWHERE}'}}\n", "servers.a.url"),
        ("gateway.yaml", "servers: {a: {url: 'http://a/'}}\nenvoy: {clusters: [{name: x, foo: 99999999999999999999}]}\n",
         "envoy.clusters[0].foo"),
        ("gateway.yaml", 'servers: {a: {url: "http://a/"}}\nenvoy: {clusters: [{name: x, foo: "\\ud800"}]}\n',
         "envoy.clusters[0].foo"),
        ("gateway.yaml", "servers: [\n", ""),
        ("mcp-servers.json", '{"mcpServers": {"a": {"httpUrl": "ftp://a/"}}}', "mcpServers.a.httpUrl"),
        ("mcp-servers.json", '{"mcpServers": {"a": {"url": "http://a/", "url": "http://b/"}}}', "mcpServers.a.url"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["validate", "check"])
def test_problems_in_json_have_the_path_of_the_field(
    command: str, name: str, text: str, path: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(text)
    result = run(command, "--json", str(file))
    assert result.exit_code == 2
    [problem] = json.loads(result.stdout)["problems"]
    assert problem["path"] == path
    assert problem["message"]
    assert not path or path not in problem["message"]


@pytest.mark.parametrize("command", ["validate", "check", "run", "serve"])
def test_strict_refuses_what_can_not_be_served(command: str, tmp_path: Path) -> None:
    file = tmp_path / "mcp-servers.json"
    file.write_text('{"mcpServers": {"a": {"url": "http://a/"}, "local": {"type": "ws"}}}')
    result = run(command, "--strict", str(file))
    assert isinstance(result.exception, ConfigError)
    assert [problem.path for problem in result.exception.problems] == ["mcpServers.local"]
    result = run("validate", str(file))
    assert result.exit_code == 0
    assert "mcpServers.local is left out" in result.stderr


def test_a_missing_file(tmp_path: Path) -> None:
    done = program("validate", str(tmp_path / "nowhere.yaml"))
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_bootstrap_holds_no_secret(file: Path) -> None:
    result = run("envoy", "bootstrap", str(file), "--port", "8080", "--extproc", "127.0.0.1:9002")
    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    names = [listener["name"] for listener in document["staticResources"]["listeners"]]
    assert names == ["mcp", "mcp_upstreams", "mcp_repair", "mcp_batches"]
    address = document["staticResources"]["listeners"][0]["address"]["socketAddress"]
    assert address == {"address": "127.0.0.1", "portValue": 8080}
    assert '"portValue": 9002' in result.output
    assert "hush" not in result.output


def test_bootstrap_takes_every_address(file: Path) -> None:
    options = [f"--{name}=unix:/run/here/{name}" for name in ("extproc", "upstreams", "repair", "batches", "admin")]
    result = run("envoy", "bootstrap", str(file), *options)
    assert result.exit_code == 0, result.output
    for name in ("extproc", "upstreams", "repair", "batches", "admin"):
        assert f'"/run/here/{name}"' in result.output


@pytest.mark.parametrize("command", ["bootstrap", "attach", "fragments"])
def test_a_bridge_elsewhere_has_the_commands(command: str, tmp_path: Path) -> None:
    """HTTP+SSE servers stay with the gateway's own, which reaches them through Envoy."""
    file, existing = tmp_path / "gateway.yaml", tmp_path / "envoy.yaml"
    file.write_text(
        "servers: {time: {command: [uvx, mcp-server-time]}, old: {url: 'http://a.example/sse', transport: sse}}"
    )
    types = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
        "http_filters": [router],
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    web = {"socket_address": {"address": "0.0.0.0", "port_value": 80}}
    listener = {"name": "web", "address": web, "filter_chains": [{"filters": [network]}]}
    existing.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    arguments = {
        "bootstrap": [str(file)], "attach": ["--config", str(file), str(existing)], "fragments": ["--config", str(file)],
    }  # fmt: skip
    result = run("envoy", command, *arguments[command], "--bridge", "10.0.0.7:9100")
    assert result.exit_code == 0, result.output
    clusters = {cluster["name"]: json.dumps(cluster) for cluster in _clusters(yaml.safe_load(result.stdout))}
    assert '"10.0.0.7"' in clusters["mcp/time"]
    assert "bridge.sock" in clusters["mcp/old"]
    assert "10.0.0.7" not in clusters["mcp/old"]
    assert '"STATIC"' in clusters["mcp/time"]
    result = run("envoy", command, *arguments[command], "--bridge", "bridge:9100")
    assert result.exit_code == 0, result.output
    clusters = {cluster["name"]: json.dumps(cluster) for cluster in _clusters(yaml.safe_load(result.stdout))}
    assert '"bridge"' in clusters["mcp/time"]
    assert '"STRICT_DNS"' in clusters["mcp/time"]


def _clusters(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get("clusters") or (document.get("staticResources") or document["static_resources"])["clusters"]
    assert isinstance(found, list)
    return found


def test_schema() -> None:
    document = json.loads(run("schema").output)
    assert "servers" in document["properties"]


@pytest.mark.parametrize("address", ["nowhere", "unix:relative", "host:99999", "::1:80"])
def test_bad_addresses(file: Path, address: str) -> None:
    result = run("serve", str(file), "--listen", address)
    assert result.exit_code == 2
    assert address in result.output


def test_serve_says_where_it_can_not_listen(file: Path, tmp_path: Path) -> None:
    done = program("serve", str(file), "--listen", f"unix:{tmp_path}/no/such/folder.sock")
    assert done.returncode == 1
    assert "folder.sock" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bridge_that_can_not_start(file: Path, tmp_path: Path) -> None:
    done = program("bridge", str(file), "--listen", f"unix:{tmp_path}/no/such/folder.sock")
    assert done.returncode == 1
    assert f"cannot listen on unix:{tmp_path}/no/such/folder.sock: No such file or directory" in done.stderr
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        done = program("bridge", str(file), "--listen", f"0.0.0.0:{port}")
        assert done.returncode == 1
        assert f"warning: 0.0.0.0:{port} can be reached from elsewhere, and whoever reaches it can use" in done.stderr
        assert f"cannot listen on 0.0.0.0:{port}: Address already in use" in done.stderr
        assert "warning" not in program("bridge", str(file), "--listen", f"127.0.0.1:{port}").stderr
    file.write_text("servers: {time: {command: []}}")
    done = program("bridge", str(file), "--listen", f"unix:{tmp_path}/b")
    assert done.returncode == 2
    assert "servers.time.command" in done.stderr
    assert "Traceback" not in done.stderr


TCP = ("--listen", "127.0.0.1:9002")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tls-certificate", "FILE", *TCP), "--tls-key is missing"),
        (("--tls-key", "FILE", *TCP), "--tls-certificate is missing"),
        (("--tls-client-ca", "FILE", *TCP), "--tls-certificate is missing"),
        (("--tls-certificate", "FILE", "--tls-key", "FILE"), "TLS requires --listen HOST:PORT"),
        (("--tls-certificate", "FILE", "--tls-key", "FILE", "--listen", "unix:/run/x.sock"), "TLS requires --listen"),
        (("--drain-seconds", "-1"), "-1"),
    ],
)
def test_serve_options_that_do_not_go_together(file: Path, options: tuple[str, ...], says: str) -> None:
    result = run("serve", str(file), *(str(file) if option == "FILE" else option for option in options))
    assert result.exit_code == 2
    assert says in result.output


def test_serve_says_which_certificate_is_none(file: Path) -> None:
    done = program("serve", str(file), *TCP, "--tls-certificate", str(file), "--tls-key", str(file))
    assert done.returncode == 2
    assert f"TLS can't be served: {file} with {file}: expected a certificate and its key, in PEM" in done.stderr
    assert "Traceback" not in done.stderr
    done = program("serve", str(file), *TCP, "--tls-certificate", "/nowhere.pem", "--tls-key", str(file))
    assert done.returncode == 2
    assert "TLS can't be served: /nowhere.pem: can't be read: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--extproc-client-certificate", "a", "--extproc-client-key", "b"), "--extproc-ca is missing"),
        (("--extproc-sni", "gateway.internal"), "--extproc-ca is missing"),
        (("--extproc-ca", "a", "--extproc-client-key", "b"), "--extproc-client-certificate is missing"),
        (("--extproc-ca", "a", "--extproc-client-certificate", "b"), "--extproc-client-key is missing"),
        (("--extproc-ca", "a"), "TLS requires workers at --extproc HOST:PORT"),
        (("--extproc-ca", "a", "--extproc", "unix:/run/x.sock"), "TLS requires workers at --extproc HOST:PORT"),
        (("--extproc-ca", "a", "--extproc", "g:1", "--extproc", "unix:/run/x.sock"), "TLS requires workers at"),
    ],
)
def test_bootstrap_options_that_do_not_go_together(file: Path, options: tuple[str, ...], says: str) -> None:
    result = run("envoy", "bootstrap", str(file), *options)
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize(
    ("options", "sni", "names"),
    [
        (("--extproc", "gateway:9002"), "gateway", [("DNS", "gateway")]),
        (("--extproc", "10.0.0.8:9002"), "", [("IP_ADDRESS", "10.0.0.8")]),
        (("--extproc", "a:9002", "--extproc", "b:9002"), "", [("DNS", "a"), ("DNS", "b")]),
        (("--extproc", "a:9002", "--extproc", "a:9003"), "a", [("DNS", "a")]),
        (("--extproc", "a:9002", "--extproc", "b:9002", "--extproc-sni", "g"), "g", [("DNS", "g")]),
    ],
)
def test_bootstrap_with_tls(file: Path, options: tuple[str, ...], sni: str, names: list[tuple[str, str]]) -> None:
    result = run("envoy", "bootstrap", str(file), *options, "--extproc-ca", "/nowhere/ca.pem")
    assert result.exit_code == 0, result.output
    clusters = json.loads(result.output)["staticResources"]["clusters"]
    [cluster] = [cluster for cluster in clusters if cluster["name"] == "mcp_extproc"]
    tls = cluster["transportSocket"]["typedConfig"]
    common = tls["commonTlsContext"]
    assert tls.get("sni", "") == sni
    assert common["alpnProtocols"] == ["h2"]
    assert "tlsCertificates" not in common
    validation = common["validationContext"]
    assert validation["trustedCa"] == {"filename": "/nowhere/ca.pem"}
    assert [(san["sanType"], san["matcher"]["exact"]) for san in validation["matchTypedSubjectAltNames"]] == names


# -- Which Envoy reads it ---------------------------------------------------------------------------------------------


@pytest.fixture
def rendering(file: Path) -> list[list[str]]:
    """All commands that render for an Envoy elsewhere."""
    existing = str(ROOT / "envoy" / "existing.yaml")
    attach = ["envoy", "attach", "--config", str(file), existing, "--listener", "https", "--virtual-host", "api"]
    return [attach, ["envoy", "bootstrap", str(file)], ["envoy", "fragments", "--config", str(file)]]


def test_envoys_that_are_too_old_are_refused_by_name(rendering: list[list[str]], tmp_path: Path) -> None:
    old = envoy_that_says("1.37.5", tmp_path)
    for command in rendering:
        for options in (["--envoy", str(old)], ["--envoy-version", "1.37.5"], ["--envoy-version", "0ebf/1.37.5/Clean"]):
            result = run(*command, *options)
            assert result.exit_code == 2, result.output
            assert "Envoy 1.37.5" in result.output
            assert "the oldest that reads it is 1.38" in " ".join(result.output.split())
            assert "staticResources" not in result.output


def test_envoys_that_are_not_too_old(rendering: list[list[str]], tmp_path: Path) -> None:
    new = envoy_that_says("1.38.0", tmp_path)
    for command in rendering:
        plain = run(*command)
        assert plain.exit_code == 0, plain.output
        for options in (["--envoy", str(new)], ["--envoy-version", "1.38"], ["--envoy-version", "v1.40-latest"]):
            assert run(*command, *options).output == plain.output


def test_envoys_that_are_none(rendering: list[list[str]], tmp_path: Path) -> None:
    silent = envoy_that_says("unknown", tmp_path)
    for options, said in (
        (["--envoy-version", "latest"], "'latest' is no version such as 1.40.0"),
        (["--envoy", str(tmp_path / "nowhere")], "nowhere is not an executable program"),
        (["--envoy", str(silent)], "does not say its version; give --envoy-version instead"),
    ):
        result = run(*rendering[0], *options)
        assert result.exit_code == 2
        assert said in " ".join(result.output.split())


@pytest.mark.parametrize("command", ["run", "check"])
def test_an_envoy_that_is_too_old_is_not_started(command: str, file: Path, tmp_path: Path) -> None:
    old = envoy_that_says("1.37.5", tmp_path)
    done = program(command, str(file), "--envoy", str(old))
    assert done.returncode == 1
    assert f"Envoy 1.37.5 ({old}) is too old" in " ".join(done.stderr.split())
    assert "started" not in done.stderr


@pytest.mark.parametrize("say", [common.warn, common.complain])
def test_nothing_that_a_terminal_obeys_is_printed(
    say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the line breaks of our own messages."""
    say("a\x1b[2J\u202e\r \\[red]b[/]\nsecond")
    first, second = capsys.readouterr().err.splitlines()
    assert first.partition(": ")[2] == "a\\u001b[2J\\u202e\\r \\[red]b[/]"
    assert second == "second"
    assert common.escape("a\nb") == "a\\nb"


# -- Full disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "validate --json", "schema", "envoy bootstrap"])
def test_a_result_that_can_not_be_written(command: str, file: Path) -> None:
    arguments = [sys.executable, "-m", "mcp_extproc", *command.split(), *([] if command == "schema" else [str(file)])]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device: 'standard output'\n")


def test_a_warning_that_can_not_be_written_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mcp-servers.json"
    path.write_text('{"mcpServers": {"a": {"type": "ws"}, "b": {"url": "http://127.0.0.1:1/mcp"}}}')
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mcp_extproc", "validate", str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False)
    assert done.stdout == f"{path}: valid, 1 server: b\n"


@pytest.mark.parametrize("command", ["run --port 0", "check", "serve --envoy-config ."])
def test_a_disk_without_space_for_envoys_files(command: str, file: Path, tmp_path: Path) -> None:
    """Files may have 1 KiB here; what is more fails as on a full disk, with another number."""
    name, *options = command.split()
    shell = f'ulimit -f 2; exec "{sys.executable}" -m mcp_extproc {name} "{file}" {" ".join(options)}'
    # Half a file is what Python 3.11 would write of a module's bytecode, too, and read the next time.
    # Nor can what is measured be saved there.
    measured = {name for name in os.environ if name.startswith("COVERAGE_")}
    environment = {
        **{name: value for name, value in os.environ.items() if name not in measured},
        "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 1
    assert f"error: [Errno 27] File too large: '{tmp_path}/" in done.stderr
    assert ".json'" in done.stderr
    assert "Traceback" not in done.stderr


# -- explain ------------------------------------------------------------------------------------------------------------------

RULED = """
servers: {a: {url: http://127.0.0.1:1/mcp}}
authentication: {oauth: {resource: https://g.example/mcp, issuers: [{issuer: https://i.example, jwks: {uri: https://i.example/k}}]}}
authorization:
  step_up: true
  rules:
  - {name: readers, action: allow, principals: {scopes: [read]}, tools: ["get_*"]}
"""


def test_explain_says_which_rule_decides(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(RULED)
    result = run("explain", str(file), "--as", "sub=alice scope=read", "--tool", "a__get_it")
    assert result.exit_code == 0, result.output
    assert result.output.split()[-5:] == ["a", "tools", "a__get_it", "allowed", "readers"]
    result = run("explain", str(file), "--as", "sub=alice", "--tool", "a__get_it", "--json")
    assert json.loads(result.output) == {
        "items": [
            {
                "server": "a", "kind": "tools", "name": "a__get_it", "verdict": "needs scopes", "rule": "default",
                "scopes": ["read"],
            }
        ],
        "unread": [],
    }  # fmt: skip
    anonymous = json.loads(run("explain", str(file), "--tool", "a__get_it", "--json").output)
    assert anonymous["items"][0]["verdict"] == "hidden"


def test_explain_says_what_it_does_not_understand(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(RULED)
    result = run("explain", str(file), "--as", "alice")
    assert (result.exit_code, "expected words such as sub=alice" in result.output) == (2, True)
    result = run("explain", str(file), "--tool", "nobody_has_it")
    assert (result.exit_code, "no server can have a tool of this name" in result.output) == (1, True)
