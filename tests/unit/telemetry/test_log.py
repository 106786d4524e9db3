"""The log: one line for each event, and of exceptions that nobody expected where they were raised, and nothing they quote."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import pytest

from mcp_extproc.telemetry import log

SECRET = "hunter2"


def logged(error: Exception, format: str = "text") -> str:
    """The record of a failure."""
    stream = io.StringIO()
    log.configure("info", format, stream)
    log.failure(log.logger("test"), "task_failed", error, {"task": "pump"})
    return stream.getvalue()


def raised(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError


def look_up() -> None:
    {}[SECRET]  # type: ignore[index]


def convert() -> None:
    try:
        look_up()
    except KeyError as error:
        raise ValueError(f"no {SECRET!r}") from error


def several() -> None:
    raise ExceptionGroup(SECRET, [raised(look_up), raised(convert)])


def for_ever() -> None:
    for_ever()


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    ("work", "told"),
    [
        (look_up, ["builtins.KeyError", "in look_up"]),
        (convert, ["builtins.KeyError", "in look_up", "builtins.ValueError", "in convert"]),
        (several, ["builtins.ExceptionGroup", "in several", "builtins.KeyError", "builtins.ValueError", "in convert"]),
    ],
    ids=["one", "with its cause", "a group"],
)
def test_it_says_where_and_not_what(format: str, work: Callable[[], object], told: list[str]) -> None:
    text = logged(raised(work), format)
    assert SECRET not in text
    assert [word for word in told if word not in text] == []
    if format == "json":
        record = json.loads(text)
        assert (record["event"], record["level"], record["task"]) == ("task_failed", "error", "pump")
    else:
        assert "error   task_failed task=pump\n" in text


def test_its_length_is_bounded() -> None:
    assert len(logged(raised(for_ever))) < 1 << 14
    last = ValueError()
    for _ in range(1000):
        before, last = last, ValueError()
        last.__cause__ = before
    assert logged(last).count("ValueError") == 10


def test_exceptions_that_led_to_each_other() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert logged(first).splitlines()[1:] == ["builtins.KeyError", "builtins.ValueError"]


def test_one_that_was_not_raised() -> None:
    assert logged(ValueError(SECRET)).endswith("task=pump\nbuiltins.ValueError\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("calm", "shown"), [(False, ["stopped", "refused"]), (True, ["refused"])])
def test_text_for_people_at_a_terminal(calm: bool, shown: list[str]) -> None:
    terminal = Terminal()
    log.configure(None, None, terminal, calm=calm)
    log.event(log.logger("test"), logging.INFO, "stopped")
    log.event(log.logger("test"), logging.WARNING, "refused")
    assert [line.split()[2] for line in terminal.getvalue().splitlines()] == shown


@pytest.mark.parametrize("calm", [False, True])
def test_json_for_what_is_piped(calm: bool) -> None:
    pipe = io.StringIO()
    log.configure(None, None, pipe, calm=calm)
    log.event(log.logger("test"), logging.INFO, "stopped")
    assert json.loads(pipe.getvalue())["event"] == "stopped"


def test_what_the_file_says_goes_before() -> None:
    terminal = Terminal()
    log.configure("debug", "json", terminal, calm=True)
    log.event(log.logger("test"), logging.DEBUG, "met")
    assert json.loads(terminal.getvalue())["event"] == "met"


@pytest.mark.parametrize("format", ["text", "json"])
def test_what_libraries_warn_of_is_an_event_without_what_they_quote(format: str) -> None:
    stream = io.StringIO()
    log.configure("info", "text", io.StringIO())
    log.configure("info", format, stream)
    library = logging.getLogger("asyncio")
    library.warning("Unknown child process pid %s\nfuture: %s", SECRET, SECRET)
    library.error(f"Task exception was never retrieved\n{SECRET}", exc_info=raised(look_up))
    library.warning("x" * 1000)
    library.info("not this")
    text = stream.getvalue()
    assert SECRET not in text
    assert len(text) < 2000
    if format == "json":
        told = [json.loads(line) for line in text.splitlines()]
        assert [(entry["event"], entry["logger"], entry["level"]) for entry in told] == [
            ("library_message", "asyncio", level) for level in ("warning", "error", "warning")
        ]
        assert [entry["message"][:30] for entry in told] == [
            "Unknown child process pid %s", "Task exception was never retri", "x" * 30
        ]  # fmt: skip
        assert told[1]["exception"].endswith("builtins.KeyError")
    else:
        assert 'error   library_message message="Task exception was never retrieved"\n' in text


STRANGE = "a\x1b[2J\r\n\x7f\u202eb\u2066\u2028\u0085é\U000e0041"


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("value", [STRANGE, [STRANGE], {STRANGE: STRANGE}, "a\ud800"])
def test_nothing_that_a_terminal_obeys(format: str, value: object) -> None:
    """Escape sequences, line breaks, and marks that turn text around."""
    stream = io.StringIO()
    log.configure("info", format, stream)
    log.event(log.logger("test"), logging.INFO, "rejected", {"params": value})
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    if format == "json":
        assert json.loads(text)["params"] == value
