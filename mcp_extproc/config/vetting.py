"""Calls that wait for the user's consent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mcp_extproc.config.authorization import Annotations, Selectors, checked_expression
from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError, unknown_server
from mcp_extproc.config.expressions import Condition, condition
from mcp_extproc.config.values import Seconds

MAX_ENTRIES: Final = 1000

MAX_SECONDS: Final = 3600.0
"""Longest wait for an answer."""


class Vetting(Model):
    """Calls of tools that the user is asked about before they run ([Vetting](vetting.md)). All given keys have to match; the
    first entry that does says how. An entry without `servers`, `tools`, `annotations` and `when` is about every call."""

    servers: Selectors = ()
    """Which servers, by their names in `servers`, written as `tools`. Default: all."""

    tools: Selectors = ()
    """Which tools, by the server's own names, as in a [rule](#authorizationrules). Default: all."""

    annotations: Annotations | None = None
    """Which tools, by what their server says about them. Such an entry trusts the server: see
    [Authorization](authorization.md#annotations)."""

    when: Annotated[str, AfterValidator(checked_expression)] | None = None
    """Condition in [CEL](https://cel.dev), judged last, as in a [rule](authorization.md#conditions). If it can't be told, the
    user is asked."""

    timeout: Annotated[Seconds, Field(le=MAX_SECONDS)] = 120.0
    """Longest wait for the user's answer. At most an hour."""

    remember: Literal["never", "session"] = "never"
    """Whether a consent holds for further calls of the same tool of the same server in the same session, whatever their
    arguments."""

    without_elicitation: Literal["refuse", "pass"] = "refuse"
    """What happens to calls of clients that can't ask their users (`elicitation`): they are refused, or run unasked."""

    @property
    def condition(self) -> Condition | None:
        """What :attr:`when` says."""
        return None if self.when is None else condition(self.when)


Entries = Annotated[tuple[Vetting, ...], Field(max_length=MAX_ENTRIES)]


def contradictions(entries: Entries, servers: Mapping[str, object]) -> Iterator[PlacedError]:
    """Contradictions to other sections.

    Args:
        entries: all of them.
        servers: by name.
    """
    for index, entry in enumerate(entries):
        for number, selector in enumerate(entry.servers):
            if selector.name is not None and selector.name not in servers:
                yield PlacedError((index, "servers", number), unknown_server(selector.name, servers))
