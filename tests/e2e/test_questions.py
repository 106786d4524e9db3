"""The questions in docs/observability.md, answered as a reader would: by its files, its commands and the sample server."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.test_production import shell
from tests.support.processes import ROOT, free_port
from tests.support.run_command import announced, piped
from tests.support.waiting import PATIENCE, eventually
from tests.unit.test_docs import HAND_WRITTEN, Block, blocks

LEFT_OUT = "…"


def section() -> list[Block]:
    """The blocks of the questions: files, commands, and what they print."""
    [page] = [document for document in HAND_WRITTEN if document.name == "observability.md"]
    start = page.read_text(encoding="utf-8").partition("## Questions")[0].count("\n")
    found = [block for block in blocks("yaml gateway", "sh", "text") if block.document == page and block.line > start]
    return [block for block in found if "──►" not in block.text]


def is_what_it_says(shown: str, said: str) -> bool:
    """Whether a command prints what is shown of it: an ellipsis stands for anything in its line, and alone for whole lines.
    Blanks between words are those of a terminal as wide as it happens to be."""
    pattern = "".join(
        r"(?:.*\n)*" if line == LEFT_OUT else f"{'.*'.join(re.escape(part) for part in line.split(LEFT_OUT))}\n"
        for line in _lines(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(said))) is not None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("shown", "said", "fits"),
    [
        ("a\nb", "a\nb\n", True),
        ("a  b", "a     b\n\n", True),
        ("a\nb", "a\nc\n", False),
        ("a", "a\nb\n", False),
        ("a\n…", "a\nb\nc\n", True),
        ("…\nc", "a\nb\nc\n", True),
        ('"took":…, "x"', '"took":0.1, "x"\n', True),
        ("a.c", "abc\n", False),
    ],
)
def test_what_is_shown_is_compared_as_it_is(shown: str, said: str, fits: bool) -> None:
    assert is_what_it_says(shown, said) == fits


async def test_each_is_answered(tmp_path: Path) -> None:
    configuration, keys, serving, running, *steps = section()
    async with _sample_server(serving) as server:
        here = {"http://127.0.0.1:3001/mcp": server, "127.0.0.1:9464": f"127.0.0.1:{free_port()}"}
        (tmp_path / "gateway.yaml").write_text(_with(here, configuration.text))
        (tmp_path / "keys.yaml").write_text(keys.text)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MCP_SESSION_SECRET": "s" * 40}
        program, *arguments = shlex.split(running.text)
        assert program == "mcp-extproc"
        command = [sys.executable, "-m", "mcp_extproc", *arguments, "--port", "0", "--json"]
        async with piped(command, environment, tmp_path) as process:
            here["http://localhost:1975/mcp"] = (await announced(process))["url"]
            calls, *asked = steps[::2]
            made, *answers = steps[1::2]
            assert {block.info for block in (calls, *asked)} == {"sh"}
            assert {block.info for block in (made, *answers)} == {"text"}
            await _says(calls, made, here, tmp_path)
            audit = tmp_path / "audit.jsonl"
            count = len(calls.text.splitlines())
            await eventually(
                lambda: audit.read_text().count('"method":"tools/call"'), "all", until=lambda n: n == count
            )
            for question, answer in zip(asked, answers, strict=True):
                await _says(question, answer, here, tmp_path)
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.communicate()


async def _says(commands: Block, shown: Block, here: Mapping[str, str], folder: Path) -> None:
    # As at a prompt: the next command comes whether or not the one before failed.
    said = await shell(
        f"set +e\n{_with(here, commands.text)}\ntrue", folder, COLUMNS="200", MCP_SESSION_SECRET="s" * 40
    )
    assert is_what_it_says(_with(here, shown.text), said), f"{commands} says\n{said}"


def _with(here: Mapping[str, str], text: str) -> str:
    """What the documentation writes, with the ports of this test."""
    for there, ours in here.items():
        text = text.replace(there, ours)
        if there.startswith("http://127"):
            text = text.replace(there.split("/")[2], ours.split("/")[2])
    return text


@asynccontextmanager
async def _sample_server(block: Block) -> AsyncIterator[str]:
    """URL of the server that a block starts, at a free port."""
    program, *arguments = shlex.split(block.text)
    assert program == ".venv/bin/python"
    *arguments, port = arguments
    assert port == "3001"
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, "0", cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            url = (await process.stdout.readline()).decode().strip()
        yield url
    finally:
        process.terminate()
        await process.wait()
