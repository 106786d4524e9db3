"""What the configuration and OpenTelemetry's variables say together. A key of the configuration wins.

Source: OpenTelemetry specification, configuration/sdk-environment-variables and protocol/exporter. Variables that are not
named here have no effect. Values that are one of several words may have capitals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from mcp_extproc.config import otlp_tls
from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.otlp_tls import OtlpTls
from mcp_extproc.config.telemetry import (
    Audit,
    Metrics,
    Otlp,
    Protocol,
    Telemetry,
    Traces,
    base_endpoint,
    endpoint,
    tcp_address,
)
from mcp_extproc.config.values import is_header_name
from mcp_extproc.pem import TlsError

SERVICE_NAME: Final = "mcp-extproc"
_GRPC_PORT: Final = 4317


class Signal(Enum):
    """What is sent: the word in variables, and in the paths of OTLP/HTTP."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


@dataclass(frozen=True, slots=True)
class Export:
    """Where one signal is sent.

    Attributes:
        url: of OTLP/HTTP with the path; of gRPC the base.
        headers: of each request; their values are secret.
        tls: files for TLS; ``None`` where this machine's authorities are trusted, and there is no certificate of the client.
    """

    url: str
    protocol: Protocol
    headers: Mapping[str, str]
    tls: OtlpTls | None = None

    def __repr__(self) -> str:
        return f"Export({self.url!r}, {self.protocol!r}, headers={sorted(self.headers)})"


@dataclass(frozen=True, slots=True)
class Sampler:
    """Which traces are kept.

    Attributes:
        ratio: of those that nobody has decided about.
        parent_based: whether the caller's decision counts.
    """

    ratio: float
    parent_based: bool


@dataclass(frozen=True, slots=True)
class Exports:
    """What is sent, and what it says of this gateway. ``None`` is off.

    Attributes:
        resource: attributes of the resource, with ``service.name``.
        audit: log records of the audit.
    """

    resource: Mapping[str, str]
    sampler: Sampler
    traces: Export | None = None
    metrics: Export | None = None
    logs: Export | None = None
    audit: Export | None = None


def exports(telemetry: Telemetry, audit: Audit | None, environ: Mapping[str, str]) -> Exports:
    """All of it.

    Raises:
        ValueError: a variable can't be used; it names it, and does not repeat its value.
    """
    variables = _variables(environ)
    metrics = None if telemetry.metrics is None else telemetry.metrics.otlp
    logs = None if telemetry.logs is None else telemetry.logs.otlp
    audited = None if audit is None else audit.otlp
    return Exports(
        resource=_resource(telemetry, variables),
        sampler=_sampler(telemetry.traces or Traces(), variables),
        traces=_traces(telemetry, variables),
        metrics=_export("telemetry.metrics.otlp", Signal.METRICS, _otlp_metrics(metrics, variables), variables),
        logs=_export("telemetry.logs.otlp", Signal.LOGS, logs, variables),
        audit=_export("audit.otlp", Signal.LOGS, audited, variables),
    )


def filled_in(telemetry: Telemetry, environ: Mapping[str, str]) -> Telemetry:
    """With the sections that variables turn on, so that all who read it know what is on.

    Raises:
        ValueError: as with :func:`exports`.
    """
    on = exports(telemetry, None, environ)
    found: dict[str, Model] = {}
    if on.traces is not None:
        sampled = {"sample": on.sampler.ratio, "parent_based": on.sampler.parent_based}
        found["traces"] = (telemetry.traces or Traces()).model_copy(update=sampled)
    metrics: dict[str, object] = {}
    if on.metrics is not None and (telemetry.metrics is None or telemetry.metrics.otlp is None):
        metrics["otlp"] = Otlp()
    address = _scraped_at(_variables(environ))
    if address is not None and (telemetry.metrics is None or telemetry.metrics.address is None):
        metrics["address"] = address
    if metrics:
        found["metrics"] = (telemetry.metrics or Metrics()).model_copy(update=metrics)
    return telemetry.model_copy(update=found) if found else telemetry


class _Variables:
    """An empty variable is as one that is not set (specification, "Parsing empty value")."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def name_of(self, signal: Signal, word: str) -> str:
        """Of the variable that counts: the signal's own, where it is set."""
        own = f"OTEL_EXPORTER_OTLP_{signal.name}_{word}"
        return own if self.get(own) else f"OTEL_EXPORTER_OTLP_{word}"

    def of_signal(self, signal: Signal, word: str) -> str | None:
        return self.get(self.name_of(signal, word))

    def words(self, name: str) -> list[str]:
        """Those of a list, separated by commas."""
        return [word.strip().lower() for word in (self.get(name) or "").split(",")]

    def pairs(self, name: str) -> Iterator[tuple[str, str]]:
        """``key=value,key=value`` with percent-encoded values (W3C Baggage, as the specification demands)."""
        for pair in (self.get(name) or "").split(","):
            key, equals, value = pair.partition("=")
            if not pair.strip():
                continue
            if not equals or not key.strip():
                raise ValueError(f"{name}: expected name=value, separated by commas")
            yield unquote(key.strip()), unquote(value.strip())


def _variables(environ: Mapping[str, str]) -> _Variables:
    return _Variables({} if _is_true(environ.get("OTEL_SDK_DISABLED")) else environ)


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() == "true"


def _traces(telemetry: Telemetry, variables: _Variables) -> Export | None:
    section = telemetry.traces
    if section is None:
        wanted = (variables.get("OTEL_TRACES_EXPORTER") or "otlp").lower()
        if wanted not in ("otlp", "none"):
            raise ValueError("OTEL_TRACES_EXPORTER: expected otlp or none, the only ones that there are here")
        if wanted == "none" or variables.of_signal(Signal.TRACES, "ENDPOINT") is None:
            return None
    return _export("telemetry.traces", Signal.TRACES, section or Otlp(), variables)


def _otlp_metrics(section: Otlp | None, variables: _Variables) -> Otlp | None:
    """The general endpoint alone turns on traces only: who reads metrics with Prometheus would send them twice."""
    asked = variables.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") or "otlp" in variables.words("OTEL_METRICS_EXPORTER")
    return section or (Otlp() if asked else None)


def _scraped_at(variables: _Variables) -> str | None:
    """Where Prometheus finds metrics (specification, "Prometheus Exporter")."""
    if "prometheus" not in variables.words("OTEL_METRICS_EXPORTER"):
        return None
    host = variables.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "127.0.0.1"
    port = variables.get("OTEL_EXPORTER_PROMETHEUS_PORT") or "9464"
    try:
        return tcp_address(f"[{host}]:{port}" if ":" in host and "[" not in host else f"{host}:{port}")
    except ValueError:
        raise ValueError(
            "OTEL_EXPORTER_PROMETHEUS_HOST and OTEL_EXPORTER_PROMETHEUS_PORT: expected an address and a port"
        ) from None


def _export(place: str, signal: Signal, section: Otlp | None, variables: _Variables) -> Export | None:
    if section is None:
        return None
    own = variables.get(f"OTEL_EXPORTER_OTLP_{signal.name}_ENDPOINT")
    general = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    base = section.endpoint or own or general
    if base is None:
        raise PlacedError(place.split("."), "set `endpoint`, or the variable OTEL_EXPORTER_OTLP_ENDPOINT")
    # What the variable of one signal says is the whole URL (exporter, "Endpoint URLs for OTLP/HTTP").
    is_whole = section.endpoint is None and own is not None
    name = f"OTEL_EXPORTER_OTLP_{signal.name + '_' if is_whole else ''}ENDPOINT"
    try:
        url = endpoint(base) if is_whole else base_endpoint(base)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    protocol = section.protocol or _protocol(signal, variables) or _usual_protocol(url)
    return Export(
        url=url if is_whole or protocol == "grpc" else f"{url}/v1/{signal.value}",
        protocol=protocol,
        headers=_headers(place, signal, section, protocol, variables),
        tls=_tls(signal, url, variables),
    )


def _protocol(signal: Signal, variables: _Variables) -> Protocol | None:
    name = variables.name_of(signal, "PROTOCOL")
    match (variables.get(name) or "").lower():
        case "":
            return None
        case "grpc":
            return "grpc"
        case "http/protobuf":
            return "http/protobuf"
    raise ValueError(f"{name}: expected grpc or http/protobuf; where http/json is taken, http/protobuf is, too")


def _usual_protocol(url: str) -> Protocol:
    """A receiver speaks gRPC at 4317, and would not answer anything else there."""
    return "grpc" if urlsplit(url).port == _GRPC_PORT else "http/protobuf"


def _headers(place: str, signal: Signal, section: Otlp, protocol: Protocol, variables: _Variables) -> Mapping[str, str]:
    name = variables.name_of(signal, "HEADERS")
    found = {key.lower(): value for key, value in variables.pairs(name)}
    for key, value in found.items():
        if why := _unusable(key, value, protocol):
            raise ValueError(f"{name}: {why}")
    keys = {key.lower(): value.get_secret_value() for key, value in section.headers.items()}
    for key, value in keys.items():
        if why := _unusable(key, value, protocol):
            raise PlacedError([*place.split("."), "headers"], why)
    return found | keys


_GRPC_NAME: Final = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_OF_THE_REQUEST: Final = frozenset({"content-length", "transfer-encoding"})


def _unusable(name: str, value: str, protocol: Protocol) -> str | None:
    """Why a header can't be sent: an exporter would fail with each request. Neither is repeated, as both may be a key."""
    is_name = _GRPC_NAME.fullmatch(name) if protocol == "grpc" else is_header_name(name)
    if not is_name or name in _OF_THE_REQUEST:
        return f"a name can't be that of a header with {protocol}. Quotes around name=value would be a part of it"
    if not value.isascii() or not value.isprintable():
        return "a value has other characters than printable ones of ASCII"
    return None


def _tls(signal: Signal, url: str, variables: _Variables) -> OtlpTls | None:
    """Whom it trusts, where that is not whom this machine does, and the client's certificate (exporter, "Configuration
    Options")."""
    words = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    names = [variables.name_of(signal, word) for word in words]
    paths = [None if (path := variables.get(name)) is None else Path(path) for name in names]
    if not any(paths) or not url.lower().startswith("https:"):
        return None
    _, certificate, key = paths
    if (certificate is None) != (key is None):
        _, *pair = names
        there, missing = pair if key is None else reversed(pair)
        raise ValueError(f"{there}: set {missing}, too, as a certificate goes with its key")
    files = OtlpTls(*paths)
    try:
        otlp_tls.read(files)
    except TlsError as error:
        concerned = [name for name, path in zip(names, paths, strict=True) if path in error.files]
        raise ValueError(
            f"{', '.join(concerned)}: expected the path of a readable file in PEM, but {error.why}"
        ) from None
    return files


def _resource(telemetry: Telemetry, variables: _Variables) -> Mapping[str, str]:
    found = {"service.name": SERVICE_NAME, **dict(variables.pairs("OTEL_RESOURCE_ATTRIBUTES"))}
    traces = telemetry.traces
    name = (traces and traces.service_name) or variables.get("OTEL_SERVICE_NAME")
    return found | ({"service.name": name} if name else {})


_SAMPLERS: Final[Mapping[str, tuple[float | None, bool]]] = {
    "always_on": (1.0, False),
    "always_off": (0.0, False),
    "traceidratio": (None, False),
    "parentbased_always_on": (1.0, True),
    "parentbased_always_off": (0.0, True),
    "parentbased_traceidratio": (None, True),
}
"""Ratio, where the name says it, and whether it is based on the parent."""


def _sampler(section: Traces, variables: _Variables) -> Sampler:
    name = (variables.get("OTEL_TRACES_SAMPLER") or "parentbased_traceidratio").lower()
    if name not in _SAMPLERS:
        raise ValueError(f"OTEL_TRACES_SAMPLER: expected one of {', '.join(_SAMPLERS)}")
    ratio, parent_based = _SAMPLERS[name]
    if section.sample is not None:
        ratio = section.sample
    elif ratio is None:
        ratio = _ratio(variables.get("OTEL_TRACES_SAMPLER_ARG"))
    return Sampler(ratio, parent_based if section.parent_based is None else section.parent_based)


def _ratio(text: str | None) -> float:
    try:
        ratio = 1.0 if text is None else float(text)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise ValueError("OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1")
    return ratio
