from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from mcp_extproc.config.model import GatewayConfig
from mcp_extproc.config.reference_text import EXAMPLE
from mcp_extproc.config.schema import json_schema, reference_markdown
from mcp_extproc.config.server_entry import CLIENT_KEYS, KEYS
from tests.unit.config.support import native

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
ENVIRON = {"GITHUB_TOKEN": "t", "MCP_SESSION_SECRET": "s" * 32}


def test_the_document_is_the_generated_text() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reference_markdown(), (
        "regenerate: python -m mcp_extproc.config.schema > docs/configuration.md"
    )


def test_the_module_prints_the_document() -> None:
    done = subprocess.run([sys.executable, "-m", "mcp_extproc.config.schema"], capture_output=True, check=True)
    assert done.stdout.decode() == reference_markdown()
    assert done.stderr == b""


def test_the_example_loads_and_is_complete() -> None:
    config = native(EXAMPLE, ENVIRON)
    assert list(config.servers) == ["github", "tickets", "notes", "local", "files", "old"]
    data = yaml.safe_load(EXAMPLE)
    assert data.keys() == GatewayConfig.model_fields.keys()
    for section in ("listen", "session", "limits", "log"):
        assert data[section].keys() == type(getattr(config, section)).model_fields.keys()
    used = {key for server in data["servers"].values() for key in server}
    assert used == type(config.servers["github"]).model_fields.keys()


def test_the_yaml_of_the_document_loads() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", reference_markdown(), re.DOTALL)
    assert blocks[-1] == EXAMPLE
    for block in blocks:
        native(block, ENVIRON)


def test_the_document_names_every_key() -> None:
    text = reference_markdown()
    keys = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    models = {"GatewayConfig": json_schema()} | json_schema()["$defs"]
    assert keys >= {key for model in models.values() for key in model["properties"]} | KEYS.keys()
    assert all(f"`{key}`" in text for key in CLIENT_KEYS)
    assert "None" not in text


def test_the_document_describes_reloads() -> None:
    assert (
        "`run` and `serve --envoy-config` [reload the file](resilience.md#a-change-of-the-configuration)"
        in reference_markdown()
    )
    assert "does not notice" not in reference_markdown()


def test_durations_and_sizes_are_shown_as_written() -> None:
    text = reference_markdown()
    assert "| `timeout` | duration | `5m` |" in text
    assert "| `request_bytes` | size | `4MiB` |" in text
    assert "| `prefix` | text | the server's name |" in text
    assert "| `json_depth` | whole number, 8 to 500 | `100` |" in text
    assert "| `insecure_skip_verify` | `true` or `false` | `false` |" in text
    assert "| `alpn` | list of `h2`, `http/1.1` | `h2`, `http/1.1` |" in text


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_says_what_it_is() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "mcp-extproc configuration"
    assert "$id" not in schema
    assert schema["$defs"]["Listen"]["properties"]["port"]["description"] == "TCP port. 0 selects a free one."


def test_the_example_fits_the_schema_before_variables_are_replaced(validator: Any) -> None:
    validator.validate(yaml.safe_load(EXAMPLE))


A = {"url": "http://a/"}


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        ({"servers": {"a": A}}, True),
        ({"servers": {"a": {**A, "timeout": 5}}}, True),
        ({"servers": {"a": {**A, "timeout": "1h30m"}}}, True),
        ({"servers": {"a": {**A, "timeout": "${T}"}}}, True),
        ({"servers": {"a": {"endpoints": ["a:1"], "tls": {"insecure_skip_verify": "${X:-false}"}}}}, True),
        ({"servers": {"a": A}, "listen": {"port": "${PORT:-1}"}, "log": {"level": "${L}"}}, True),
        ({}, False),
        ({"servers": {}}, False),
        ({"servers": {"a b": A}}, False),
        ({"servers": {"a": {}}}, False),
        ({"servers": {"a": {**A, "endpoints": ["a:1"]}}}, False),
        ({"servers": {"a": {"command": ["npx"], "env": {"A": "${B}"}, "sharing": "shared"}}}, True),
        ({"servers": {"a": {**A, "command": ["npx"]}}}, False),
        ({"servers": {"a": {"command": []}}}, False),
        ({"servers": {"a": {"command": "npx"}}}, False),
        ({"servers": {"a": {**A, "timeout": "soon"}}}, False),
        ({"servers": {"a": {**A, "header": {}}}}, False),
        ({"servers": {"a": A}, "listen": {"port": "x"}}, False),
        ({"servers": {"a": A}, "listen": {"port": 65536}}, False),
        ({"servers": {"a": A}, "log": {"level": "loud"}}, False),
        ({"servers": {"a": {**A, "max_requests_per_connection": 0}}}, False),
        ({"servers": {"a": {**A, "max_requests_per_connection": 2**32}}}, False),
        ({"servers": {"a": A}, "listen": {"limits": {"max_connection_duration": 0.0001}}}, False),
        ({"servers": {"a": A}, "listen": {"limits": {"max_headers_count": 100_001}}}, False),
        ({"servers": {"a": A}, "listen": {"limits": {"max_headers_count": "${N}", "idle_timeout": "${T}"}}}, True),
    ],
)
def test_the_schema_agrees_with_the_model(data: Any, valid: bool, validator: Any) -> None:
    assert validator.is_valid(data) is valid


def test_the_schema_has_no_keywords_of_pydantics_own() -> None:
    known = {
        "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum", "examples", "exclusiveMinimum",
        "format", "items", "maximum", "maxItems", "maxLength", "maxProperties",
            "minItems", "minLength", "minProperties", "minimum", "oneOf", "pattern", "properties",
        "propertyNames", "required", "title", "type", "writeOnly",
    }  # fmt: skip

    def keywords(schema: Any) -> set[str]:
        inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *schema.get("oneOf", ())]
        inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
        return set(schema).union(*map(keywords, inner))

    schema = json_schema()
    found = set().union(*map(keywords, schema.pop("$defs").values())) | keywords(schema) - {"$schema"}
    assert found <= known
    assert {"minimum", "maximum"} <= found
