"""envoy.extensions.http.stateful_session.envelope.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy.message import Message


class EnvelopeSessionState(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState"
    header: EnvelopeSessionStateHeader | None = None


class EnvelopeSessionStateHeader(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState.Header"
    name: str = ''
