"""``top``: the status page in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mcp_extproc.cli.common import complain, standard_output
from mcp_extproc.cli.tools import is_url
from mcp_extproc.telemetry.printable import printable

if TYPE_CHECKING:
    from mcp_extproc.cli.top_screen import Seen
    from mcp_extproc.client.status import Answer

_WIDTH: Final = 160
"""Columns, where that is not said."""

_AGAIN_SECONDS: Final = 1.0
"""Before the next attempt, where the page has gone."""


@click.command()
@click.argument("which", metavar="[STATUS_URL|FILE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print what the page knows now as JSON on one line.")
@click.pass_context
def top(ctx: click.Context, which: str | None, as_json: bool) -> None:
    """Show what goes on in a gateway, as its status page does: servers, calls, denials. `q` or Ctrl-C ends it.

    Without STATUS_URL it finds the gateway of this user that runs; where there are several, the one that serves FILE. Where
    the output is no terminal, it is printed once.

    Exit code 1: there is no page.
    """
    from mcp_extproc.client.status import NoPage, now

    found = _found(which) if which is None or "://" not in which else is_url(ctx, ctx.command.params[0], which)
    try:
        if as_json or not sys.stdout.isatty():
            _print(asyncio.run(now(found)), as_json)
        else:
            asyncio.run(_watch(found))
    except NoPage as error:
        complain(printable(str(error)))  # whatever is there has written a part of it
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0)


def _found(file: str | None) -> str:
    """The page of the one gateway that runs, or of the one that serves a file of this name."""
    from mcp_extproc.run.page_file import pages

    found = pages()
    if file is not None:
        found = [page for page in found if Path(page.file).name == Path(file).name]
        if not found:
            raise click.UsageError(
                f"no gateway of this user serves a file {file!r} and has a status page; expected a URL that starts with "
                "http:// or https://, or the name of such a file"
            )
    if not found:
        complain("no gateway of this user has a status page. `mcp-extproc run` has one; otherwise give its STATUS_URL.")
        sys.exit(1)
    if len(found) > 1:
        places = "\n".join(f"  {page.url}  {printable(page.file)}" for page in found)
        raise click.UsageError(f"several gateways run; give the STATUS_URL of one:\n{places}")
    return found[0].url


def _print(answer: Answer, as_json: bool) -> None:
    from rich.console import Console

    from mcp_extproc.cli.top_screen import Seen, screen

    with standard_output():
        if as_json:
            click.echo(printable(answer.text))
            return
        shown = answer.shown
        seen = Seen(shown["known"], shown["state"], shown["calls"])
        # What is no terminal has no width.
        console = Console() if sys.stdout.isatty() else Console(width=int(os.environ.get("COLUMNS") or _WIDTH))
        console.print(screen(seen, console.width, None))


async def _watch(url: str) -> None:
    """Until somebody ends it.

    Raises:
        NoPage: there was none from the start.
    """
    from rich.console import Console
    from rich.live import Live

    from mcp_extproc.cli.top_screen import Seen, screen

    console, seen, ended = Console(), Seen(), asyncio.Event()
    with _keys(ended), Live(console=console, screen=True, auto_refresh=False) as live:
        async for _ in _changes(url, seen, ended):
            live.update(screen(seen, console.width, console.height), refresh=True)


async def _changes(url: str, seen: Seen, ended: asyncio.Event) -> AsyncIterator[Seen]:
    """Yields when there is something else to be shown, until it is ended."""
    from mcp_extproc.client.status import NoPage, events

    stop = asyncio.create_task(ended.wait())
    try:
        while True:
            coming = events(url)
            try:
                while not stop.done():
                    following = asyncio.ensure_future(anext(coming))
                    await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
                    if not following.done():
                        following.cancel()
                        return
                    seen.take(*following.result())
                    yield seen
            except (NoPage, StopAsyncIteration):
                if seen.state is None:
                    raise
                seen.is_lost = True
                yield seen
            finally:
                with contextlib.suppress(Exception):
                    await coming.aclose()
            if stop.done():
                return
            await asyncio.wait({stop}, timeout=_AGAIN_SECONDS)
    finally:
        stop.cancel()


@contextlib.contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """``q`` ends it, where somebody can press keys."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        if os.read(descriptor, 64) in (b"", b"q", b"Q", b"\x04"):
            ended.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
