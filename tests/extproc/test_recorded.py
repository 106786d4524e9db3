"""What a real Envoy said in ten thousand exchanges, said again to both transports: the answers are the same.

What is said, and how it was recorded: tests/extproc/recorded/README.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from random import Random

import pytest
import uvloop

from tests.extproc.recorded import recording, replay
from tests.extproc.recorded.recording import Script
from tests.extproc.recorded.replay import Answers, Played


@pytest.fixture(scope="module")
def script() -> Script:
    return recording.script(recording.load())


@pytest.fixture(scope="module", autouse=True)
def without_warnings() -> Iterator[None]:
    """There are thousands, of the server that can't be reached."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def patient(script: Script, without_warnings: None) -> Played:
    return uvloop.run(replay.on_http2_patiently(script))


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [record for when in ("setup", "call") for record in caplog.get_records(when)]


def test_the_recording_holds_what_envoy_can_say(script: Script) -> None:
    assert len({key for steps in script.steps for key, _ in steps}) >= 10_000
    frames = {"Settings", "Settings ACK", "WindowUpdate", "Headers", "Data", "RstStream", "Ping", "Ping ACK"}
    assert script.frames.keys() == frames
    phases = {"request_headers", "request_body", "response_headers", "response_body"}
    assert phases | {"POST", "GET", "DELETE", "/grpc.health.v1.Health/Check"} <= script.kinds.keys()
    assert len(script.recording.drains) >= 2
    assert max(len(read.data) for read in script.recording.reads) > 60_000


def test_both_transports_answer_the_same(script: Script, patient: Played) -> None:
    reference = uvloop.run(replay.on_grpcio(script, patient))
    assert _differences(patient, reference) == {}
    assert patient.outcome == reference.outcome


def test_every_exchange_is_answered_and_forgotten(script: Script, patient: Played) -> None:
    assert {answers.status for answers in patient.answers.values()} >= {None, (0, "")}
    for key, answers in patient.answers.items():
        assert answers.messages or key in patient.refused or script.sessions.get(key) is None, key
    assert patient.outcome["left open"] == patient.outcome["streams left open"] == 0
    assert patient.frames["Ping ACK"] == script.frames["Ping"]
    drains = len(script.recording.drains)
    assert drains < patient.frames["GoAway"] <= 2 * drains  # in two steps, unless Envoy closed the connection first
    connections = {read.connection for read in script.recording.reads if read.data}
    assert patient.frames["Settings ACK"] == patient.frames["Settings"] == len(connections)


def test_reads_may_be_cut_anywhere(script: Script, patient: Played) -> None:
    cut = uvloop.run(replay.on_http2_cut_anew(script, Random(1)))
    assert _differences(patient, cut) == {}
    assert patient.outcome == cut.outcome


def test_envoy_may_leave_at_once(script: Script, patient: Played) -> None:
    """As it did: often in the same read in which it had said something."""
    recorded = uvloop.run(replay.on_http2(script))
    different = _differences(patient, recorded)
    for all_of_it, seen in different.values():
        assert seen.status is None
        assert seen.messages == all_of_it.messages[: len(seen.messages)]
    assert len(different) < len(patient.answers) / 10
    assert recorded.outcome["left open"] == recorded.outcome["streams left open"] == 0
    assert recorded.outcome["exchanges"] == patient.outcome["exchanges"]


def _differences(some: Played, others: Played) -> dict[object, tuple[Answers, Answers]]:
    assert some.answers.keys() == others.answers.keys()
    pairs = ((key, answers, others.answers[key]) for key, answers in some.answers.items())
    return {key: (one, other) for key, one, other in pairs if one != other and one.one_by_one != other.one_by_one}
