"""What the supervisor tells the collector, as JSON on its standard input. It holds secrets: headers of exporters."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from mcp_extproc.telemetry.restarts import RestartCounts


class ExportTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Absolute paths of files in PEM, as in :class:`mcp_extproc.config.otlp_tls.OtlpTls`."""

    ca: str | None
    certificate: str | None
    key: str | None


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one signal is sent.

    Attributes:
        url: of OTLP/HTTP with the path; of gRPC the base.
        is_grpc: whether it is gRPC.
        headers: of each request.
        tls: files for TLS; ``None`` for the authorities that this machine trusts, and no certificate.
    """

    url: str
    is_grpc: bool
    headers: dict[str, str]
    tls: ExportTls | None = None

    @property
    def host(self) -> str:
        """The URL without its path, which may have a key in it."""
        url = urlsplit(self.url)
        return f"{url.scheme}://{url.netloc}"


class AuditTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The audit's file.

    Attributes:
        path: absolute.
        rotate_bytes: most that it has; what would exceed that begins the next one.
        keep: earlier files that are kept.
    """

    path: str
    rotate_bytes: int
    keep: int


class TlsWith(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files in PEM, for TLS at a TCP address.

    Attributes:
        certificate, key: its own.
        client_ca: of Envoy's certificate; ``None`` where Envoy needs none.
    """

    certificate: str
    key: str
    client_ca: str | None


class PageAt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The status page.

    Attributes:
        descriptor: of the listening socket, which the process inherits.
        has_metrics: whether Prometheus finds metrics there, too.
        records_on_demand: whether Envoy sends records only while it is told to, as nothing but the page wants any.
        visitors: descriptors of the connections of those who came before it was served.
    """

    descriptor: int
    has_metrics: bool
    records_on_demand: bool
    visitors: tuple[int, ...] = ()


class CollectorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a collector does. ``None`` is off.

    Attributes:
        listen: the address to which Envoy sends, or the named pipe into which it writes.
        tls: with which it sends there; ``None`` for plaintext.
        resource: attributes of the resource.
        ratio, parent_based: how requests are sampled that no worker saw.
        metrics_address: where Prometheus finds metrics.
        admin: path of the socket of Envoy's admin interface, whose metrics come along.
        label_values: most values of one label, for each server where they are a server's.
        restarts: until now.
        page: the status page.
    """

    listen: str
    resource: dict[str, str]
    tls: TlsWith | None = None
    ratio: float = 1.0
    parent_based: bool = True
    traces: Export | None = None
    metrics: Export | None = None
    logs: Export | None = None
    audit: Export | None = None
    audit_file: AuditTo | None = None
    metrics_address: str | None = None
    admin: str | None = None
    label_values: int = 500
    restarts: RestartCounts | None = None
    page: PageAt | None = None

    @property
    def measures(self) -> bool:
        """Whether anybody gets metrics."""
        at_page = self.page is not None and self.page.has_metrics
        return self.metrics is not None or self.metrics_address is not None or at_page

    @property
    def destinations(self) -> dict[str, str]:
        """Where all of it goes, as people may be told: each host, the address of metrics, the path of the audit."""
        sent = {"traces": self.traces, "metrics": self.metrics, "logs": self.logs, "audit": self.audit}
        found = {name: export.host for name, export in sent.items() if export is not None}
        if self.metrics_address is not None and not self.metrics_address.endswith(":0"):  # which is another one then
            found["metrics_address"] = self.metrics_address
        if self.audit_file is not None:
            found["audit_file"] = self.audit_file.path
        return found
