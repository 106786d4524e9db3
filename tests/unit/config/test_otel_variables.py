"""Keys of the configuration and OpenTelemetry's variables together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.config import loads
from mcp_extproc.config.otel_variables import Export, Exports, Sampler, exports, filled_in, passed_over
from mcp_extproc.config.otlp_tls import OtlpTls
from mcp_extproc.config.telemetry import Audit, Otlp, Telemetry
from tests.support.tls import Authority
from tests.unit.config.support import error_of, native

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:4318"}


def found(environ: Mapping[str, str] = {}, audit: Audit | None = None, **telemetry: Any) -> Exports:
    return exports(Telemetry.model_validate(telemetry), audit, environ)


def test_nothing_is_on() -> None:
    assert found() == Exports({"service.name": "mcp-extproc"}, Sampler(1.0, parent_based=True))


def test_the_general_endpoint_turns_on_traces_alone() -> None:
    on = found(ENDPOINT)
    assert on.traces == Export("http://env:4318/v1/traces", "http/protobuf", {})
    assert (on.metrics, on.logs, on.audit) == (None, None, None)


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_variables_turn_off_what_variables_turned_on(off: Mapping[str, str]) -> None:
    assert found({**ENDPOINT, **off}).traces is None
    assert found({**ENDPOINT, **off}, traces={"endpoint": "http://key:4318"}).traces is not None


def test_keys_win() -> None:
    environ = {
        **ENDPOINT,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-a=1,X-B=two%20words",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SERVICE_NAME": "env",
    }
    keys = {
        "endpoint": "http://key:4318", "protocol": "grpc", "headers": {"x-A": "key"}, "sample": 0.5,
        "parent_based": True, "service_name": "key",
    }  # fmt: skip
    on = found(environ, traces=keys)
    assert on.traces == Export("http://key:4318", "grpc", {"x-a": "key", "x-b": "two words"})
    assert on.sampler == Sampler(0.5, parent_based=True)
    assert on.resource["service.name"] == "key"


def test_a_signals_own_variable_is_the_whole_url() -> None:
    environ = {**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://own:9/spans"}
    on = found(environ, logs={"otlp": {}})
    assert on.traces == Export("http://own:9/spans", "http/protobuf", {})
    assert on.logs == Export("http://env:4318/v1/logs", "http/protobuf", {})


@pytest.mark.parametrize(
    ("url", "protocol"), [("http://c:4317", "grpc"), ("https://c", "http/protobuf"), ("http://c:4318", "http/protobuf")]
)
def test_the_port_says_what_is_spoken_there(url: str, protocol: str) -> None:
    on = found(traces={"endpoint": url})
    assert on.traces is not None
    assert on.traces.protocol == protocol


@pytest.mark.parametrize(
    "environ",
    [{"OTEL_METRICS_EXPORTER": "otlp"}, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://env:4318/v1/metrics"}],
)
def test_metrics_by_variables(environ: Mapping[str, str]) -> None:
    assert found({**ENDPOINT, **environ}).metrics == Export("http://env:4318/v1/metrics", "http/protobuf", {})


def test_the_audit_goes_where_logs_go() -> None:
    on = found(ENDPOINT, Audit.model_validate({"otlp": {}}))
    assert on.audit == Export("http://env:4318/v1/logs", "http/protobuf", {})


@pytest.mark.parametrize(
    ("variables", "sampler"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_on"}, Sampler(1.0, parent_based=False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Sampler(0.0, parent_based=True)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, Sampler(0.25, parent_based=False)),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.25"}, Sampler(0.25, parent_based=True)),
        ({"OTEL_TRACES_SAMPLER": " "}, Sampler(1.0, parent_based=True)),
    ],
)
def test_samplers(variables: Mapping[str, str], sampler: Sampler) -> None:
    assert found({**ENDPOINT, **variables}).sampler == sampler


def test_attributes_of_the_resource() -> None:
    environ = {
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=lower, deployment.environment.name=a%2Cb",
        "OTEL_SERVICE_NAME": "higher",
    }
    assert found(environ).resource == {"service.name": "higher", "deployment.environment.name": "a,b"}


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "hunter2"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=hunter2%0d%0ax-other: b"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=hunter2\u20ac"},
        {"OTEL_EXPORTER_OTLP_HEADERS": '"x-key=hunter2"'},
        {"OTEL_EXPORTER_OTLP_HEADERS": "content-length=3"},
        {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x key=hunter2"},
    ],
)
def test_a_variable_that_can_not_be_used(environ: Mapping[str, str]) -> None:
    [name] = environ
    with pytest.raises(ValueError, match=name) as caught:
        found({**ENDPOINT, **environ})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("OTEL_SDK_DISABLED", "hunter2", "false is taken"),
        ("OTEL_TRACES_EXPORTER", "hunter2", "otlp is taken"),
        ("OTEL_TRACES_SAMPLER", "hunter2", "parentbased_traceidratio is taken"),
        ("OTEL_TRACES_SAMPLER_ARG", "hunter2", "no number from 0 to 1; 1 is taken"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "1 is taken"),
        ("OTEL_TRACES_SAMPLER_ARG", "-1", "1 is taken"),
        ("OTEL_METRICS_EXPORTER", "hunter2", "as if it were not set"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "hunter2", "9464 is taken"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "65536", "9464 is taken"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "hunter2", "as if it were not set"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "as if it were not set"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "hunter2", "as if it were not set"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,hunter2", "the resource has no attributes of it"),
    ],
)  # fmt: skip
def test_what_is_unknown_here_is_warned_about_and_counts_as_not_set(name: str, value: str, instead: str) -> None:
    """Operators set these variables for a whole fleet of programs."""
    more = {"OTEL_METRICS_EXPORTER": "prometheus"} if "PROMETHEUS" in name else {}
    environ = {**ENDPOINT, **more, name: value}
    assert found(environ) == found({**ENDPOINT, **more})
    [warning] = passed_over(environ)
    assert warning.startswith(f"{name}: ")
    assert warning.endswith(instead)
    assert value == "-1" or value not in warning.replace(_OFFER, "")
    loaded = loads("servers: {a: {url: https://a.test/mcp}}", "f", environ)
    assert loaded.warnings[-1] == warning
    assert loaded.config.telemetry == filled_in(Telemetry(), environ)


_OFFER = "where http/json is taken"


def test_nothing_is_said_of_what_is_known() -> None:
    environ = {
        **ENDPOINT,
        "OTEL_SDK_DISABLED": "False",
        "OTEL_TRACES_EXPORTER": "",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_TRACES_SAMPLER_ARG": "0.50",
        "OTEL_METRICS_EXPORTER": "None",
        "OTEL_RESOURCE_ATTRIBUTES": "a=b",
        "OTEL_LOG_LEVEL": "hunter2",  # of no program but an SDK
    }
    assert list(passed_over(environ)) == []


def test_the_known_words_of_a_list_count() -> None:
    environ = {**ENDPOINT, "OTEL_METRICS_EXPORTER": "hunter2, prometheus"}
    [warning] = passed_over(environ)
    assert warning.endswith("; only prometheus counts")
    on = filled_in(Telemetry(), environ)
    assert on.metrics is not None
    assert (on.metrics.address, on.metrics.otlp) == ("127.0.0.1:9464", None)


@pytest.mark.parametrize(("exporter", "is_sent"), [("", True), ("otlp", True), ("none", False), ("prometheus", False)])
def test_an_endpoint_for_metrics_is_used_where_the_exporter_is(exporter: str, is_sent: bool) -> None:
    environ = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://env:4318", "OTEL_METRICS_EXPORTER": exporter}
    assert (found(environ).metrics is not None) is is_sent


@pytest.mark.parametrize("header", [("x-key-bin", "hunter2"), ("x!key", "hunter2"), ("x-key", "hunter2\xe4")])
def test_a_header_that_grpc_does_not_send(header: tuple[str, str]) -> None:
    """Its library would fail with each request."""
    key, value = header
    traces = {"endpoint": "http://c:4318", "protocol": "grpc", "headers": {key: value}}
    with pytest.raises(ValueError, match=r"telemetry\.traces\.headers: a (name|value) ") as caught:
        found(traces=traces)
    assert "hunter2" not in str(caught.value)
    if value.isascii():
        assert found(traces={**traces, "protocol": "http/protobuf"}).traces is not None


def test_words_may_have_capitals() -> None:
    environ = {
        **ENDPOINT,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC",
        "OTEL_TRACES_EXPORTER": "OTLP",
        "OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio",
        "OTEL_METRICS_EXPORTER": "Prometheus, OTLP",
    }
    on = found(environ)
    assert on.traces == Export("http://env:4318", "grpc", {})
    assert on.metrics == on.traces
    assert on.sampler == Sampler(1.0, parent_based=True)


def test_a_certificate_of_a_private_authority(tmp_path: Path) -> None:
    ca = Authority(tmp_path).ca
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://env",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "none.pem"),
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": str(ca),
    }
    on = found(environ)
    assert on.traces is not None
    assert on.traces.tls == OtlpTls(ca)
    assert found({**environ, **ENDPOINT}).traces == Export("http://env:4318/v1/traces", "http/protobuf", {})
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_CERTIFICATE: expected the path of .*, but no such file$"):
        found(environ, logs={"otlp": {}})


def pair(certificate: Path, key: Path, signal: str = "") -> dict[str, str]:
    name = f"OTEL_EXPORTER_OTLP_{signal}CLIENT"
    return {f"{name}_CERTIFICATE": str(certificate), f"{name}_KEY": str(key)}


def test_a_certificate_of_the_client(tmp_path: Path) -> None:
    """A signal's own counts, each by itself."""
    ours = Authority(tmp_path)
    certificate, key = ours.certificate("client"), ours.key("client")
    general = pair(tmp_path / "none.pem", key) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://env"}
    on = found(general | {"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": str(certificate)})
    assert on.traces is not None
    assert on.traces.tls == OtlpTls(None, certificate, key)
    assert found(general | ENDPOINT).traces == Export("http://env:4318/v1/traces", "http/protobuf", {})


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        (
            "client.pem",
            "server.key",
            "CLIENT_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_KEY: .*, but the key belongs to another",
        ),
        ("client.pem", "none.key", "CLIENT_KEY: expected the path of a readable file in PEM, but no such file"),
        ("client.pem", "", "CLIENT_CERTIFICATE: set OTEL_EXPORTER_OTLP_CLIENT_KEY, too"),
        ("", "client.key", "CLIENT_KEY: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, too"),
    ],
)
def test_a_certificate_that_is_none_of_a_client(certificate: str, key: str, why: str, tmp_path: Path) -> None:
    Authority(tmp_path)
    wrong = pair(tmp_path / certificate if certificate else Path(), tmp_path / key if key else Path())
    environ = {name: value for name, value in wrong.items() if value != "."}
    with pytest.raises(ValueError, match=f"^OTEL_EXPORTER_OTLP_{why}") as caught:
        found(environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://env"})
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("text", ["", "hunter2", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n"])
def test_a_file_without_certificates(text: str, tmp_path: Path) -> None:
    """An empty one does not have it trust what this machine trusts."""
    file = tmp_path / "ca.pem"
    file.write_text(text)
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_CERTIFICATE") as caught:
        found({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://env", "OTEL_EXPORTER_OTLP_CERTIFICATE": str(file)})
    assert "hunter2" not in str(caught.value)


def test_the_general_endpoint_is_a_base() -> None:
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: .* leave out /v1/traces"):
        found({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/v1/traces"})


def test_where_no_endpoint_is_known() -> None:
    with pytest.raises(ValueError, match=r"telemetry\.traces: set `endpoint`"):
        found(traces={"sample": 1})


def test_values_of_headers_are_not_shown() -> None:
    on = found(traces={"endpoint": "http://c", "headers": {"x-key": "hunter2"}})
    assert on.traces is not None
    assert on.traces.headers == {"x-key": "hunter2"}
    assert "hunter2" not in repr(on)


def test_sections_that_variables_turn_on() -> None:
    nothing = Telemetry()
    assert filled_in(nothing, {}) is nothing
    assert filled_in(nothing, ENDPOINT).traces is not None
    assert filled_in(nothing, ENDPOINT).metrics is None
    both = filled_in(
        Telemetry.model_validate({"metrics": {"label_values": 3}}), {**ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp"}
    )
    assert both.metrics is not None
    assert (both.metrics.label_values, both.metrics.otlp) == (3, Otlp())


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "127.0.0.1:9464"),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0", "OTEL_EXPORTER_PROMETHEUS_PORT": "9999"}, "0.0.0.0:9999"),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "::1"}, "[::1]:9464"),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "localhost"}, "localhost:9464"),
    ],
)
def test_metrics_for_prometheus_by_variables(environ: Mapping[str, str], address: str) -> None:
    """The formats of others have no keys for it."""
    environ = {"OTEL_METRICS_EXPORTER": "prometheus", **environ}
    in_json = loads('{"mcpServers": {"a": {"url": "http://a"}}}', "mcp.json", environ).config
    for found in (filled_in(Telemetry(), environ), in_json.telemetry):
        assert found.metrics is not None
        assert (found.metrics.address, found.metrics.otlp) == (address, None)
    both = filled_in(Telemetry(), {**environ, **ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp,prometheus"})
    assert both.metrics is not None
    assert (both.metrics.address, both.metrics.otlp) == (address, Otlp())
    kept = filled_in(Telemetry.model_validate({"metrics": {"address": "127.0.0.1:1"}}), environ)
    assert kept.metrics is not None
    assert kept.metrics.address == "127.0.0.1:1"
    assert filled_in(Telemetry(), {**environ, "OTEL_SDK_DISABLED": "true"}).metrics is None


def test_an_address_for_prometheus_that_is_none() -> None:
    environ = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "hunter2:9464"}
    with pytest.raises(ValueError, match="OTEL_EXPORTER_PROMETHEUS_HOST: expected") as caught:
        filled_in(Telemetry(), environ)
    assert "hunter2" not in str(caught.value)


def test_a_configuration_has_them() -> None:
    text = "servers: {a: {url: 'http://a'}}"
    assert not native(text).collects
    assert native(text, ENDPOINT).collects
    assert not native(text, ENDPOINT).collects_all
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "hunter2"}
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: expected" in error_of(text, environ=wrong)
    in_json = '{"mcpServers": {"a": {"url": "http://a"}}}'
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: expected" in error_of(in_json, "mcp.json", wrong)
