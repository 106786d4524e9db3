from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_extproc.bridge.environment import read_env_file
from mcp_extproc.config import GatewayConfig, Loaded, load, loads
from mcp_extproc.config.named_variables import named_variables
from mcp_extproc.config.writing import Written, masked, written
from tests.unit.config.kubernetes.support import backend, gateway, route, secret, text_of, tls_policy, to_backend
from tests.unit.config.kubernetes.test_registrations import http_route, registration, service, virtual

FOLDER = Path(__file__).parent / "conversions"
FILES = sorted([*FOLDER.glob("*[!e].yaml"), *FOLDER.glob("*.json")])
FILES = [path for path in FILES if not path.name.endswith(".native.yaml")]
ENVIRON = {"GITHUB_ACCESS_TOKEN": "gh-${t0ken}"}


def golden(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".native.yaml"), path.with_suffix(".env")


def converted(path: Path) -> tuple[str, str]:
    loaded = load(path, ENVIRON)
    found = written(loaded.config, named_variables(path, ENVIRON))
    return found.text([f"Lost: {warning}" for warning in loaded.warnings]), found.env_file()


def again(found: Written) -> Loaded:
    """What is read of a converted file, with its variables and no others."""
    return loads(found.text(["A remark."]), "gateway.yaml", found.secrets)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_conversions(path: Path) -> None:
    native, env = golden(path)
    text, variables = converted(path)
    assert text == native.read_text(encoding="utf-8")
    assert variables == env.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_converted_file_is_the_same_configuration(path: Path) -> None:
    variables = read_env_file(golden(path)[1].read_text(encoding="utf-8"))
    assert load(golden(path)[0], variables).config == load(path, ENVIRON).config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_credential_is_in_a_converted_file(path: Path) -> None:
    text, variables = (one.read_text(encoding="utf-8") for one in golden(path))
    values = read_env_file(variables).values()
    assert values
    assert not [value for value in values if value in text]


TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=30).map(str.strip)
VALUES = TEXTS.filter(bool)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
VARIABLES = NAMES.map(lambda name: name.replace("-", "_"))


@st.composite
def documents(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An MCPRoute with what it refers to."""
    name = draw(NAMES)
    key: dict[str, Any] = draw(st.sampled_from([{}, {"header": "x-key"}, {"queryParam": "a key"}]))
    key |= draw(st.sampled_from([{"secretRef": {"name": "s"}}, {"inline": draw(VALUES)}]))
    selector = draw(
        st.dictionaries(st.sampled_from(["include", "exclude"]), st.lists(VALUES, min_size=1, max_size=3), max_size=2)
    )
    reference = to_backend(name=name, securityPolicy={"apiKey": key}) if draw(st.booleans()) else to_backend(name=name)
    if selector:
        reference[0]["toolSelector"] = selector
    target = st.fixed_dictionaries({"backend": st.just(name), "tool": VALUES})
    rules = draw(
        st.lists(
            st.fixed_dictionaries({"target": st.fixed_dictionaries({"tools": st.tuples(target).map(list)})}), max_size=3
        )
    )
    policy = {"authorization": {"rules": rules}} if draw(st.booleans()) else {}
    found = [route(backendRefs=reference, securityPolicy=policy), backend(name), secret(apiKey=draw(VALUES))]
    if draw(st.booleans()):
        found.append(tls_policy(name))
    return [*found, gateway()] if draw(st.booleans()) else found


def escaped(text: str) -> str:
    return text.replace("${", "$ {")


@settings(max_examples=40)
@given(documents())
def test_every_route_is_the_same_when_converted(found: list[dict[str, Any]]) -> None:
    loaded = loads(escaped(text_of(*found)), "route.yaml", {})
    assert again(written(loaded.config, {})).config == loaded.config


@st.composite
def registrations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Registrations with what they refer to, and a virtual server with tools of theirs."""
    found: list[dict[str, Any]] = []
    tools: list[str] = []
    for number, tool in enumerate(draw(st.lists(NAMES, min_size=1, max_size=3))):
        prefix = draw(st.sampled_from(["", f"p{number}_"]))
        spec = {"prefix": prefix} if prefix else {}
        if prefix and draw(st.booleans()):
            spec["userSpecificList"] = "Enabled"
        changes = {"set": [{"name": "x-key", "value": draw(VALUES)}]}
        filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": changes}] if draw(st.booleans()) else []
        name = f"s{number}"
        found += [registration(name, **spec, path=f"/{tool}"), http_route(name, filters=filters), service(name)]
        tools.append(f"{prefix}{tool}")
    return [*found, virtual(tools=tools)] if draw(st.booleans()) else found


@settings(max_examples=40)
@given(registrations())
def test_every_registration_is_the_same_when_converted(found: list[dict[str, Any]]) -> None:
    loaded = loads(escaped(text_of(*found)), "kuadrant.yaml", {})
    assert again(written(loaded.config, {})).config == loaded.config


@given(
    st.dictionaries(
        NAMES,
        st.one_of(
            st.fixed_dictionaries(
                {"url": st.just("http://a.example/mcp?x=1&key=k3y-12345678")},
                optional={"headers": st.dictionaries(NAMES.map("x-{}".format), VALUES, max_size=2)},
            ),
            st.fixed_dictionaries(
                {"command": st.just("npx")},
                optional={"args": st.lists(TEXTS, max_size=4), "env": st.dictionaries(VARIABLES, TEXTS, max_size=3)},
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_every_file_of_agents_is_the_same_when_converted(servers: Mapping[str, Any]) -> None:
    loaded = loads(escaped(json.dumps({"mcpServers": servers})), "mcp-servers.json", {})
    assert again(written(loaded.config, {})).config == loaded.config


def test_text_that_looks_like_something_else_stays_text() -> None:
    words = ["1e5", "0o17", "no", "null", "~", "1:20", "2024-01-01", "<<", "a: b", "# x", "${X:-y}", "-", "é", "a\nb"]
    loaded = loads(json.dumps({"servers": {"a": {"command": ["x", *words]}}}), "gateway.json", {})
    assert again(written(loaded.config, {})).config == loaded.config


def test_keys_in_the_path_of_a_url_become_variables() -> None:
    """Hosted servers give each customer a URL of its own."""
    path = "/api/mcp/s/NGJlYzE3ZTAtYjQ4Zi00/${X}/streamable-http-endpoint/4f2d8c1e-77aa-4b1c-9d55-0a1b2c3d4e5f/mcp"
    servers = {
        "a": {"url": f"https://a.example{path}?k=v3ry-S3cret"},
        "b": {"endpoints": ["b.example:80"], "path": path},
    }
    config = GatewayConfig.model_validate({"servers": servers})
    found = written(config, {})
    assert found.data["servers"]["a"]["url"] == (
        "https://a.example/api/mcp/s/${A_PATH}/${MCP_EXTPROC_DOLLAR:-$}{X}/streamable-http-endpoint/${A_PATH_2}/mcp?k=${A_K}"
    )
    assert set(found.secrets) == {"A_PATH", "A_PATH_2", "A_K", "B_PATH", "B_PATH_2"}
    assert again(found).config == config
    assert set(config.servers["a"].secrets) == {found.secrets[name] for name in ("A_PATH", "A_PATH_2", "A_K")}


def test_a_credential_keeps_the_name_of_its_variable() -> None:
    text = "servers: {a: {url: 'http://a.example/', headers: {Authorization: 'Bearer ${MINE}'}}}"
    environ = {"MINE": "t0ken-1234"}
    found = written(loads(text, "gateway.yaml", environ).config, environ)
    assert found.secrets == environ
    assert found.data["servers"]["a"]["headers"] == {"Authorization": "Bearer ${MINE}"}


def test_two_credentials_of_one_name_have_two_variables() -> None:
    env = {"TOKEN": "first-1"}
    servers = {"a": {"command": ["x"], "env": env}, "b": {"command": ["x"], "env": {"TOKEN": "second-2"}}}
    found = written(loads(json.dumps({"servers": servers}), "gateway.json", {}).config, {})
    assert found.secrets == {"TOKEN": "first-1", "TOKEN_2": "second-2"}
    assert "first-1" not in repr(found)


def test_what_is_shown_has_nothing_secret() -> None:
    servers = {
        "a": {
            "url": "https://a.example/v1/sk-1f9c0a7e55d04cab/mcp?key=hunter2222&x=1",
            "headers": {"Authorization": "Bearer t0ken-1234", "x-level": "debug"},
        },
        "b": {"command": ["npx", "server", "--api-key", "s3cr3tk3y99"], "env": {"TOKEN": "zzzz", "LEVEL": "debug"}},
    }
    filters = [
        {"name": "own", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"k": "v"}}}
    ]
    config = GatewayConfig.model_validate({
        "servers": servers, "session": {"secret": "s" * 40}, "authentication": {"api_keys": {"keys": {"bob": "k" * 40}}},
        "envoy": {"http_filters": filters},
    })  # fmt: skip
    shown = yaml.safe_load(masked(config))
    assert shown == {
        "servers": {
            "a": {
                "url": "https://a.example/v1/***/mcp?key=***&x=***",
                "headers": {"Authorization": "Bearer ***", "x-level": "debug"},
            },
            "b": {"command": ["npx", "server", "--api-key", "***"], "env": {"TOKEN": "***", "LEVEL": "debug"}},
        },
        "session": {"secret": "***"},
        "authentication": {"api_keys": {"keys": {"bob": "***"}}},
        "envoy": {"http_filters": ["own"]},
    }
    full = masked(config, defaults=True)
    effective = yaml.safe_load(full)
    assert effective["listen"]["port"] == 1975
    assert effective["servers"]["a"]["timeout"] == 300
    hidden = ("sk-1f9c0a7e55d04cab", "hunter2222", "t0ken-1234", "s3cr3tk3y99", "zzzz", "s" * 40, "k" * 40)
    assert not [secret for secret in hidden if secret in full]
