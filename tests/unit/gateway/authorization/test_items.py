"""What a tool's server says about it."""

from __future__ import annotations

import pytest

from mcp_extproc.gateway.authorization.items import DEFAULTS, Hints, hints_of
from mcp_extproc.mcp import jsontext


def test_the_specification_expects_the_worst() -> None:
    assert DEFAULTS._asdict() == {
        "readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ('{"readOnlyHint":true}', DEFAULTS._replace(readOnlyHint=True)),
        (
            '{"readOnlyHint":true,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false,"title":"x"}',
            Hints(readOnlyHint=True, destructiveHint=False, idempotentHint=True, openWorldHint=False),
        ),
        ('{"readOnlyHint":"true","destructiveHint":0,"openWorldHint":null}', DEFAULTS),
        ('{"readonlyhint":true}', DEFAULTS),
        ("{}", DEFAULTS),
        ("[]", DEFAULTS),
        ("null", DEFAULTS),
    ],
)
def test_hints(annotations: str, expected: Hints) -> None:
    tool = jsontext.split(b'{"name":"x","annotations":%b}' % annotations.encode())
    assert hints_of(tool) == expected


def test_nothing_said() -> None:
    assert hints_of(jsontext.split(b'{"name":"x"}')) is DEFAULTS
