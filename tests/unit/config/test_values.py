from __future__ import annotations

import pytest

from mcp_extproc.config.values import MAX_SIZE, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), (7, 7), (0.5, 0.5)],
)
def test_duration(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds
    assert isinstance(parse_duration(value), float)


@pytest.mark.parametrize("value", ["", "30", "30 s", "s", "-5s", "1h 30m", "5w", "1e3s", None, True, [], {}, "30sx"])
def test_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 250ms, 30s or 5m"):
        parse_duration(value)


@pytest.mark.parametrize("value", [0, -1, "0s", "3650d", 10**400, float("inf"), float("nan"), "9" * 400 + "d"])
def test_duration_out_of_range(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration greater than zero and less than ten years"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [("1", 1), (1, 1), ("64KiB", 65536), ("4MiB", 4 << 20), ("4 MiB", 4 << 20), ("1GiB", MAX_SIZE), ("7B", 7)],
)
def test_size(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["", "4MB", "4mib", "1.5MiB", "-1", None, True, 1.5, [], "9" * 5000])
def test_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 65536, 64KiB or 4MiB"):
        parse_size(value)


@pytest.mark.parametrize("value", [0, -1, "0MiB", MAX_SIZE + 1, "2GiB", 10**400])
def test_size_out_of_range(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size from 1B to 1GiB"):
        parse_size(value)
