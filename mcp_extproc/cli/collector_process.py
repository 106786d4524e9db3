"""``collector-process``: the process behind ``run`` and ``serve`` that makes spans, metrics and the audit."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mcp_extproc.telemetry import log

if TYPE_CHECKING:
    from mcp_extproc.telemetry.collector.main import Credentials, Page
    from mcp_extproc.telemetry.collector.spec import CollectorSpec, TlsWith

_SAID: Final = ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME")
"""Variables of which the process is told what they are worth. OpenTelemetry's SDK would read them once more, and take, or warn
of, what has been refused with a warning of ours."""


@click.command(hidden=True)
@click.option("--log-level")
@click.option("--log-format")
@click.option("--reports", type=int, metavar="DESCRIPTOR", help="A socket at which workers report.")
def collector_process(log_level: str | None, log_format: str | None, reports: int | None) -> None:
    """The process behind `run` and `serve` to which Envoy sends its records. It is told what to do on standard input."""
    from mcp_extproc.pem import TlsError
    from mcp_extproc.telemetry.audit_file import AuditFileError
    from mcp_extproc.telemetry.collector.main import serve
    from mcp_extproc.telemetry.collector.scrape import ScrapeError

    log.configure(log_level, log_format, calm=True)
    for name in _SAID:
        os.environ.pop(name, None)
    try:
        serve(None if reports is None else socket.socket(fileno=reports), _page, _credentials)
    except TlsError as error:
        click.echo(f"The collector can't serve TLS (--tls-certificate, --tls-key, --tls-client-ca): {error}", err=True)
        sys.exit(1)
    except (AuditFileError, ScrapeError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except OSError as error:  # of an address
        click.echo(f"The collector can't listen (--collector): {error}", err=True)
        sys.exit(1)


def _page(spec: CollectorSpec, tell: Callable[[bytes], None]) -> Page:
    from mcp_extproc.status.server import StatusPage

    return StatusPage(spec, tell)


def _credentials(tls: TlsWith) -> Credentials:
    from mcp_extproc.extproc.certificates import Certificates, TlsFiles
    from mcp_extproc.extproc.grpcio_transport import credentials

    client_ca = None if tls.client_ca is None else Path(tls.client_ca)
    return credentials(Certificates(TlsFiles(Path(tls.certificate), Path(tls.key), client_ca)))
