"""What Envoy's RBAC filters certainly say of a call, judged here so that lists do not offer what they refuse.

There are three answers: yes, no, and that it can't be told, which is all that depends on more than what the gateway writes
about a call and what is proven of its caller.

Source: Envoy's api-v3/config/rbac/v3/rbac.proto, type/matcher/v3/{metadata,value,string}.proto, and its source
(source/extensions/filters/common/rbac, source/common/common/matchers.cc).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from mcp_extproc.config.patterns import matcher

Told = bool | None
"""Yes, no, or ``None`` where it can't be told."""

Metadata = Mapping[str, Mapping[str, Any]]
"""By namespace."""

UNTOLD: Final = object()
"""Stands for a value in metadata that is not known."""

ABSENT: Final = object()
"""Stands for what is known not to be there."""


class Call(NamedTuple):
    """What a filter sees of a call, as far as it is known. All else can't be told."""

    metadata: Metadata
    """Keys of namespaces that are not here can't be told; below them, what is not here is not there."""
    headers: Mapping[str, str] = {}
    """By lower-case name."""
    of_caller: Sequence[Told] = ()
    """What :attr:`Reader.about_callers` say."""


Test = Callable[[Call], Told]


class Filter(NamedTuple):
    """A filter, as far as it is understood."""

    denies: Test
    """Whether it denies a call."""
    policies: tuple[tuple[str, Test], ...] = ()
    """Where what a policy matches is denied: by name, whether it matches, in the order in which Envoy tries them."""

    def policy(self, call: Call) -> str:
        """The name of the policy that denies a call, as Envoy says it: ``none`` where it is denied as no policy allows it."""
        return next((name for name, matches in self.policies if matches(call)), "none")


class Reader:
    """Reads what operators wrote, in either spelling of protobuf's JSON. What is not understood can't be told.

    Args:
        facts: namespaces in which the gateway says what a call is.
        about_caller: keys in them that say who calls. So does all that is in other namespaces.
    """

    def __init__(self, facts: Collection[str], about_caller: Collection[str]) -> None:
        self._facts = facts
        self._about_caller = about_caller
        self._only_facts = False
        self.about_callers: list[Test] = []
        """What is asked about callers alone. Callers for whom these say the same are of one kind."""

    def filter(self, config: object, *, only_facts: bool) -> Filter:
        """A filter.

        Args:
            config: an ``RBAC``.
            only_facts: whether filters in front of it may have changed all but the facts.
        """
        self._only_facts = only_facts
        if not isinstance(config, Mapping) or _get(config, "matcher") is not None:
            return UNKNOWN
        rules = _get(config, "rules")
        if rules is None:
            return NO_FILTER
        policies = _get(rules, "policies") if isinstance(rules, Mapping) else None
        if not isinstance(rules, Mapping) or not isinstance(policies, Mapping | None):
            return UNKNOWN
        found = ((str(name), self._policy(policy)) for name, policy in (policies or {}).items())
        named = tuple(sorted(found, key=itemgetter(0)))
        matches = _any(test for _, test in named)
        match rules.get("action", "ALLOW"):
            case "ALLOW" | 0:
                return Filter(_not(matches))
            case "DENY" | 1:
                return Filter(matches, named)
            case "LOG" | 2:
                return NO_FILTER
        return UNKNOWN

    def per_route(self, config: Mapping[str, Any], *, only_facts: bool) -> Filter:
        """The same of what a route has instead.

        Args:
            config: an ``RBACPerRoute``. Without an ``RBAC`` in it there is no filter on the route.
            only_facts: see :meth:`filter`.
        """
        own = _get(config, "rbac")
        return NO_FILTER if own is None else self.filter(own, only_facts=only_facts)

    def _policy(self, policy: object) -> Test:
        if not isinstance(policy, Mapping) or _has_others(policy, _POLICY):
            return can_not_tell
        permissions, principals = (_elements(_get(policy, name)) for name in ("permissions", "principals"))
        parts = [_any(map(self._rule, permissions)), _any(map(self._rule, principals))]
        if any(_get(policy, name) is not None for name in _CONDITIONS):
            parts.append(can_not_tell)
        return _all(parts)

    def _rule(self, rule: object) -> Test:
        """A permission or a principal: they have different names for the same."""
        if not isinstance(rule, Mapping) or len(rule) != 1:
            return can_not_tell
        [(kind, value)] = rule.items()
        match _snake(str(kind)):
            case "any" if value is True:
                return _always
            case "and_rules" | "and_ids" if isinstance(value, Mapping):
                return _all(map(self._rule, _inner(value)))
            case "or_rules" | "or_ids" if isinstance(value, Mapping):
                return _any(map(self._rule, _inner(value)))
            case "not_rule" | "not_id":
                return _not(self._rule(value))
            case "metadata":
                return self._metadata(value)
            case "sourced_metadata" if isinstance(value, Mapping) and not _has_others(value, _SOURCED):
                is_dynamic = _get(value, "metadata_source") in (None, "DYNAMIC", 0)
                return self._metadata(_get(value, "metadata_matcher")) if is_dynamic else can_not_tell
            case "header" if not self._only_facts:
                return _header(value)
        return can_not_tell

    def _metadata(self, wanted: object) -> Test:
        if not isinstance(wanted, Mapping) or _has_others(wanted, ("filter", "path", "value", "invert")):
            return can_not_tell
        steps = _elements(wanted.get("path"))
        path = [wanted.get("filter"), *(step.get("key") if isinstance(step, Mapping) else None for step in steps)]
        inverted, is_as_asked = wanted.get("invert", False), _value(wanted.get("value"))
        if not all(isinstance(key, str) for key in path) or not isinstance(inverted, bool) or is_as_asked is None:
            return can_not_tell
        is_fact = path[0] in self._facts
        if self._only_facts and not is_fact:
            return can_not_tell

        def test(call: Call) -> Told:
            found = _at(call.metadata, path)
            return None if found is UNTOLD else is_as_asked(found) is not inverted

        if is_fact and path[1] not in self._about_caller:
            return test
        index = len(self.about_callers)
        self.about_callers.append(test)
        return lambda call: call.of_caller[index]


_CONDITIONS: Final = ("condition", "checked_condition", "cel_config")
_POLICY: Final = ("permissions", "principals", *_CONDITIONS)
_SOURCED: Final = ("metadata_matcher", "metadata_source")


def _elements(value: object) -> Sequence[object]:
    """Those of a list; of what is none, one that can't be told."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (None,)


def _inner(several: Mapping[str, Any]) -> Sequence[object]:
    """The rules or ids in a message that is nothing but a list of them."""
    return (None,) if _has_others(several, ("rules", "ids")) else _elements(several.get("rules", several.get("ids")))


# -- Three answers ----------------------------------------------------------------------------------------------------------


def _always(_: Call) -> Told:
    return True


def can_not_tell(_: Call) -> Told:
    """The test whose answer is not known."""
    return None


NO_FILTER: Final = Filter(lambda _: False)
UNKNOWN: Final = Filter(can_not_tell)
"""One of which nothing is understood."""


def _not(test: Test) -> Test:
    def negated(call: Call) -> Told:
        told = test(call)
        return None if told is None else not told

    return negated


def _any(tests: Iterable[Test]) -> Test:
    all_tests = tuple(tests)

    def one_of(call: Call) -> Told:
        found: Told = False
        for test in all_tests:
            told = test(call)
            if told:
                return True
            found = None if told is None else found
        return found

    return one_of


def _all(tests: Iterable[Test]) -> Test:
    return _not(_any(map(_not, tests)))


# -- Values ---------------------------------------------------------------------------------------------------------------

_IsAsAsked = Callable[[Any], bool]
"""Whether a value in metadata is."""


def _at(metadata: Metadata, path: Sequence[Any]) -> Any:
    """What is there, or :data:`ABSENT` or :data:`UNTOLD`."""
    namespace, key, *rest = path
    found = metadata.get(namespace, {}).get(key, UNTOLD)
    for key in rest:
        if found is UNTOLD or not isinstance(found, Mapping):
            return UNTOLD if found is UNTOLD else ABSENT
        found = found.get(key, ABSENT)
    return found


def _header(wanted: object) -> Test:
    if not isinstance(wanted, Mapping):
        return can_not_tell
    name, inverted = wanted.get("name"), _get(wanted, "invert_match") or False
    asked = {
        _snake(str(key)): value
        for key, value in wanted.items()
        if _snake(str(key)) not in ("name", "invert_match", "treat_missing_header_as_empty")
    }
    if not isinstance(name, str) or not isinstance(inverted, bool) or len(asked) > 1:
        return can_not_tell
    is_as_asked = _present if not asked else _header_value(*next(iter(asked.items())))
    if is_as_asked is None:
        return can_not_tell

    def test(call: Call) -> Told:
        # Those that are not here may be anything, or absent.
        value = call.headers.get(name.lower())
        return None if value is None else is_as_asked(value) is not inverted

    return test


def _present(_: str) -> bool:
    return True


def _header_value(kind: str, value: object) -> Callable[[str], bool] | None:
    match kind:
        case "present_match" if isinstance(value, bool):
            return lambda _: value
        case "string_match":
            return _text(value)
        case "exact_match" if value:  # the empty one is anything
            return _text({"exact": value})
        case "prefix_match" | "suffix_match" | "contains_match":
            return _text({kind.removesuffix("_match"): value})
        case "safe_regex_match":
            return _text({"safe_regex": value})
    return None


def _value(wanted: object) -> _IsAsAsked | None:
    if not isinstance(wanted, Mapping) or len(wanted) != 1:
        return None
    [(kind, value)] = wanted.items()
    match _snake(str(kind)):
        case "string_match":
            text = _text(value)
            return None if text is None else lambda found: isinstance(found, str) and text(found)
        case "bool_match" if isinstance(value, bool):
            return lambda found: isinstance(found, bool) and found is value
        case "null_match":
            return lambda found: found is None
        case "double_match":
            return _number(value)
        case "present_match" if value is True:
            return lambda found: found is not ABSENT
        case "list_match" if isinstance(value, Mapping) and set(map(_snake, value)) == {"one_of"}:
            one = _value(_get(value, "one_of"))
            return None if one is None else lambda found: isinstance(found, list | tuple) and _one_of(one, found)
        case "or_match" if isinstance(value, Mapping) and set(map(_snake, value)) == {"value_matchers"}:
            tests = [_value(one) for one in _elements(_get(value, "value_matchers"))]
            known = [test for test in tests if test is not None]
            return (lambda found: any(test(found) for test in known)) if len(known) == len(tests) else None
    return None


def _one_of(test: _IsAsAsked, found: Sequence[Any]) -> bool:
    return any(test(element) for element in found)


def _number(wanted: object) -> _IsAsAsked | None:
    if not isinstance(wanted, Mapping) or len(wanted) != 1:
        return None
    [(kind, value)] = wanted.items()
    if kind == "exact" and _is_number(value):
        return lambda found: _is_number(found) and found == value
    if kind == "range" and isinstance(value, Mapping) and not _has_others(value, ("start", "end")):
        start, end = value.get("start", 0), value.get("end", 0)
        if _is_number(start) and _is_number(end):
            return lambda found: _is_number(found) and start <= found < end
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(wanted: object) -> Callable[[str], bool] | None:
    if not isinstance(wanted, Mapping):
        return None
    ignores_case = _get(wanted, "ignore_case") or False
    asked = {_snake(str(key)): value for key, value in wanted.items() if _snake(str(key)) != "ignore_case"}
    if len(asked) != 1 or not isinstance(ignores_case, bool):
        return None
    [(kind, value)] = asked.items()
    if kind == "safe_regex":
        return _regex(value)
    if not isinstance(value, str) or kind not in _TESTS:
        return None
    test = _TESTS[kind]
    if not ignores_case:
        return lambda text: test(text, value)
    return lambda text: test(_lower(text), _lower(value))


_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}


def _lower(text: str) -> str:
    """In Envoy, only ASCII has cases."""
    return text.translate(_LOWER)


_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _regex(wanted: object) -> Callable[[str], bool] | None:
    if not isinstance(wanted, Mapping):
        return None
    pattern = wanted.get("regex")
    if not isinstance(pattern, str):
        return None
    try:
        # All of the text has to match, and the expression may begin with flags for itself.
        return matcher(rf"\A(?:{pattern})\z")
    except ValueError:
        return None


# -- What policies name ---------------------------------------------------------------------------------------------------


class AskedText(NamedTuple):
    """A text that a policy asks for in metadata."""

    place: tuple[str | int, ...]
    """Of the metadata matcher."""
    path: tuple[str, ...]
    """Of the value: the namespace, then the keys."""
    text: str
    """As it is written, for people: with an expression, that."""
    matches: Callable[[str], bool]


def texts_asked(config: object, place: Sequence[str | int] = ()) -> Iterator[AskedText]:
    """All texts that a filter asks for in metadata, whether they are to be there or not. What is not understood is left out.

    Args:
        config: an ``RBAC`` or ``RBACPerRoute``, or a part of one.
        place: of it.
    """
    if isinstance(config, Mapping):
        steps = [step.get("key") if isinstance(step, Mapping) else None for step in _elements(config.get("path"))]
        path = tuple(step for step in (config.get("filter"), *steps) if isinstance(step, str))
        if len(path) == 1 + len(steps):
            for text, matches in _texts_in(config.get("value")):
                yield AskedText(tuple(place), path, text, matches)
            return
        for key, value in config.items():
            yield from texts_asked(value, (*place, str(key)))
    elif isinstance(config, Sequence) and not isinstance(config, str):
        for index, value in enumerate(config):
            yield from texts_asked(value, (*place, index))


def _texts_in(wanted: object) -> Iterator[tuple[str, Callable[[str], bool]]]:
    """Of a ValueMatcher."""
    if not isinstance(wanted, Mapping):
        return
    if isinstance(several := _get(wanted, "or_match"), Mapping):
        for one in _elements(_get(several, "value_matchers")):
            yield from _texts_in(one)
    asked = _get(wanted, "string_match")
    matches = _text(asked)
    if matches is None:
        return
    for value in asked.values():
        text = value.get("regex") if isinstance(value, Mapping) else value
        if isinstance(text, str) and text:
            yield text, matches


# -- Protobuf's JSON ----------------------------------------------------------------------------------------------------------


def _snake(name: str) -> str:
    """A field's name in protobuf's own spelling.

    >>> _snake("andRules"), _snake("and_rules")
    ('and_rules', 'and_rules')
    """
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _get(message: Mapping[str, Any], name: str) -> Any:
    """A field in either spelling; ``None`` where it is not there."""
    found = message.get(name)
    return message.get(_camel(name)) if found is None else found


def _has_others(message: Mapping[str, Any], known: Sequence[str]) -> bool:
    return any(_snake(str(name)) not in known for name in message)
