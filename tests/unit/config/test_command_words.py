from __future__ import annotations

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.command_words import secret_words


@pytest.mark.parametrize(
    ("arguments", "secrets"),
    [
        (["--api-key", "open-sesame", "--verbose-output"], ["open-sesame"]),
        (["--api-key=open-sesame", "next-word"], ["open-sesame"]),
        (["-e", "API_TOKEN=open-sesame"], ["open-sesame"]),
        (["sk-ABCDEFGH1234"], ["sk-ABCDEFGH1234"]),
        (["postgresql://me:hush@db/x"], ["postgresql://me:hush@db/x"]),
        # What people have to read in errors.
        (["-y", "@modelcontextprotocol/server-memory", "mcp-server-time", "server-x@1.2.3", "server-y==1.2"], []),
        (["--directory", "/srv/Projects1/x", "./Server1.py", "~/Notes12", "--key", "short", "run"], []),
    ],
)
def test_values_among_arguments(arguments: list[str], secrets: list[str]) -> None:
    assert list(secret_words(["/bin/A-program-1234", *arguments])) == secrets


def test_a_server_knows_those_of_its_command() -> None:
    config = GatewayConfig.model_validate({"servers": {"s": {"command": ["x", "--key", "open-sesame"]}}})
    assert "open-sesame" in config.servers["s"].secrets
