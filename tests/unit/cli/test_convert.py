from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from mcp_extproc.cli import cli
from mcp_extproc.config import ConfigError, load

SECRET = "hunter2-0123456789"


def agents_file(folder: Path) -> Path:
    file = folder / "mcp-servers.json"
    entry = {"url": "http://a.example:${PORT}/mcp", "headers": {"Authorization": f"Bearer {SECRET}"}, "trust": True}
    file.write_text(json.dumps({"mcpServers": {"a": entry}}))
    return file


def convert(file: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["convert", str(file), *options], env={"PORT": "8080"})


def test_what_is_printed_is_the_same_configuration(tmp_path: Path) -> None:
    file, env_file = agents_file(tmp_path), tmp_path / "gateway.env"
    result = convert(file, "--env-file", str(env_file))
    assert result.exit_code == 0
    assert SECRET not in result.output
    assert env_file.read_text() == f"A_AUTHORIZATION={SECRET}\n"
    assert env_file.stat().st_mode & 0o777 == 0o600
    native = tmp_path / "gateway.yaml"
    native.write_text(result.stdout)
    assert load(native, {"A_AUTHORIZATION": SECRET}).config == load(file, {"PORT": "8080"}).config
    validated = CliRunner().invoke(cli, ["validate", str(native)], env={"A_AUTHORIZATION": SECRET})
    assert validated.exit_code == 0


def test_losses_are_told_in_comments_and_on_standard_error(tmp_path: Path) -> None:
    result = convert(agents_file(tmp_path))
    remarks = [line for line in result.stdout.splitlines() if line.startswith("#")]
    assert remarks == [
        "# From mcp-servers.json, by mcp-extproc convert.",
        "# Lost: mcpServers.a: keys for agents have no effect here: trust",
        "# Lost: variables that are no credentials are written as what they are: PORT",
    ]
    assert all(remark.removeprefix("# Lost: ") in result.stderr for remark in remarks[1:])
    assert "set the variables A_AUTHORIZATION, or have --env-file write them" in result.stderr


def test_what_is_kept_is_no_loss(tmp_path: Path) -> None:
    """A warning about it is for standard error alone."""
    file = tmp_path / "gateway.yaml"
    file.write_text("servers: {a: {url: http://a/, credentials: {forward: [{name: Authorization}]}}}\n")
    result = convert(file)
    assert "Token Passthrough" in result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("#")] == [
        "# From gateway.yaml, by mcp-extproc convert."
    ]


def test_for_envoy_alone(tmp_path: Path) -> None:
    file, env_file = agents_file(tmp_path), tmp_path / "envoy.env"
    result = convert(file, "--to", "envoy-native", "--env-file", str(env_file))
    assert result.exit_code == 0
    assert SECRET not in result.output
    assert env_file.read_text() == f"A_AUTHORIZATION={SECRET}\n"
    assert "value: Bearer %ENVIRONMENT(A_AUTHORIZATION)%" in result.stdout
    lost = [line for line in result.stdout.splitlines() if line.startswith("# Lost: ")]
    assert "# Lost: servers.a: its tools begin with their own names, not with a__" in lost
    assert all(line.removeprefix("# Lost: ") in result.stderr for line in lost)


def test_what_envoy_alone_does_not_do_is_no_loss_but_an_error(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "servers: {a: {url: http://a/, tools: {exclude: [x]}}}\nauthorization: {rules: [{action: allow}]}\n"
    )
    result = convert(file, "--to", "envoy-native")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "authorization: only this gateway does that\n  servers.a.tools: clients could call all tools" in result.stderr
    )


def test_json(tmp_path: Path) -> None:
    told = json.loads(convert(agents_file(tmp_path), "--json").stdout)
    assert told["variables"] == ["A_AUTHORIZATION"]
    assert len(told["losses"]) == 2
    assert told["configuration"]["servers"]["a"]["url"] == "http://a.example:8080/mcp"


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    env_file = tmp_path / "gateway.env"
    env_file.write_text("MINE=1\n")
    result = convert(agents_file(tmp_path), "--env-file", str(env_file))
    assert result.exit_code == 2
    assert "is there already: name another one" in result.stderr
    assert (env_file.read_text(), result.stdout) == ("MINE=1\n", "")


def test_a_file_that_is_invalid(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("servers: {a: {url: 'ftp://a/'}}")
    result = convert(file)
    # The program's entry prints it, and exits with 2.
    assert isinstance(result.exception, ConfigError)
    assert result.stdout == ""


def test_filters_of_envoy_are_copied_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    text = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"
    buffer = {"name": "x", "typed_config": {"@type": text, "max_request_bytes": 1}}
    servers = {"a": {"url": "http://a.example/"}}
    file.write_text(json.dumps({"servers": servers, "envoy": {"http_filters": [buffer]}}))
    result = convert(file)
    assert "filters and clusters are copied as they are" in result.stderr
    native = tmp_path / "again.yaml"
    native.write_text(result.stdout)
    assert load(native, {}).config == load(file, {}).config
