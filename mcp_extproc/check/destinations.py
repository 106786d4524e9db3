"""Where audit and telemetry go: whether that file can be written, whether these addresses are free, whether receivers can be
reached."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mcp_extproc.address import TcpAddress, parse_address
from mcp_extproc.check.tool_names import Problem
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.otel_variables import Export, exports
from mcp_extproc.proxies import proxy_of
from mcp_extproc.telemetry.audit_file import unwritable

_PATIENCE: Final = 3.0
"""Seconds to look up a receiver's name and to connect."""

_PORTS: Final = {"http": 80, "https": 443}


def problems(config: GatewayConfig, folder: Path) -> list[Problem]:
    """What a gateway does not start with.

    Args:
        config: the whole configuration.
        folder: of its file, in which the path of the audit starts.
    """
    audit = config.audit
    why = None if audit is None or audit.file is None else unwritable(folder.absolute() / audit.file)
    return [] if why is None else [Problem("audit_unwritable", None, why)]


async def notes(config: GatewayConfig, environ: Mapping[str, str]) -> list[Problem]:
    """What may be as it should be: this gateway itself may run already and have its addresses, and a receiver may come later,
    or be there only where the gateway will run.

    Args:
        config: the whole configuration.
        environ: with OpenTelemetry's variables.
    """
    return [*_taken(config), *await _unreachable(config, environ)]


def _taken(config: GatewayConfig) -> Iterator[Problem]:
    metrics = config.telemetry.metrics
    places = {"telemetry.metrics.address": metrics and metrics.address, "status.address": config.status.address}
    tried = set()
    for place, text in places.items():
        address = parse_address(text) if text else None
        if not isinstance(address, TcpAddress) or address.port == 0 or address in tried:
            continue
        tried.add(address)
        if (why := _refused(address)) is not None:
            yield Problem("address_unusable", None, f"{place} {address}: {why}")


def _refused(address: TcpAddress) -> str | None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "a process has it: if that is not this gateway, which runs already, choose another address"
            return f"{error.strerror or error}: choose an address of this machine"
    return None


async def _unreachable(config: GatewayConfig, environ: Mapping[str, str]) -> list[Problem]:
    on = exports(config.telemetry, config.audit, environ)
    sent = {
        "telemetry.traces": on.traces, "telemetry.metrics.otlp": on.metrics, "telemetry.logs.otlp": on.logs,
        "audit.otlp": on.audit,
    }  # fmt: skip
    places: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for place, export in sent.items():
        # What a proxy reaches is not ours to reach.
        if export is not None and proxy_of(export.url) is None:
            places[_receiver(export)].append(place)
    found = await asyncio.gather(*(_why(host, port) for host, port in places))
    return [
        Problem("otlp_unreachable", None, f"{' and '.join(sections)}: {host}:{port} {why}")
        for ((host, port), sections), why in zip(places.items(), found, strict=True)
        if why is not None
    ]


def _receiver(export: Export) -> tuple[str, int]:
    """Its host and port. The rest of the URL may hold a key."""
    url = urlsplit(export.url)
    return url.hostname or "", url.port or _PORTS[url.scheme]


async def _why(host: str, port: int) -> str | None:
    """Why nobody is reached there; ``None`` where somebody listens."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"is not reached within {_PATIENCE:g} s: is a firewall in between?"
    except socket.gaierror:
        return "can't be reached: its host name has no address"
    except UnicodeError:  # of DNS' encoding of names
        return "can't be reached: its host is no name that can have an address"
    except OSError as error:
        return f"can't be reached: {_words(error)}"
    writer.close()
    return None


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    # asyncio puts words of its own in the place of the system's.
    return os.strerror(error.errno) if error.errno else "no address of its host name can be connected to"
