"""docs/production.md, as a reader would carry it out, with tokens like Keycloak's."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

from tests.support.authorization_server import AuthorizationServer
from tests.support.processes import ROOT, free_port
from tests.support.run_command import announced, piped
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import PATIENCE
from tests.unit.test_docs import Block, blocks

GUIDE = [block for block in blocks() if block.document.name == "production.md"]
STEP = "---- the next step ----"


def claims(*roles: str) -> dict[str, Any]:
    """What Keycloak 26 puts into an access token, besides the times."""
    return {
        "jti": "onrtac:5c8b6b6e-2f0a-4d6e-9a6e-3b7f1a1d2c3e",
        "sub": f"f:{'-'.join(roles)}",
        "typ": "Bearer",
        "azp": "claude-code",
        "sid": "3f0b7f6e-8c1d-4e55-9f3f-0d2f5b0c7a11",
        "acr": "1",
        "allowed-origins": ["http://localhost:6274"],
        "realm_access": {"roles": ["offline_access", "default-roles-tools", "uma_authorization", *roles]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        "scope": "openid email profile mcp:call",
        "email_verified": True,
        "preferred_username": "alice",
    }


async def shell(script: str, folder: Path, **environment: str) -> str:
    """What a script writes. It ends well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", script, cwd=folder, stdout=PIPE, stderr=STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **environment},
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_all_steps(tmp_path: Path) -> None:
    notes = ScriptedServer("notes", pages=[[tool("list"), tool("create")]])
    async with AuthorizationServer() as idp, notes:
        here = {
            "http://notes.internal:3001/mcp": notes.url,
            "https://idp.example.com/realms/tools": idp.issuer,
            "gateway.example.com": "localhost",
            "0.0.0.0": "127.0.0.1",
            "8443": str(free_port()),
        }

        def text(block: Block) -> str:
            found = block.text
            for there, ours in here.items():
                found = found.replace(there, ours)
            return found

        [file] = [text(block) for block in GUIDE if block.info == "yaml gateway"]
        (tmp_path / "gateway.yaml").write_text(file)
        preparing, starting, *looking = [block for block in GUIDE if block.info == "sh"]
        await shell(text(preparing), tmp_path)
        *_, start = text(starting).splitlines()
        program, *arguments = shlex.split(start)
        assert program == "mcp-extproc"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MCP_SESSION_SECRET": "s" * 40}
        command = [sys.executable, "-m", "mcp_extproc", *arguments, "--json"]
        async with piped(command, environment, tmp_path) as process:
            await announced(process)
            audience = f"https://localhost:{here['8443']}/mcp"
            tokens = {
                "OPERATOR": idp.token(aud=[audience, "account"], **claims("operator")),
                "READER": idp.token(aud=[audience, "account"], **claims()),
            }
            script = f"\necho '{STEP}'\n".join(text(block) for block in looking)
            wrote = (await shell(script, tmp_path, **tokens)).split(f"{STEP}\n")
            expected = [text(block) for block in GUIDE if block.info == "text"]
            assert len(wrote) == len(expected)
            for out, lines in zip(wrote, expected, strict=True):
                assert _in_order(lines.splitlines(), out), f"{out}\ndoes not have\n{lines}"
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                _, logged = await process.communicate()
        log = (tmp_path / "access.log").read_text()
        key = (tmp_path / "keys.yaml").read_text().split()[1]
        for secret in (*tokens.values(), key):
            assert secret not in log
            assert secret.encode() not in logged
        assert {"build-server", "f:", "f:operator"} <= set(re.findall(r'"enduser\.id":"([^"]*)"', log))


def _in_order(parts: list[str], text: str) -> bool:
    at = 0
    for part in parts:
        found = text.lower().find(part.lower(), at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def test_every_step_says_what_follows() -> None:
    """What one sees, behind each command that shows something."""
    infos = [block.info for block in GUIDE if block.info in ("sh", "text")]
    assert infos == ["sh", "sh", *["sh", "text"] * (len(infos) // 2 - 1)]
