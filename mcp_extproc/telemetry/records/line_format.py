"""A record as a line of an access log of Envoy's: the format that :mod:`mcp_extproc.envoy.render.records` gives it, where it
is ours. :mod:`.line_reader` reads such lines: words of a field are there in the order in which they are here.

Nothing that a client or a server wrote can end a line or a field: these are separated by control characters, which stand in no
header (RFC 9110, section 5.5), no JSON text and no word of ours; of Envoy's details, which come last, white space is replaced
by Envoy itself.
"""

from __future__ import annotations

from typing import Final

from mcp_extproc.contract import ERROR_HEADER, NAMESPACE, RECORD_KEY, TELEMETRY_NAMESPACE
from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE
from mcp_extproc.telemetry.records import worker_note

START: Final = "\x1d"
"""Of a line: what begins otherwise is the rest of one."""

FIELDS: Final = worker_note.SEPARATOR
"""Between fields."""
WORDS: Final = "\x1e"
"""Between words of a field."""

_ID: Final = 128
"""Bytes."""

_NUMBERS: Final = (
    "%START_TIME(%s%9f)%",
    "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)%",
    "%DURATION%",  # the only one where the client was gone before its end; in milliseconds
    "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ns)%",
    "%COMMON_DURATION(DS_RX_BEG:US_RX_END:ns)%",
    "%BYTES_RECEIVED%",
    "%BYTES_SENT%",
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
)
_OUTCOME: Final = (
    "%REQ(:METHOD):16%",
    "%PROTOCOL%",
    "%RESPONSE_CODE%",
    "%UPSTREAM_REMOTE_ADDRESS%",
    f"%RESP({ERROR_HEADER}):64%",
    f"%DYNAMIC_METADATA({NAMESPACE}:error_reason)%",
    f"%DYNAMIC_METADATA({NAMESPACE}:error_code)%",
    f"%DYNAMIC_METADATA({NAMESPACE}:consent)%",
)
_RECORD: Final = f"%DYNAMIC_METADATA({TELEMETRY_NAMESPACE}:{RECORD_KEY})%"


def _in_front(*contexts: str) -> tuple[str, ...]:
    return (
        " ".join(_NUMBERS), WORDS.join(_OUTCOME), "%DOWNSTREAM_REMOTE_ADDRESS%", f"%REQ(X-REQUEST-ID):{_ID}%", *contexts
    )  # fmt: skip


BEFORE: Final = len(_in_front("", ""))
"""Fields in front of what the worker noted, which has :data:`worker_note.PARTS` of its own, or is empty."""


def line_format(*, has_traces: bool) -> str:
    """A line, for Envoy to fill in. What is not known is empty.

    Args:
        has_traces: whether trace contexts of requests matter that no worker saw.
    """
    contexts = (f"%REQ({TRACEPARENT}):256%", f"%REQ({TRACESTATE}):513%") if has_traces else ("", "")
    fields = (*_in_front(*contexts), _RECORD, "%RESPONSE_CODE_DETAILS%")
    return f"{START}{FIELDS.join(fields)}\n"
