"""Shared by several commands: reading the file, locating sockets, printing messages."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from mcp_extproc.address import Address, PipeAddress, TcpAddress, default_directory, parse_address
from mcp_extproc.config import ConfigError, FileSource, GatewayConfig, Loaded, Part, Source, whole, without_programs
from mcp_extproc.config.load import NOTHING_RESOLVED
from mcp_extproc.telemetry.printable import printable

if TYPE_CHECKING:
    import asyncio

    from mcp_extproc.envoy.layout import Layout


_MAX_CHARACTERS = 64 << 20
"""Of a file that `text_of` reads. Envoys' configurations with scripts in them have a few MiB."""


def served_from(source: Source, port: int | None) -> Loaded:
    """Load a configuration to serve, and set up logging. Warnings are printed."""
    from mcp_extproc.telemetry import log

    served = _loaded(source, port)
    log.configure(served.config.log.level, served.config.log.format)
    return served


def config_from(
    file: Path, port: int | None, bridge: Address | None = None, resolve: Mapping[str, str] = NOTHING_RESOLVED
) -> GatewayConfig:
    """The configuration in a file, with another port if one is given. Warnings are printed.

    Args:
        file: the file.
        port: for clients.
        bridge: another place, in which the stdio servers are.
        resolve: of ``--resolve``.
    """
    return load_file(file, port, bridge, resolve).config


def load_file(
    file: Path, port: int | None, bridge: Address | None = None, resolve: Mapping[str, str] = NOTHING_RESOLVED
) -> Loaded:
    """The same, with the file's text and format."""
    return _loaded(FileSource(file, os.environ, part=part_beside(bridge), resolve=resolve), port)


def part_beside(bridge: Address | None) -> Part:
    """What is read of a file by who does not start its stdio servers, if there is a bridge elsewhere that does."""
    return whole if bridge is None else without_programs


def _loaded(source: Source, port: int | None) -> Loaded:
    loaded = source.load().with_port(port)
    for warning in loaded.warnings:
        warn(warning)
    return loaded


def text_of(file: TextIO) -> str:
    """A file's text.

    Raises:
        ConfigError: it is not UTF-8, or too large.
    """
    try:
        text = file.read(_MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise ConfigError(file.name, ["is not UTF-8: save the file in this encoding"]) from None
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(file.name, [f"is larger than {_MAX_CHARACTERS >> 20} MiB"])
    return text


def meeting(
    workers: int,
    extproc: tuple[Address, ...],
    upstreams: Address | None,
    batches: Address | None,
    bridge: Address | None,
    collector: Address | None,
) -> Layout:
    """The addresses shared by the user's own Envoy and the workers: the defaults, and those that were given."""
    default = layout_in(workers, create=False)
    return replace(
        default,
        extproc=extproc or default.extproc,
        upstreams=upstreams or default.upstreams,
        batches=batches or default.batches,
        bridge_elsewhere=bridge,
        collector=collector or default.collector,
        keys=None,
        admin=None,
    )


def layout_in(workers: int = 1, *, create: bool = True, directory: Path | None = None) -> Layout:
    """The default sockets, in the given directory, or in a private one."""
    from mcp_extproc.envoy.layout import Layout

    if directory is not None:
        layout = Layout.in_directory((made(directory) if create else directory).absolute(), workers)
        try:
            parse_address(f"{layout.extproc[-1]}.99999")  # workers' own sockets have a number appended
        except ValueError as error:
            raise click.UsageError(f"--directory: {error}") from None
        return layout
    directory = Path(default_directory())
    if create:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            complain(f"{directory} is owned by, or accessible to, another user: remove it, or use --directory")
            sys.exit(1)
    return Layout.in_directory(directory, workers)


def made(directory: Path) -> Path:
    """Create a directory if it is missing, and return its absolute path."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        complain(f"{directory} can't be created: {error.strerror}")
        sys.exit(1)
    return directory.absolute()


def escape(text: str) -> str:
    """Text that may hold what strangers wrote, on one line: nothing in it is markup of rich, or an escape sequence."""
    from rich.markup import escape as escape_markup

    return escape_markup(printable(text))


@contextmanager
def standard_output() -> Iterator[None]:
    """For printing the result of a command.

    Raises:
        OSError: it can't be written, as on a full disk. Says that it was standard output.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # What is left in its buffer would be written, and fail, once more at exit.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until then
        raise OSError(error.errno, error.strerror, "standard output") from None


def warn(text: str) -> None:
    """Print a warning to standard error."""
    _print_error(f"[yellow]warning:[/] {_lines(text)}")


def warn_of_collector(address: Address | PipeAddress | None, *, is_verified: bool) -> None:
    """Warn of an address of the collector's that others of this machine can use, too.

    Args:
        address: where Envoy sends records.
        is_verified: whether each knows the other one, by TLS with certificates of both.
    """
    if isinstance(address, TcpAddress) and not is_verified:
        warn(
            f"--collector {address}: any user of this machine can write records there, and so lines of the audit; and while"
            " the collector is not there, listen there itself, and read credentials that Envoy's records hold. Use a Unix"
            " socket, or TLS with certificates of both: --tls-client-ca of `serve`, --extproc-client-certificate of"
            " `envoy bootstrap`"
        )


def complain(text: str) -> None:
    """Print an error to standard error."""
    _print_error(f"[red]error:[/] {_lines(text)}")


def _print_error(markup: str) -> None:
    from rich.console import Console

    with suppress(OSError):  # the disk is full, or the terminal closed: nobody is left to be told, and all else goes on
        Console(stderr=True).print(markup, highlight=False, soft_wrap=True)


def _lines(text: str) -> str:
    """The same for a message of ours that has several lines."""
    return "\n".join(map(escape, text.split("\n")))


async def serve_until_told_to_stop(serving: AbstractAsyncContextManager[object], reload: Callable[[], None]) -> None:
    """Start something, which may be given up meanwhile, and end it in order when told to.

    Args:
        serving: ends on leaving it.
        reload: as for :func:`until_told_to_stop`.
    """
    stopped = until_told_to_stop(reload)
    if not await has_started(serving, stopped):
        return
    try:
        await stopped
    finally:
        await serving.__aexit__(None, None, None)


async def has_started(serving: AbstractAsyncContextManager[object], stopped: asyncio.Task[bool]) -> bool:
    """Start something, to be left later. Returns whether it has started: it is given up when told to stop meanwhile.

    Args:
        serving: what starts on entering it.
        stopped: of :func:`until_told_to_stop`.
    """
    import asyncio

    starting = asyncio.create_task(serving.__aenter__())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return False
    await starting
    return True


def until_told_to_stop(reload: Callable[[], None]) -> asyncio.Task[bool]:
    """A task that ends on Ctrl-C, on SIGTERM, and when the terminal is closed. Calls ``reload`` on any other SIGHUP."""
    import asyncio

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    # nohup(1) has it ignored: then it goes on without its terminal.
    ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

    def hang_up() -> None:
        if ends_with_terminal and not _has_terminal():
            stop.set()
        else:
            reload()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return asyncio.create_task(stop.wait())


def _has_terminal() -> bool:
    """Whether there is a controlling terminal. The kernel takes it away before it sends SIGHUP (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def place_of(url: str, headers: Mapping[str, str]) -> str:
    """Where an endpoint is, and what its requests have to have."""
    return " with ".join([url, *(f"{name}: {value}" for name, value in headers.items())])
