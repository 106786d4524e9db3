"""What the configuration and OpenTelemetry's variables say together. A key of the configuration wins.

Source: OpenTelemetry specification, configuration/sdk-environment-variables and protocol/exporter. Variables that are not
named here have no effect. Values that are one of several words may have capitals.

These variables are set for a whole fleet of programs. So words, numbers and attributes that are unknown here are warned about
and count as not set, as the specification demands. Without the rest (where to, with which credentials) nothing could be sent
as it is meant: that is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def passed_over(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that has no effect because of its value. It does not repeat the value."""
    for name, reader in _READERS.items():
        if (value := environ.get(name, "").strip()) and (why := reader(value).unknown):
            yield f"{name}: {why}"


class _Variables:
    """An empty variable is as one that is not set (specification, "Parsing empty value")."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, name: str) -> str | None:
        value = self._environ.get(name, "").strip()
        return (_READERS[name](value).known if value and name in _READERS else value) or None

    def name_of(self, signal: Signal, word: str) -> str:
        """Of the variable that counts: the signal's own, where it is set."""
        own = f"OTEL_EXPORTER_OTLP_{signal.name}_{word}"
        return own if self.get(own) else f"OTEL_EXPORTER_OTLP_{word}"

    def of_signal(self, signal: Signal, word: str) -> str | None:
        return self.get(self.name_of(signal, word))

    def words(self, name: str) -> list[str]:
        """Those of a list, separated by commas."""
        return (self.get(name) or "").split(",")

    def pairs(self, name: str) -> Sequence[tuple[str, str]]:
        try:
            return _pairs(self.get(name) or "")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _variables(environ: Mapping[str, str]) -> _Variables:
    variables = _Variables(environ)
    return _Variables({}) if variables.get("OTEL_SDK_DISABLED") == "true" else variables


def _traces(telemetry: Telemetry, variables: _Variables) -> Export | None:
    asked = (
        variables.get("OTEL_TRACES_EXPORTER") != "none" and variables.of_signal(Signal.TRACES, "ENDPOINT") is not None
    )
    return _export("telemetry.traces", Signal.TRACES, telemetry.traces or (Otlp() if asked else None), variables)


def _otlp_metrics(section: Otlp | None, variables: _Variables) -> Otlp | None:
    """The general endpoint alone turns on traces only: who reads metrics with Prometheus would send them twice."""
    if variables.get("OTEL_METRICS_EXPORTER") is None:
        asked = variables.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") is not None
    else:
        asked = "otlp" in variables.words("OTEL_METRICS_EXPORTER")
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
            "OTEL_EXPORTER_PROMETHEUS_HOST: expected the address of an interface, without a port"
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
    match variables.of_signal(signal, "PROTOCOL"):
        case "grpc":
            return "grpc"
        case "http/protobuf":
            return "http/protobuf"
    return None


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
    ratio, parent_based = _SAMPLERS[variables.get("OTEL_TRACES_SAMPLER") or "parentbased_traceidratio"]
    if section.sample is not None:
        ratio = section.sample
    elif ratio is None:
        ratio = float(variables.get("OTEL_TRACES_SAMPLER_ARG") or 1)
    return Sampler(ratio, parent_based if section.parent_based is None else section.parent_based)


# -- Values ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """A value.

    Attributes:
        known: what of it has an effect.
        unknown: what is said of the rest, and what holds instead.
    """

    known: str
    unknown: str | None = None


_Reader = Callable[[str], _Read]


def _word(*known: str, instead: str) -> _Reader:
    """One of several words ("Enum")."""

    def read(value: str) -> _Read:
        word = value.lower()
        if word in known:
            return _Read(word)
        return _Read("", f"passed over, as the only words here are {', '.join(known)}; {instead}")

    return read


def _list(*known: str, instead: str) -> _Reader:
    """Several of several words, separated by commas."""

    def read(value: str) -> _Read:
        words = [word for part in value.split(",") if (word := part.strip().lower())]
        kept = [word for word in words if word in known]
        if kept == words:
            return _Read(",".join(kept))
        rest = f"only {', '.join(kept)} counts" if kept else instead
        return _Read(",".join(kept), f"words are passed over, as the only ones here are {', '.join(known)}; {rest}")

    return read


def _number(low: float, high: float, *, instead: str, read_as: Callable[[str], float] = float) -> _Reader:
    """A number ("Numeric")."""

    def read(value: str) -> _Read:
        try:
            number = read_as(value) if value.isascii() else math.nan
        except ValueError:
            number = math.nan
        if low <= number <= high:
            return _Read(str(number))
        return _Read("", f"passed over, as it is no number from {low:g} to {high:g}; {instead}")

    return read


def _attributes(value: str) -> _Read:
    """All or none (resource/sdk, "Specifying resource information via an environment variable")."""
    try:
        _pairs(value)
    except ValueError as error:
        return _Read("", f"passed over with all that is in it ({error}); the resource has no attributes of it")
    return _Read(value)


def _pairs(value: str) -> Sequence[tuple[str, str]]:
    """``key=value,key=value`` with percent-encoded values (W3C Baggage, as the specification demands)."""
    found = []
    for pair in value.split(","):
        key, equals, text = pair.partition("=")
        if not pair.strip():
            continue
        if not equals or not key.strip():
            raise ValueError("expected name=value, separated by commas")
        found.append((unquote(key.strip()), unquote(text.strip())))
    return found


_OWN_PROTOCOL: Final = "where http/json is taken, http/protobuf is, too. It is as if it were not set"

_READERS: Final[Mapping[str, _Reader]] = {
    "OTEL_SDK_DISABLED": _word("true", "false", instead="false is taken"),
    "OTEL_RESOURCE_ATTRIBUTES": _attributes,
    "OTEL_TRACES_EXPORTER": _list("otlp", "none", instead="otlp is taken"),
    "OTEL_TRACES_SAMPLER": _word(*_SAMPLERS, instead="parentbased_traceidratio is taken"),
    "OTEL_TRACES_SAMPLER_ARG": _number(0, 1, instead="1 is taken"),
    "OTEL_METRICS_EXPORTER": _list("otlp", "prometheus", "none", instead="it is as if it were not set"),
    "OTEL_EXPORTER_PROMETHEUS_PORT": _number(1, 65535, read_as=int, instead="9464 is taken"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": _word("grpc", "http/protobuf", instead=_OWN_PROTOCOL),
} | {
    f"OTEL_EXPORTER_OTLP_{signal.name}_PROTOCOL": _word("grpc", "http/protobuf", instead=_OWN_PROTOCOL)
    for signal in Signal
}
"""Of the variables whose values may be unknown here."""
