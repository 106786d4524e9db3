"""``tools`` and ``call``: an endpoint's tools, listed and called."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import click

from mcp_extproc.cli.common import complain, escape, standard_output, warn
from mcp_extproc.telemetry.printable import printable

if TYPE_CHECKING:
    from mcp_extproc.client.session import Failed, Session, Tool
    from mcp_extproc.mcp.jsontext import Members

_TOOL_ERROR = 3

_UNAUTHENTICATED = 401
_TO_AUTHENTICATE = (
    "; what proves who you are is sent with -H, such as -H 'x-api-key: KEY' or -H 'Authorization: Bearer TOKEN'"
)

_CUT = 1000
"""Most characters of what a server says beside a tool's result, which is shown whole: as ``--json`` shows all."""


def is_url(ctx: click.Context, param: click.Parameter, url: str) -> str:
    """Check an argument that is a URL.

    Raises:
        BadParameter: it is none.
    """
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise click.BadParameter("expected a URL that starts with http:// or https://", ctx, param)
    return url


def _headers_in(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> list[tuple[str, str]]:
    from mcp_extproc.config.values import is_header_name

    found = []
    for value in values:
        name, mark, text = value.partition(":")
        # The value may be a token: it is not repeated.
        if not mark or not is_header_name(name):
            raise click.BadParameter("expected 'Name: value'", ctx, param)
        if not (text := text.strip()).isprintable():
            raise click.BadParameter(f"the value of {name} has characters that no header can have", ctx, param)
        found.append((name, text))
    return found


_URL = click.argument("url", callback=is_url)
_HEADERS = click.option(
    "-H", "--header", "headers", multiple=True, metavar="'Name: value'", callback=_headers_in,
    help="A header of each request; once for each.",
)  # fmt: skip
_TIMEOUT = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, metavar="SECONDS",
    help="Most that a request may take.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="Print what the endpoint answered, as JSON on one line.")


@click.command()
@_URL
@_HEADERS
@_TIMEOUT
@_JSON
def tools(url: str, headers: list[tuple[str, str]], timeout: float, as_json: bool) -> None:
    """List the tools of the endpoint at URL, as a client sees them.

    Exit code 1: they could not be listed.
    """
    import asyncio

    from mcp_extproc.client.session import Failed, Session

    async def listed() -> tuple[list[Tool], Mapping[str, str]]:
        async with Session(url, headers, timeout) as session:
            return await session.tools(), session.missing

    try:
        found, missing = asyncio.run(listed())
    except Failed as error:
        _fail(error, as_json)
    for sentence in _told(missing):
        warn(printable(_cut(sentence)))
    with standard_output():
        if as_json:
            _print_line(b'{"tools":[' + b",".join(bytes(tool.raw) for tool in found) + b"]}")
        else:
            _print_table(found)


@click.command()
@_URL
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@_HEADERS
@_TIMEOUT
@_JSON
def call(
    url: str,
    tool: str,
    arguments: tuple[str, ...],
    headers: list[tuple[str, str]],
    timeout: float,
    as_json: bool,
) -> None:
    """Call a TOOL of the endpoint at URL, and print its result.

    Values have the types of the tool's schema: `lines=3` is a number where it says so. A list is JSON, or its key is repeated;
    an object is JSON. A TOOL that is not listed is called all the same: values are JSON where they can be, else text.

    Exit code 1: the call failed; 2: the arguments don't fit; 3: the result is an error of the tool's (`isError`).
    """
    import asyncio

    from mcp_extproc.client.arguments import DoesNotFit
    from mcp_extproc.client.session import Failed, Session

    async def called() -> Members:
        async with Session(url, headers, timeout) as session:
            return await _call(session, tool, arguments)

    try:
        result = asyncio.run(called())
    except Failed as error:
        _fail(error, as_json)
    except DoesNotFit as error:
        raise click.UsageError(printable(str(error))) from None
    with standard_output():
        if as_json:
            _print_members(result)
        else:
            _print_result(result)
    sys.exit(_TOOL_ERROR if bytes(result.get("isError", b"")) == b"true" else 0)


async def _call(session: Session, name: str, words: Sequence[str]) -> Members:
    from mcp_extproc.client.arguments import arguments_of, unknown_in
    from mcp_extproc.client.session import Failed

    listed = {tool.name: tool for tool in await session.tools()}
    if name in listed:
        schema = listed[name].schema
        arguments = arguments_of(words, schema)
        for sentence in unknown_in(words, schema):
            warn(printable(_cut(sentence)))
        return await session.call(name, arguments)
    # Whether there is one is the endpoint's to say: who calls what a rule hides wants to see it refused.
    arguments = arguments_of(words, {})
    unlisted = f"the endpoint lists no tool {name}"
    told = "".join(f"; {sentence}" for sentence in _told(session.missing))
    try:
        result = await session.call(name, arguments)
    except Failed as error:
        # Whoever was denied a tool does not mean another one, which may destroy what the denied one would have read.
        near = _near(name, listed) if error.is_about_the_name else ""
        raise error.with_hint(f"{unlisted}{near}{told}") from None
    warn(printable(_cut(f"{unlisted}{_near(name, listed)}{told}")))
    return result


def _near(name: str, listed: Collection[str]) -> str:
    near = get_close_matches(name, listed, cutoff=0.7)
    return f", did you mean {' or '.join(near)}?" if near else ""


def _told(missing: Mapping[str, str]) -> Iterator[str]:
    return (f"the tools of server {name} are not among them: it {why}" for name, why in missing.items())


def _fail(error: Failed, as_json: bool) -> NoReturn:
    """Say why, on one line: a server's words are in it."""
    if as_json and error.error is not None:
        with standard_output():
            _print_members({"error": error.error})
    complain(printable(_cut(str(error))) + (_TO_AUTHENTICATE if error.status == _UNAUTHENTICATED else ""))
    sys.exit(1)


def _print_table(found: Sequence[Tool]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mcp_extproc.client.arguments import described

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("tool", "arguments", "description"):
        table.add_column(column, overflow="fold")
    for tool in found:
        first, _, _ = tool.description.strip().partition("\n")
        table.add_row(*(escape(_cut(text)) for text in (tool.name, described(tool.schema), first)))
    Console().print(table)


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[:_CUT]}…"


def _print_result(result: Members) -> None:
    """Its content for people. To a file or another program, text goes as it is."""
    from mcp_extproc.client.content import texts_in

    for text in texts_in(result):
        click.echo("\n".join(map(printable, text.split("\n"))) if sys.stdout.isatty() else text)


def _print_members(members: Mapping[str, Any]) -> None:
    import msgspec

    _print_line(msgspec.json.encode(members))


def _print_line(text: bytes) -> None:
    """Print JSON that a server may have written on several lines. Numbers stay as they are."""
    import msgspec

    click.echo(printable(msgspec.json.format(text, indent=-1).decode()))
