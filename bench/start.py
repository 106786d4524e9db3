"""The start of `run`: the time from nothing to the first answered call, and the memory of its Python processes then.

Time is a multiple of that of a program that only imports the larger libraries, taken just before: both depend on the machine
and its disk alike. Memory is PSS: pages that several processes share count once.
"""

from __future__ import annotations

import compileall
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mcp_extproc
from bench.children import Child
from bench.errors import BenchError
from bench.order import alternated
from bench.stats import Quartiles
from bench.systems import free_port

IMPORTS = "import pydantic, aiohttp, grpc, yaml"

WORKERS = (1, 2)

_COMMAND = Path(sys.executable).with_name("mcp-extproc")
_PATIENCE = 60.0
_PAUSE = 0.005
_SETTLES = 1.0
"""Seconds until what is read of memory is what stays."""


@dataclass(frozen=True, slots=True)
class Start:
    """Starts with one number of workers."""

    workers: int
    seconds: tuple[float, ...]
    multiples: tuple[float, ...]
    """Of :data:`IMPORTS`."""
    memory: tuple[Mapping[str, float], ...]
    """MB of each Python process, after each start."""

    @property
    def megabytes(self) -> tuple[float, ...]:
        """Of all Python processes, after each start."""
        return tuple(sum(each.values()) for each in self.memory)


def measure(rounds: int, directory: Path, envoy: Path) -> list[Start]:
    """Starts `run` with each of :data:`WORKERS`, several times.

    Raises:
        BenchError: it does not start.
    """
    with Child.module("bench.upstream", directory) as upstream:
        server = int(upstream.read_line().split()[0])
        compiled(Path(mcp_extproc.__file__).parent)
        _imports()  # from here on the disk is warm
        taken: dict[int, list[_Taken]] = {workers: [] for workers in WORKERS}
        for workers in turns(rounds):
            unit = _imports()
            seconds, memory = _start(workers, directory, envoy, server)
            taken[workers].append(_Taken(seconds, seconds / unit, memory))
    return [
        Start(
            workers,
            tuple(each.seconds for each in all_),
            tuple(each.multiple for each in all_),
            tuple(each.memory for each in all_),
        )
        for workers, all_ in taken.items()
    ]


class _Taken(NamedTuple):
    """What one start took."""

    seconds: float
    multiple: float
    memory: Mapping[str, float]


def compiled(package: Path) -> None:
    """Have a package's bytecode beside it, as pip leaves it.

    A fresh checkout has none, and where PYTHONDONTWRITEBYTECODE is set it never gets any: each process compiles all of its
    modules then, which takes half of a start's time again, and 2 to 4 MB.

    Raises:
        BenchError: it can't be written.
    """
    if not compileall.compile_dir(package, quiet=2):
        raise BenchError(f"the bytecode of {package} can't be written")


def turns(rounds: int) -> list[int]:
    """Numbers of workers, one for each start."""
    return [workers for number in range(rounds) for workers in alternated(WORKERS, number)]


def _imports() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - begun


def _start(workers: int, directory: Path, envoy: Path, server: int) -> tuple[float, dict[str, float]]:
    port = free_port()
    file = directory / "run.json"
    file.write_text(json.dumps({
        "servers": {"s": {"url": f"http://127.0.0.1:{server}/mcp"}}, "log": {"access": "", "level": "warning"},
    }))  # fmt: skip
    command: list[str | Path] = [
        _COMMAND,
        "run",
        file,
        "--port",
        str(port),
        "--json",
        "--workers",
        str(workers),
        "--envoy",
        envoy,
    ]
    begun = time.perf_counter()
    with Child("run", command, directory) as gateway:
        while not _is_answered(port):
            gateway.check()
            if time.perf_counter() - begun > _PATIENCE:
                raise BenchError(f"`run` answered no call within {_PATIENCE:g} s")
            time.sleep(_PAUSE)
        took = time.perf_counter() - begun
        time.sleep(_SETTLES)
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in gateway.pids()}
        return took, {f"{name} {pid}": pss(pid) for pid, name in names.items() if name != "envoy"}


def _is_answered(port: int) -> bool:
    """Whether a new client is served."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        session, _ = _asked(connection, "initialize", hello, {})
        if session is None:
            return False
        call = {"name": "s__echo", "arguments": {"text": "x"}}
        _, answer = _asked(connection, "tools/call", call, {"mcp-session-id": session})
        return succeeded(answer)
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def succeeded(answer: bytes) -> bool:
    """Whether this is the result of a call, and not that of a tool that failed. Raises ValueError if it is not JSON."""
    result = json.loads(answer).get("result")
    return isinstance(result, dict) and not result.get("isError")


def _asked(
    connection: http.client.HTTPConnection, method: str, params: object, headers: Mapping[str, str]
) -> tuple[str | None, bytes]:
    """The session id and the body of an answer."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    always = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    connection.request("POST", "/mcp", body, {**always, **headers})
    response = connection.getresponse()
    return response.headers["mcp-session-id"], response.read()


def pss(pid: int) -> float:
    """MB of a process, shared pages in parts (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def table(starts: Sequence[Start]) -> str:
    """As Markdown."""
    lines = [
        f'**start of `run`**, as a multiple of `python -c "{IMPORTS}"`, and PSS of its Python processes',
        "",
        "| workers | start to the first answered call, x imports | in s | MB |",
        "| --- | --- | --- | --- |",
    ]
    for start in starts:
        multiple, memory = Quartiles.of(start.multiples), Quartiles.of(start.megabytes)
        seconds = Quartiles.of(start.seconds).within(".2f")
        lines.append(f"| {start.workers} | {multiple} | {seconds} | {memory} |")
    return "\n".join(lines)
