"""The section `vetting`: what an entry may say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.gateway.support import config


def test_defaults_are_the_careful_ones() -> None:
    [entry] = config(vetting=[{}]).vetting
    assert (entry.timeout, entry.remember, entry.without_elicitation) == (120.0, "never", "refuse")
    assert config().vetting == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"servers": ["c"]}, "vetting[0].servers[0]: no server has this name"),
        ({"tools": []}, "expected at least one"),
        ({"annotations": {}}, "expected readOnlyHint"),
        ({"when": "request.mcp.params.("}, "not an expression of CEL"),
        ({"timeout": "2h"}, "less than or equal to 3600"),
        ({"timeout": 0}, "expected a duration greater than zero"),
        ({"remember": "always"}, "'never' or 'session'"),
        ({"without_elicitation": "allow"}, "'refuse' or 'pass'"),
        ({"prompts": ["x"]}, "Extra inputs"),
    ],
)
def test_what_an_entry_may_not_say(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        config(vetting=[entry])
    assert message in str(raised.value)
