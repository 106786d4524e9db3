"""Whatever goes wrong, no value of the file or the environment shows up in what people get to read."""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config import ConfigError, loads
from mcp_extproc.config.reference_text import EXAMPLE

MARK = "zq7kx9wv"
ENVIRON = {"GITHUB_TOKEN": "t", "MCP_SESSION_SECRET": "s" * 32}
NATIVE = yaml.safe_load(EXAMPLE)
NATIVE["servers"]["github"]["tools"]["excludeRegex"] = ["^x"]
NATIVE["session"]["previous_secrets"] = ["p" * 32]
MCP_SERVERS = {
    "mcpServers": {
        "a": {
            "url": "http://a/mcp?k=v",
            "headers": {"Authorization": "x"},
            "includeTools": ["x"],
            "tools": ["y"],
            "excludeTools": ["z"],
            "timeout": 5,
            "type": "http",
            "description": "x",
            "env": {"K": "v"},
            "unknown": {"k": ["v"]},
        },
        "b": {"httpUrl": "http://b/"},
        "c": {"disabled": True, "command": "x", "args": ["y"]},
    },
    "other": "x",
}

# A marked text, with what trips parsers, regular expressions and variables around it.
around = st.text(alphabet="aA0 :/?#[]{}()<>@!$&'*+,;=%|\\\"^~`-_.\n\t\x00\u00e9\u20ac\ud800", max_size=4)
# What surrounds a secret where something in it is parsed: URLs, regular expressions, variables, prefixes.
SHAPES = [
    ("", ""), ("http://h/?k=", ""), ("http://h/", ""), ("http://[", "]/"), ("http://u:", "@h/"), ("http://h:", "/"),
    ("https://h/#", ""), ("https://", ""), ("/", ""), ("(?P=", ")"), ("(?P<", ">"), ("(?P<a-", ">x)"), ("\\N{", "}"),
    ("[z-", "]"), ("${", ""), ("${X:-${", "}}"), ("${X-", "}"), ("${X:=", "}"), ("${1", "}"), ("Bearer ", ""), ("h:", ""),
    ("a__", ""), ("x" * 40, ""), ("\n", ""), ("\ud800", ""), ("'", "'"),
]  # fmt: skip
secrets = st.builds(
    lambda shape, before, after: f"{shape[0]}{before}{MARK}{after}{shape[1]}", st.sampled_from(SHAPES), around, around
)


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all scalars."""
    if not isinstance(data, dict | list):
        yield path
        return
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield from leaves(value, (*path, key))


def planted(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(data)
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return data


def shown(text: str, environ: Mapping[str, str], name: str = "f", *, config: bool = False) -> str:
    """All that a user or a log could see after loading this text."""
    try:
        loaded = loads(text, name, environ)
    except ConfigError as error:
        seen = str(error) + repr(error) + "".join(traceback.format_exception(error))
    else:
        seen = "".join(loaded.warnings) + (repr(loaded) + str(loaded.config) if config else "")
    return seen.lower()


PLACES = [(data, path) for data in (NATIVE, MCP_SERVERS) for path in leaves(data)]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_no_value_shows_in_any_place(shape: int) -> None:
    """Half of the shapes stand in the file itself, half in a variable: the other half at the next place."""
    secret = MARK.join(SHAPES[shape])
    for number, (data, path) in enumerate(PLACES, shape):
        if number % 2:
            assert MARK not in shown(json.dumps(planted(data, path, secret)), ENVIRON), path
        else:
            text = json.dumps(planted(data, path, "${PLANTED}"))
            assert MARK not in shown(text, {**ENVIRON, "PLANTED": secret}), path


everywhere = st.sampled_from(PLACES)
wrapped = st.sampled_from([lambda value: value, lambda value: [value], lambda value: {"k": value}])


@given(everywhere, secrets, wrapped)
def test_no_value_shows_in_errors_and_warnings(where: tuple[Any, tuple[Any, ...]], secret: str, wrap: Any) -> None:
    text = json.dumps(planted(*where, wrap(secret)))
    assert MARK not in shown(text, ENVIRON)


@given(everywhere, secrets)
def test_no_variable_shows_in_errors_and_warnings(where: tuple[Any, tuple[Any, ...]], secret: str) -> None:
    text = json.dumps(planted(*where, "${PLANTED}"))
    assert MARK not in shown(text, {**ENVIRON, "PLANTED": secret})


SENSITIVE = [
    (NATIVE, ("servers", "github", "url"), "https://h/mcp?key="),
    (NATIVE, ("servers", "github", "url"), "https://h/"),
    (NATIVE, ("servers", "github", "headers", "Authorization"), "Bearer "),
    (NATIVE, ("servers", "tickets", "path"), "/mcp?key="),
    (NATIVE, ("session", "secret"), "x" * 32),
    (NATIVE, ("session", "previous_secrets", 0), "x" * 32),
    (MCP_SERVERS, ("mcpServers", "a", "url"), "http://h/mcp?key="),
    (MCP_SERVERS, ("mcpServers", "a", "headers", "Authorization"), ""),
    (MCP_SERVERS, ("mcpServers", "b", "httpUrl"), "http://h/"),
]  # fmt: skip


@given(st.sampled_from(SENSITIVE), around, st.booleans())
def test_no_secret_shows_in_the_configuration(
    where: tuple[Any, tuple[Any, ...], str], after: str, variable: bool
) -> None:
    data, path, before = where
    secret = before + MARK + after
    text = json.dumps(planted(data, path, "${PLANTED}" if variable else secret))
    assert MARK not in shown(text, {**ENVIRON, "PLANTED": secret}, config=True)


LINES = EXAMPLE.splitlines()
with_values = [number for number, line in enumerate(LINES) if ": " in line and not line.lstrip().startswith("#")]


@given(st.sampled_from(with_values), st.text(alphabet="*&!|>'\"%@`-?:#[]{}, \t<\\", max_size=3), around)
def test_no_value_shows_when_the_yaml_is_broken(number: int, before: str, after: str) -> None:
    lines = list(LINES)
    lines[number] = lines[number].split(": ")[0] + f": {before}{MARK}{after}"
    text = "\n".join(lines)
    # A second colon, a question mark or a quote makes the value a key, and keys are shown.
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        data = None
    if MARK not in keys_of(data):
        assert MARK not in shown(text, ENVIRON)


def keys_of(data: Any) -> str:
    if isinstance(data, dict):
        return "".join(f"{key}{keys_of(value)}" for key, value in data.items())
    return "".join(map(keys_of, data)) if isinstance(data, list) else ""


@given(st.sampled_from(list(leaves(MCP_SERVERS))), around, st.sampled_from(['"', "", "'"]))
def test_no_value_shows_when_the_json_is_broken(path: tuple[Any, ...], after: str, quote: str) -> None:
    text = json.dumps(planted(MCP_SERVERS, path, "@@")).replace('"@@"', f"{quote}{MARK}{after}")
    assert MARK not in shown(text, ENVIRON, "f.json")
