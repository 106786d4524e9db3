"""TLS with a receiver of OTLP, from files that are read again when they change."""

from __future__ import annotations

import logging
from pathlib import Path

from mcp_extproc.config.otlp_tls import ClientTls, OtlpTls, read
from mcp_extproc.pem import Newest, TlsError
from mcp_extproc.telemetry import log
from mcp_extproc.telemetry.collector.spec import ExportTls

_LOG = log.logger("collector")


class ReceiverTls:
    """What the next connection is made with.

    Args:
        files: their paths.
    """

    def __init__(self, files: ExportTls) -> None:
        self._files = OtlpTls(
            *(None if path is None else Path(path) for path in (files.ca, files.certificate, files.key))
        )
        self._newest: Newest[ClientTls] | None = None

    def current(self) -> ClientTls:
        """The same object until the files change.

        Raises:
            TlsError: they can't be used, and never could. Later errors are logged, and the previous content stays in use.
        """
        if self._newest is None:
            self._newest = Newest(self._files, lambda: read(self._files), self._tell)
        return self._newest.current()

    def _tell(self, problem: TlsError | None) -> None:
        if problem is not None:
            effect = "OTLP is sent with the previous content"
            log.event(_LOG, logging.ERROR, "tls_files_refused", {"why": str(problem), "effect": effect})
        else:
            log.event(_LOG, logging.INFO, "tls_files_renewed", {"of": ",".join(map(str, self._files))})
