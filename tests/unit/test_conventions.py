"""What the tests are like themselves: where they stand, how they wait, and that they say what they mean."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests" / "unit"
SOURCES = sorted(
    path
    for folder in ("mcp_extproc", "tests", "bench", "examples", "fuzz", "protos")
    for path in (ROOT / folder).rglob("*.py")
    if not {"_pb", "_api"} & set(path.parts)
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# -- Where they stand -----------------------------------------------------------------------------------------------------

MIRRORED = {"bench": "bench", "conformance": "tests/conformance"}
"""Folders of tests/unit whose modules are elsewhere than in mcp_extproc."""

ASPECTS = {
    "cli/test_cli.py": "cli/__init__.py",
    "config/kubernetes/test_properties.py": "config/kubernetes/translate.py",
    "config/test_secrets.py": "config/load.py",
    "extproc/http2/test_floods.py": "extproc/http2/connection.py",
    "extproc/http2/test_flow_control.py": "extproc/http2/connection.py",
    "extproc/http2/test_handshake.py": "extproc/http2/connection.py",
    "extproc/http2/test_headers.py": "extproc/http2/connection.py",
    "extproc/http2/test_hyper.py": "extproc/http2/connection.py",
    "extproc/http2/test_large_data.py": "extproc/http2/connection.py",
    "extproc/http2/test_reading.py": "extproc/http2/connection.py",
    "extproc/http2/test_violations.py": "extproc/http2/connection.py",
    "extproc/test_wire.py": "wire.py",
    "gateway/requests/test_owners.py": "gateway/requests/calls.py",
    "gateway/test_metadata.py": "gateway/dispatch.py",
    "gateway/test_sessions.py": "gateway/dispatch.py",
    "mcp/test_method_names.py": "mcp/methods.py",
    "mcp/test_rewriting.py": "mcp/envelope.py",
    "run/test_imports.py": "run/nursery.py",
    "run/test_starting.py": "run/standalone.py",
    "status/test_page_files.py": "status/server.py",
    "telemetry/test_made_up_names.py": "telemetry/collector/intake.py",
    "upstreams/test_failing_tasks.py": "tasks.py",
}
"""Tests of one side of a module that has several, and the module."""

TESTS = sorted(path.relative_to(UNIT).as_posix() for path in UNIT.glob("*/**/test_*.py"))


@pytest.mark.parametrize("test", TESTS)
def test_each_test_of_a_package_has_its_module(test: str) -> None:
    folder, _, rest = test.partition("/")
    expected = Path(MIRRORED.get(folder, f"mcp_extproc/{folder}"), rest.replace("test_", "", 1))
    if test in ASPECTS:
        assert not (ROOT / expected).exists(), "it has a module of its own: strike it from the list"
        expected = Path("mcp_extproc", ASPECTS[test])
    assert (ROOT / expected).exists()


def test_the_list_names_tests_that_exist() -> None:
    assert set(ASPECTS) <= set(TESTS)


# -- How they wait --------------------------------------------------------------------------------------------------------

POLLS_BY_HAND = {
    "tests/chaos/records.py": "it gives a process a tenth of the time",
    "tests/chaos/connections.py": "clients that pause between two pieces of a request",
    "tests/compose/docker.py": "it starts containers before there is an event loop",
    "tests/compose/traffic.py": "callers that pause between calls",
    "tests/extproc/http2rig.py": "it counts turns of the loop",
    "tests/extproc/recorded/replay.py": "it counts turns of the loop",
    "tests/support/stdio_server.py": "a program of its own, without an event loop",
    "tests/support/waiting.py": "the helper itself",
    "tests/unit/upstreams/test_fan_out.py": "turns of the loop",
    "tests/unit/upstreams/test_merged_stream.py": "turns of the loop",
    "tests/unit/upstreams/test_turns.py": "turns of the loop",
}
"""Loops that sleep, and why. All others wait with ``eventually``, which says what it waited for and what it saw last."""


def polls(source: str) -> Iterator[int]:
    """The lines of ``while`` loops that sleep in between."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.While) and any(
            isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "sleep"
            for call in ast.walk(node)
        ):
            yield node.lineno


def test_who_waits_uses_the_helper() -> None:
    found = {name_of(path) for path in SOURCES if name_of(path).startswith("tests/") and any(polls(path.read_text()))}
    assert found == set(POLLS_BY_HAND), "wait with tests.support.waiting.eventually"


@pytest.mark.parametrize(
    "source", ["while x:\n    time.sleep(1)", "while True:\n    if x:\n        await asyncio.sleep(0)"]
)
def test_what_polls(source: str) -> None:
    assert list(polls(f"async def f():\n{source}".replace("\n", "\n    "))) == [2]


# -- What they say --------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"\b[A-Z][0-9]{1,3}\b")
_NOQA = re.compile(r"# noqa:[ A-Z0-9,]*")


def codes(source: str) -> list[str]:
    """What looks like the number of a rule in a list, in comments and docstrings; nobody can look it up here."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            found += [f"line {token.start[0]}: {code}" for code in _CODE.findall(_NOQA.sub("", token.string))]
    return found


def test_rules_are_named_in_words() -> None:
    assert {name_of(path): found for path in SOURCES if (found := codes(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('def f():\n    """E4: ids."""', ["line 2: E4"]),
        ("x = 1  # as of S12", ["line 1: S12"]),
        ("x = 1  # noqa: S105, N8 - no password", []),
        ('x = "V3"', []),
    ],
)
def test_what_looks_like_a_number_of_a_rule(source: str, found: list[str]) -> None:
    assert codes(source) == found
