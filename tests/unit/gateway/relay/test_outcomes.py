"""What an answer says of the call."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.relay.outcomes import ANSWERED, failure, outcome_of

FAILED = {**ANSWERED, "error_reason": "tool_error"}


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        (b'{"result":{"content":[]}}', ANSWERED),
        (b'{"result":{"content":[],"isError":false}}', ANSWERED),
        (b'{"result":{"isError" : true}}', FAILED),
        (b'[{"result":{"isError":true}}]', FAILED),
        (b'{"result":{"structuredContent":{"isError":true,"error":1}}}', ANSWERED),
        (rb'{"result":{"content":[{"text":"\"isError\":true"}]}}', ANSWERED),
        (b'{"error":{"code":-32000,"message":""}}', {**ANSWERED, "error_reason": "server_error", "error_code": -32000}),
        (b'{"error":{"code":"x"}}', {**ANSWERED, "error_reason": "server_error"}),
        (b'{"error":{"code":%b}}' % (b"9" * 400), {**ANSWERED, "error_reason": "server_error"}),
        (b'{"error":{"code":-1000000000000000}}', {**ANSWERED, "error_reason": "server_error"}),
        (b'{"error":', ANSWERED),
        (b'{"result":{"content":[{"text":"an error\\""}],"isError":true}}', FAILED),
        (b'{"result":{"isError":false,"content":[{"error":1}]}}', ANSWERED),
        (b'{"a_rror":"rror","error":{"code":1}}', {**ANSWERED, "error_reason": "server_error", "error_code": 1}),
    ],
)
def test_outcomes(answer: bytes, facts: Any) -> None:
    assert outcome_of(answer, is_stream=False) == facts
    note = b'data: {"method":"notifications/message","params":{"error":1}}\n\n'
    assert outcome_of(note + b"data: " + answer + b"\n\n", is_stream=True) == facts


def test_errors_of_the_gateway() -> None:
    assert failure(refusals.busy("x")) == {"error_reason": "busy", "error_code": -32603}
