"""What seals the tokens of sessions, and where a process has it from."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import SECRET_VARIABLE
from mcp_extproc.telemetry import log

_LOG = log.logger("worker")


def configured_secret(config: GatewayConfig, environ: Mapping[str, str]) -> str | None:
    """The configured secret, or the one that ``run`` or ``serve`` generated for its workers."""
    if config.session.secret is not None:
        return config.session.secret.get_secret_value()
    return environ.get(SECRET_VARIABLE) or None


def session_secret(config: GatewayConfig, environ: Mapping[str, str]) -> str:
    """The same, or else a random one, with a warning."""
    if (secret := configured_secret(config, environ)) is not None:
        return secret
    log.event(_LOG, logging.WARNING, "random_session_secret", {
        "effect": "sessions end with this process and are not shared with other workers",
        "remedy": "set session.secret",
    })  # fmt: skip
    return secrets.token_urlsafe(32)
