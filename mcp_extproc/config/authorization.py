"""What callers may see and do: rules over principals and items, the first that matches decides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from mcp_extproc.config.authentication import SCOPE
from mcp_extproc.config.base import Model
from mcp_extproc.config.config_error import PlacedError, unknown_server
from mcp_extproc.config.expressions import Condition, condition
from mcp_extproc.config.patterns import glob, matcher
from mcp_extproc.config.values import freeze

Action = Literal["allow", "deny"]

Kind = Literal["tools", "prompts", "resources"]
KINDS: Final[tuple[Kind, ...]] = ("tools", "prompts", "resources")
"""Of items."""

MAX_RULES: Final = 1000


@dataclass(frozen=True, slots=True)
class Selector:
    """Names: one exactly, or those that a glob or a regular expression matches."""

    how: Literal["exact", "glob", "regex"]
    text: str

    @property
    def name(self) -> str | None:
        """The one name that it selects; ``None`` where there may be more."""
        is_one = self.how == "exact" or (self.how == "glob" and "*" not in self.text)
        return self.text if is_one else None

    def matcher(self) -> Callable[[str], bool]:
        """A function that says whether a name is selected."""
        if self.name is not None:
            return self.name.__eq__
        return matcher(self.text) if self.how == "regex" else glob(self.text)


def selected_by(selectors: Collection[Selector] | None) -> Callable[[str], bool]:
    """A function that says whether a name is selected; ``None`` selects all."""
    if selectors is None:
        return lambda _: True
    names = frozenset(one.name for one in selectors if one.name is not None)
    patterns = [one.matcher() for one in selectors if one.name is None]
    if not patterns:
        return names.__contains__
    return lambda name: name in names or any(matches(name) for matches in patterns)


_SELECTOR_HINT = 'expected a name, in which * stands for any characters, or {regex: "^a"}, or {exact: "a"}'


def selector(value: object) -> Selector:
    """A selector as it is written.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, Selector):
        return value
    given = {"glob": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError(_SELECTOR_HINT)
    [(how, text)] = given.items()
    if how not in ("exact", "glob", "regex") or not isinstance(text, str) or not text:
        raise ValueError(_SELECTOR_HINT)
    if how == "regex":
        matcher(text)
    return Selector(how, text)


def _not_empty(value: object) -> object:
    # An empty list could mean "none" or "all".
    if value is None or (isinstance(value, list | tuple) and not value):
        raise ValueError("expected at least one, or leave the key out")
    return value


_TEXT: Final = {"type": "string", "minLength": 1}
SELECTOR_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "properties": dict.fromkeys(("exact", "glob", "regex"), _TEXT),
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]
}
Selectors = Annotated[
    tuple[
        Annotated[
            Selector,
            PlainValidator(selector),
            PlainSerializer(lambda one: {one.how: one.text}),
            WithJsonSchema(SELECTOR_SCHEMA),
        ],
        ...,
    ],
    BeforeValidator(_not_empty),
]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_not_empty)]

Scalar = str | int | float | bool
"""A value of a claim."""


def _claim(value: object) -> tuple[Scalar, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(one, Scalar) for one in values):
        raise ValueError("expected a text, a number, true or false, or a list of these")
    return tuple(values)


ClaimValues = Annotated[
    tuple[Scalar, ...],
    PlainValidator(_claim),
    WithJsonSchema({"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array", "minItems": 1}]}),
]


class Excluded(Model):
    """Callers that a rule does not concern. All given keys have to match."""

    subjects: Names = ()
    """Who it is, one of these: what `principal_claim` says, the name of an API key, or what a certificate or a service
    says."""

    scopes: Names = ()
    """Scopes, all of which the caller has to have."""

    claims: Mapping[str, ClaimValues] = Field(default_factory=dict)
    """Claims of the caller's token, each with a value or a list of values. A claim has to have one of them; if it is a list,
    one of its elements has to be among them. Dots lead into objects, such as `realm_access.roles`."""

    groups: Names = ()
    """Groups, one of which the caller has to be in."""

    authenticated: bool | None = None
    """Whether the caller is authenticated (`true`) or anonymous (`false`)."""

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(SCOPE.fullmatch(scope) for scope in value):
            raise ValueError("expected scopes: visible ASCII characters without quotes, backslashes and spaces")
        return value

    @field_validator("claims")
    @classmethod
    def _claims(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value or "" in value:
            raise ValueError("expected names of claims, each with its values")
        if {"scope", "scp"} & value.keys():
            raise ValueError("scope and scp are lists of scopes: use scopes")
        return freeze(value)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.model_fields_set or (self.model_fields_set == {"authenticated"} and self.authenticated is None):
            raise ValueError("it is empty: name who is meant, or leave it out for all callers")
        return self

    @property
    def is_about_somebody(self) -> bool:
        """Whether it asks more than whether the caller is authenticated."""
        return bool(self.subjects or self.scopes or self.claims or self.groups)


class Principals(Excluded):
    """Callers, as [authentication](authentication.md) proves them. All given keys have to match."""

    excluded: Excluded | None = Field(default=None, alias="not")
    """Callers that the rule does not concern. Default: nobody."""

    @property
    def is_about_somebody(self) -> bool:
        """Whether it asks more than whether the caller is authenticated."""
        return super().is_about_somebody or (self.excluded is not None and self.excluded.is_about_somebody)


class Annotations(Model):
    """What a tool's server says about it. What it does not say is as the specification has it: not read-only, destructive, not
    idempotent, open to the world. The same holds for an `untrusted` server, whatever it says. All given keys have to match."""

    readOnlyHint: bool | None = None  # noqa: N815 - MCP's spelling
    """Whether the tool changes nothing."""

    destructiveHint: bool | None = None  # noqa: N815
    """Whether it may destroy something."""

    idempotentHint: bool | None = None  # noqa: N815
    """Whether calling it again with the same arguments changes nothing more."""

    openWorldHint: bool | None = None  # noqa: N815
    """Whether it reaches beyond a closed domain."""

    @model_validator(mode="after")
    def _some(self) -> Annotations:
        if not self.asked:
            raise ValueError("expected readOnlyHint, destructiveHint, idempotentHint or openWorldHint, true or false")
        return self

    @property
    def asked(self) -> Mapping[str, bool]:
        """The given ones, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


def checked_expression(text: str) -> str:
    """An expression that can be used.

    Raises:
        ValueError: it can't be.
    """
    condition(text)
    return text


class Rule(Model):
    """A rule. All given keys have to match. One that names none of `tools`, `prompts` and `resources` concerns all three, one
    that names some concerns these."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    """Name of the rule, for people. Default: its number."""

    action: Action
    """What follows where it matches."""

    principals: Principals | None = None
    """Which callers. Default: all, anonymous ones included."""

    servers: Selectors = ()
    """Which servers, by their names in `servers`, written as `tools`. Default: all."""

    tools: Selectors = ()
    """Which tools, by the server's own names, without prefix: a name, in which `*` stands for any characters, also `/`; or
    `{regex: "^search_"}` ([RE2](https://github.com/google/re2/wiki/Syntax), as in Envoy), searched anywhere in the name unless
    anchored; or `{exact: "a*"}`, where `*` is itself."""

    prompts: Selectors = ()
    """Which prompts, by the server's own names, written as `tools`."""

    resources: Selectors = ()
    """Which resources, by the server's own URIs, written as `tools`. A template is selected by its own text, such as
    `file:///{path}`."""

    annotations: Annotations | None = None
    """Which tools, by what their server says about them. Such a rule concerns tools only. It trusts the server: see
    [Authorization](authorization.md#annotations)."""

    when: Annotated[str, AfterValidator(checked_expression)] | None = None
    """Condition in [CEL](https://cel.dev), judged last, where all else matches. If it is false, the next rule is tried; if it
    can't be told, the answer is no, whatever `action` says. It may name `request.method`, `.headers`, `.auth.jwt.claims`,
    `.auth.jwt.scopes`, `.mcp.method`, `.mcp.backend`, `.mcp.tool` and `.mcp.params`. See
    [Conditions](authorization.md#conditions)."""

    @model_validator(mode="after")
    def _complete(self) -> Rule:
        if self.annotations is not None and (self.prompts or self.resources):
            raise PlacedError(("annotations",), "only tools have annotations: leave prompts and resources out")
        return self

    @property
    def condition(self) -> Condition | None:
        """What :attr:`when` says."""
        return None if self.when is None else condition(self.when)

    def selectors(self, kind: Kind) -> tuple[Selector, ...] | None:
        """Which items of a kind it concerns: ``None`` for all, nothing for none."""
        named: Mapping[Kind, tuple[Selector, ...]] = {
            "tools": self.tools, "prompts": self.prompts, "resources": self.resources
        }  # fmt: skip
        concerned = {name for name in KINDS if named[name]} or set(KINDS)
        if self.annotations is not None:
            concerned &= {"tools"}
        return () if kind not in concerned else named[kind] or None


class Authorization(Model):
    """What callers may see and do. The same rules decide what is in lists and what may be called, read, got, completed and
    subscribed to. What may not be seen is unknown. Without this section everybody may use everything."""

    default: Action = "deny"
    """What holds where no rule matches."""

    step_up: bool = False
    """Whether an authenticated caller is shown what it could use with more scopes. Its use gets HTTP 403 with
    `error="insufficient_scope"` and the scopes. Otherwise that is hidden, too."""

    rules: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES)
    """The first rule that matches decides."""

    lists: Literal["follow_policies", "rules_only"] = "follow_policies"
    """Whether lists also leave out what an RBAC filter in `envoy.http_filters` certainly denies the caller
    ([what that is](authorization.md#policies-that-lists-follow)). So they do without this section."""

    @model_validator(mode="after")
    def _distinct(self) -> Authorization:
        names: set[str] = set()
        for index, rule in enumerate(self.rules):
            if rule.name in names:
                raise PlacedError(("rules", index, "name"), "another rule has the same name: choose another one")
            names |= set() if rule.name is None else {rule.name}
        return self

    def problems(
        self, servers: Mapping[str, object], *, identified: bool, elsewhere: Container[str] = ()
    ) -> Iterator[PlacedError]:
        """Contradictions to other sections.

        Args:
            servers: by name.
            elsewhere: names of servers that other endpoints have.
            identified: whether anybody proves who a caller is.
        """
        for index, rule in enumerate(self.rules):
            for number, selector in enumerate(rule.servers):
                if selector.name is not None and selector.name not in servers:
                    is_there = selector.name in elsewhere
                    yield PlacedError(
                        ("rules", index, "servers", number),
                        "nothing of this server is offered here: name it in the virtual server's `servers`, or leave it out"
                        if is_there
                        else unknown_server(selector.name, servers),
                    )
            if rule.principals is not None and rule.principals.is_about_somebody and not identified:
                yield PlacedError(
                    ("rules", index, "principals"), "needs authentication: nobody knows who calls; see `authentication`"
                )
