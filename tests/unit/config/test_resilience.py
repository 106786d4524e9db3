"""Resilience keys: what they accept and refuse, and what is on by default."""

from __future__ import annotations

import pytest

from tests.unit.config.support import error_of, server


def test_nothing_is_on_by_default() -> None:
    plain = server("url: http://a/")
    assert (plain.health_check, plain.outlier_detection, plain.retries, plain.keepalive) == (None, None, None, None)
    assert (plain.sticky_sessions, plain.http2, plain.load_balancing) == (False, False, "round_robin")
    assert plain.safe_retries is None
    assert plain.circuit_breakers.model_dump() == {
        "max_connections": None, "max_pending_requests": None, "max_requests": None, "max_retries": 1024,
    }  # fmt: skip


def test_empty_sections_turn_their_subject_on() -> None:
    on = server("url: http://a/, health_check: {}, outlier_detection: {}, retries: {}, keepalive: {}")
    assert on.health_check is not None
    assert on.health_check.path is None
    assert on.outlier_detection is not None
    assert on.retries is not None
    assert on.safe_retries == on.retries
    assert on.keepalive is not None


def test_sticky_sessions_need_retries() -> None:
    """Or the sessions of a dead replica would fail for as long as it is dead."""
    assert server("url: http://a/, sticky_sessions: true").safe_retries is not None
    chosen = server("url: http://a/, sticky_sessions: true, retries: {num_retries: 7}")
    assert chosen.safe_retries is not None
    assert chosen.safe_retries.num_retries == 7


def test_statuses_are_numbers_or_ranges() -> None:
    checked = server('url: http://a/, health_check: {path: /h, expected_statuses: [200, "201-299"]}')
    assert checked.health_check is not None
    assert checked.health_check.expected_statuses == ("200", "201-299")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("load_balancing: maglev", "load_balancing: expected 'round_robin', 'least_request', 'random' or 'ring_hash'"),
        (
            "health_check: {expected_statuses: [299-200]}",
            "health_check.expected_statuses[0]: expected an HTTP status or a range of them, such as 200 or 200-299",
        ),
        ("health_check: {path: health}", "health_check.path: expected an absolute path such as /health"),
        ("keepalive: {time: 0.5}", "keepalive.time: expected a duration of at least 1s"),
        ("retries: {num_retries: 0}", "retries.num_retries: expected a number of at least 1"),
        (
            "retries: {base_interval: 1s, max_interval: 500ms}",
            "retries: max_interval is shorter than base_interval",
        ),
        (
            "outlier_detection: {base_ejection_time: 10m}",
            "outlier_detection: max_ejection_time is shorter than base_ejection_time",
        ),
        ("circuit_breakers: {max_requests: 0}", "circuit_breakers.max_requests: expected a number of at least 1"),
        ("keepalive: {http2_interval: 1s}", "keepalive.http2_interval requires http2: true"),
    ],
)  # fmt: skip
def test_problems(keys: str, problem: str) -> None:
    where = "servers.a: " if problem.startswith("keepalive.http2") else "servers.a."
    assert error_of(f"servers: {{a: {{url: http://a/, {keys}}}}}") == f"gateway.yaml: {where}{problem}"


def test_tls_to_clients_needs_both_files() -> None:
    assert error_of("servers: {a: {url: http://a/}}\nlisten: {tls: {certificate: /a.pem}}") == (
        "gateway.yaml: line 2, listen.tls: certificate and key have to be given together"
    )
