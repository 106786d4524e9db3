"""What is told to whom: traces, metrics, logs, the audit, the status page. What is not configured costs nothing.

The variables that OpenTelemetry specifies fill in what is absent here: :mod:`mcp_extproc.config.otel_variables`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mcp_extproc.address import TcpAddress, parse_address
from mcp_extproc.config.base import Model
from mcp_extproc.config.values import HeaderKey, HeaderValue, Size, WholeNumber, freeze

Protocol = Literal["grpc", "http/protobuf"]
"""How OTLP is sent."""

MAX_LABEL_VALUES = 10_000

_SERVICE_NAME = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_SIGNAL = re.compile(r"/v1/(?:traces|metrics|logs)$")


def endpoint(value: str) -> str:
    """A URL of OTLP. Not repeated in errors, as it may have a key in it.

    Raises:
        ValueError: it is none, or has a part that exporters would drop.
    """
    try:
        url = urlsplit(value)
        is_url = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_url = False
    if not is_url or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("expected the base URL of an OTLP receiver, such as http://collector:4317")
    if url.query or url.fragment or url.username is not None:
        raise ValueError("a URL of OTLP has no query, fragment or user: set `headers` for credentials")
    return value.rstrip("/")


def base_endpoint(value: str) -> str:
    """An :func:`endpoint` to which the path of a signal is appended.

    Raises:
        ValueError: it is none, or has that path already.
    """
    url = endpoint(value)
    if signal := _SIGNAL.search(url):
        raise ValueError(f"expected the base URL: leave out {signal[0]}, which is appended with http/protobuf")
    return url


def part(value: object) -> float:
    """A part of all, such as 0.01.

    Raises:
        ValueError: it is none.
    """
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not 0 <= found <= 1:
        raise ValueError("expected a number from 0 to 1, such as 0.01 for one percent")
    return found


def tcp_address(value: str) -> str:
    """The address of a listening TCP socket. Not repeated in errors: it may be anything, from a variable.

    Raises:
        ValueError: it is none.
    """
    try:
        is_one = isinstance(parse_address(value), TcpAddress)
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError("expected an address such as 127.0.0.1:9464")
    return value


Endpoint = Annotated[str, AfterValidator(base_endpoint)]
Part = Annotated[float, BeforeValidator(part)]
TcpAddressText = Annotated[str, AfterValidator(tcp_address)]


class Otlp(Model):
    """An OTLP receiver."""

    endpoint: Endpoint | None = None
    """Base URL, such as `http://collector:4317`; with `http/protobuf` the signal's path (`/v1/traces`, `/v1/metrics`,
    `/v1/logs`) is appended. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    protocol: Protocol | None = None
    """How it is sent. Default: `OTEL_EXPORTER_OTLP_PROTOCOL`, or `grpc` at port 4317 and `http/protobuf` elsewhere."""

    headers: Mapping[HeaderKey, HeaderValue] = Field(default_factory=dict, validate_default=True, max_length=32)
    """Headers of each request, such as an API key; secret. Those of `OTEL_EXPORTER_OTLP_HEADERS` are sent, too."""

    @field_validator("headers")
    @classmethod
    def _frozen(cls, value: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
        return freeze(value)


class Traces(Otlp):
    """Spans, by the OpenTelemetry conventions for MCP."""

    sample: Part | None = Field(default=None, ge=0, le=1)
    """Part of the traces that is kept. Default: `OTEL_TRACES_SAMPLER_ARG`, or 1."""

    parent_based: bool | None = None
    """Whether the caller's own decision counts where it has made one. Default: `OTEL_TRACES_SAMPLER`, or `true`."""

    service_name: str | None = None
    """Name of this gateway, for metrics and logs as well. Default: `OTEL_SERVICE_NAME`, or `mcp-extproc`."""

    @field_validator("service_name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not _SERVICE_NAME.fullmatch(value):
            raise ValueError("expected 1 to 255 printable characters of ASCII")
        return value


class Metrics(Model):
    """Metrics, by the OpenTelemetry conventions for MCP and some more."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "endpoint": "write otlp: {endpoint: ...}, or address for Prometheus",
        "port": "write address: 127.0.0.1:9464",
    }

    address: TcpAddressText | None = None
    """Where Prometheus finds them, at `/metrics`. Default: the status address."""

    otlp: Otlp | None = None
    """Where they are sent. Default: nowhere."""

    label_values: WholeNumber = Field(default=500, ge=1, le=MAX_LABEL_VALUES)
    """Most values of one label; further ones are counted as `other`. Of a server's own, such as names of tools, each server
    has so many."""


class Logs(Model):
    """The access log, besides the file `log.access`."""

    elsewhere: ClassVar[Mapping[str, str]] = {"endpoint": "write otlp: {endpoint: ...}"}

    otlp: Otlp
    """Where records are sent."""


class Telemetry(Model):
    """What others are told of requests. Never bodies, arguments, results or tokens."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "audit": "it is a section of its own, beside telemetry",
        "endpoint": "traces, metrics.otlp and logs.otlp have one each",
    }

    answers: Literal["needed", "all"] = "needed"
    """Which answers are read to see errors in them. `needed`: those that are read anyway. `all`: each, which costs."""

    traces: Traces | None = None
    """Traces. Default: on if `OTEL_EXPORTER_OTLP_ENDPOINT` is set."""

    metrics: Metrics | None = None
    """Metrics. Default: off."""

    logs: Logs | None = None
    """Access log by OTLP. Default: off."""


class Audit(Model):
    """A line for each request that was decided: who asked for what, and what became of it."""

    elsewhere: ClassVar[Mapping[str, str]] = {"path": "the path is `file`", "endpoint": "write otlp: {endpoint: ...}"}

    file: str | None = Field(default=None, min_length=1, max_length=4096)
    """JSON lines. Relative paths start in the folder of this file; only its owner can read it."""

    rotate_bytes: Size = 100 << 20
    """Most that a file has. A line that would exceed it begins the next one."""

    keep: WholeNumber = Field(default=10, ge=0, le=1000)
    """Files that are kept besides the current one."""

    arguments: Literal["none", "hash", "redacted"] = "none"
    """What is written of a call's arguments. `hash`: the same for the same arguments, on each worker. `redacted`: their
    names."""

    otlp: Otlp | None = None
    """Where it is sent as log records. Default: nowhere."""

    @field_validator("file")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and ("\0" in value or value.endswith("/")):
            raise ValueError("expected the path of a file, such as audit.jsonl")
        return value

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Audit:
        if self.file is None and self.otlp is None:
            raise ValueError("set `file`, `otlp` or both: the audit goes nowhere")
        return self


class Status(Model):
    """The [status page](status-page.md), on this machine only."""

    elsewhere: ClassVar[Mapping[str, str]] = {"port": "write address: 127.0.0.1:9901"}

    address: str | None = None
    """A loopback address, at which metrics are by default, too; empty for no page. Default: with `run`, `127.0.0.1` and a free
    port, which it prints; with `serve` no page."""

    @field_validator("address")
    @classmethod
    def _loopback(cls, value: str | None) -> str | None:
        if value:
            parsed = parse_address(tcp_address(value))
            assert isinstance(parsed, TcpAddress)
            if not parsed.is_loopback:
                raise ValueError(
                    "expected a loopback address such as 127.0.0.1:9901: the page asks nobody who they are"
                )
        return value
