"""Several lists made one: the same outcomes give the same bytes, and entries stay as their servers wrote them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway import merge
from mcp_extproc.gateway.facts import Note
from mcp_extproc.gateway.legs import Done, Failed, Listed, Outcome
from mcp_extproc.mcp import envelope
from mcp_extproc.mcp.methods import Entry
from mcp_extproc.mcp.names import is_plain
from mcp_extproc.slices import whole
from tests.unit.mcp.strategies import join_members, json_texts, other_members, spelled, tool_names

FAILED = Failed("c", "connect", "is unreachable")


def listed(server: str, *entries: str | dict[str, Any], truncated: str | None = None) -> Listed:
    texts = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    return Listed(server, [msgspec.Raw(text.encode()) for text in texts], truncated)


def named(outcomes: Sequence[Outcome], limit: int = 1000) -> tuple[list[str], list[Note]]:
    """Merged entries as texts, under `<server>__<name>`; names that start with a minus sign are hidden."""
    merged, notes = whole(
        merge.entries(outcomes, Entry.NAME, lambda s, n: None if n[0] == "-" else f"{s}__{n}", as_it_is, limit)
    )
    return [orjson.dumps(entry).decode() for entry in merged], notes


def as_it_is(_: str, entry: bytes) -> bytes:
    return entry


def names(outcomes: Sequence[Outcome], limit: int = 1000) -> list[str]:
    return [json.loads(text)["name"] for text in named(outcomes, limit)[0]]


def test_entries_come_in_the_order_of_the_servers_and_of_their_lists() -> None:
    first, second = listed("b", {"name": "z"}, {"name": "a"}), listed("a", {"name": "y"})
    outcomes: list[Outcome] = [first, FAILED, second, Done("d"), listed("e")]
    assert names(outcomes) == ["b__z", "b__a", "a__y"]


others = other_members(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), {"name"}, 3)
plain_names = tool_names.filter(lambda name: name[0] != "-" and is_plain(name))


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, str, str]:
    """A definition around its name: what stands before, the name, what stands after."""
    mark = "\N{CIRCLED DIGIT ONE}the name goes here\N{CIRCLED DIGIT ONE}"
    members = [
        *draw(others),
        (draw(spelled("name")), mark),
    ]
    before, after = join_members(draw, draw(st.permutations(members))).split(mark)
    return before, draw(plain_names), after


@given(st.lists(entries(), max_size=4, unique_by=lambda entry: entry[1]), st.data())
def test_definitions_stay_verbatim_but_for_the_name(
    definitions: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    texts = [before + data.draw(spelled(name)) + after for before, name, after in definitions]
    merged, notes = named([listed("s", *texts)])
    assert merged == [before + orjson.dumps("s__" + name).decode() + after for before, name, after in definitions]
    assert notes == []


def test_an_unchanged_name_leaves_every_byte() -> None:
    text = '{ "n\\u0061me" : "\\u0061" , "x": 1.50 }'
    merged, _ = whole(merge.entries([listed("s", text)], Entry.NAME, lambda _, name: name, as_it_is, 10))
    assert orjson.dumps(merged[0]).decode() == text


outcomes_of_legs = st.lists(
    st.one_of(
        st.builds(
            lambda server, items: Listed(server, [msgspec.Raw(text.encode()) for text in items]),
            st.sampled_from("abc"),
            st.lists(
                st.one_of(json_texts, st.sampled_from(['{"name":"x"}', '{"name":"y","a":1}', '{"name":"-"}'])),
                max_size=4,
            ),
        ),
        st.just(FAILED),
    ),
    max_size=4,
)


@given(outcomes_of_legs, st.integers(0, 6))
def test_any_outcomes_give_the_same_bytes_twice_and_each_name_once(outcomes: list[Outcome], limit: int) -> None:
    merged, notes = named(outcomes, limit)
    assert (merged, notes) == named(outcomes, limit)
    assert len(merged) <= limit
    found = [json.loads(text)["name"] for text in merged]
    assert len(found) == len(set(found))


def test_what_is_hidden_is_left_out_without_a_word() -> None:
    merged, notes = named([listed("a", {"name": "-x"}, {"name": "y"})])
    assert [json.loads(text)["name"] for text in merged] == ["a__y"]
    assert notes == []


@pytest.mark.parametrize(
    "entry", ["{}", '{"name":5}', '{"name":null}', '{"name":""}', "[]", '"x"', "1", "null", '{"Name":"x"}']
)
def test_entries_without_a_name_are_left_out_and_noted(entry: str) -> None:
    merged, notes = named([listed("a", entry, {"name": "x"})])
    assert [json.loads(text)["name"] for text in merged] == ["a__x"]
    assert notes == [Note("entry_without_name", {"server": "a", "entries": 1})]


@given(st.lists(st.lists(st.sampled_from(["1", '{"name":"x"}', "{}", '{"name":"long%s"}' % ("g" * 5000)])), max_size=3))
def test_what_the_log_gets_does_not_grow_with_what_servers_send(lists: list[list[str]]) -> None:
    """A list of three million numbers would block the worker for minutes with a line for each."""
    outcomes = [listed(f"s{number % 2}", *texts * 5) for number, texts in enumerate(lists)]
    merged, notes = named(outcomes)
    keys = [(note.event, note.fields["server"]) for note in notes]
    assert len(keys) == len(set(keys))
    assert all(len(str(value)) <= 128 for note in notes for value in note.fields.values())
    told = sum(note.fields["entries"] for note in notes if isinstance(note.fields["entries"], int))
    assert len(merged) + told == sum(len(outcome.items) for outcome in outcomes)


@pytest.mark.parametrize("entry", list(Entry))
def test_entries_that_two_readers_take_for_different_ones_are_left_out_and_noted(entry: Entry) -> None:
    texts = [json.dumps({entry.value: name}) for name in ("x ", "\ty", "z\u200b", "plain one")]
    merged, notes = whole(merge.entries([listed("a", *texts)], entry, lambda _, name: name, as_it_is, 10))
    assert [json.loads(orjson.dumps(one))[entry.value] for one in merged] == ["plain one"]
    assert notes == [Note("name_not_served", {"server": "a", "entries": 3})]


def test_of_two_with_one_name_the_first_counts() -> None:
    merged, notes = named(
        [listed("a", {"name": "x", "n": 1}, {"name": "x", "n": 2}), listed("a", {"name": "x", "n": 3})]
    )
    assert [json.loads(text)["n"] for text in merged] == [1]
    assert notes == [Note("name_conflict", {"server": "a", "entries": 2, "visible_name": "a__x"})]


@pytest.mark.parametrize(("limit", "expected", "cut"), [(3, 3, False), (2, 2, True), (0, 0, True), (9, 3, False)])
def test_the_list_is_cut_at_its_limit(limit: int, expected: int, cut: bool) -> None:
    merged, notes = named(
        [listed("a", {"name": "x"}, {"name": "-y"}), listed("b", {"name": "x"}, {"name": "y"})], limit
    )
    assert len(merged) == expected
    assert [note.event for note in notes] == (["list_too_long"] if cut else [])


def test_a_definition_with_a_doubled_member_keeps_the_meaning_we_read() -> None:
    merged, _ = named([listed("a", '{"name":"x","name":"y","n":1,"n":2}')])
    assert [json.loads(text) for text in merged] == [{"name": "a__y", "n": 2}]
    assert merged[0].count('"n":') == 1


# -- Other lists, and what else reads differently -------------------------------------------------------------------------


@pytest.mark.parametrize("entry", list(Entry))
def test_each_kind_of_list_is_known_by_its_own_member(entry: Entry) -> None:
    text = json.dumps({other.value: f"{other.name} x" for other in Entry})
    merged, notes = whole(merge.entries([listed("s", text)], entry, lambda s, n: f"{s}+{n}", as_it_is, 10))
    changed = {**json.loads(text), entry.value: f"s+{entry.name} x"}
    assert [json.loads(orjson.dumps(one)) for one in merged] == [changed]
    assert notes == []


def test_what_reads_differently_is_adapted_after_the_name_whether_that_changed_or_not() -> None:
    def adapt(server: str, entry: bytes) -> bytes:
        return entry.replace(b"here", server.encode())

    outcomes = [listed("a", '{"name":"x","at":"here"}'), listed("b", '{"name":"same","at":"here"}')]
    merged, _ = whole(merge.entries(outcomes, Entry.NAME, lambda s, n: n if n == "same" else f"{s}__{n}", adapt, 10))
    assert [orjson.dumps(one) for one in merged] == [b'{"name":"a__x","at":"a"}', b'{"name":"same","at":"b"}']


@pytest.mark.parametrize(
    ("execution", "shown"),
    [
        ({"taskSupport": "required"}, False),
        ({"taskSupport": "optional"}, True),
        ({"taskSupport": "forbidden"}, True),
        ({}, True),
        (None, True),
        ("required", True),
        ({"taskSupport": ["required"]}, True),
    ],
)
def test_tools_that_run_as_a_task_only_are_not_listed(execution: Any, shown: bool) -> None:
    """Tasks are not offered. In lists of other things the member means nothing."""
    entry = {"name": "x", "uri": "x", "execution": execution}
    assert names([listed("a", entry)]) == (["a__x"] if shown else [])
    merged, _ = whole(merge.entries([listed("a", entry)], Entry.URI, lambda s, n: n, as_it_is, 10))
    assert len(merged) == 1


# -- Who has what -----------------------------------------------------------------------------------------------------------


def test_owners_are_those_who_alone_list_something() -> None:
    outcomes: list[Outcome] = [
        listed("a", {"name": "x"}, {"name": "both"}, {"name": "x"}, {"name": "-hidden"}, "{}", "1"),
        FAILED,
        listed("b", {"name": "y"}, {"name": "both"}, {"uri": "z"}),
        Done("d"),
    ]
    owners = whole(merge.owners(outcomes, Entry.NAME, lambda server, name: not (server == "a" and name[0] == "-")))
    assert owners == {"x": "a", "y": "b"}
    assert whole(merge.owners(outcomes, Entry.URI, lambda server, name: True)) == {"z": "b"}


def test_what_a_server_hides_is_anothers() -> None:
    outcomes = [listed("a", {"name": "x"}), listed("b", {"name": "x"})]
    assert whole(merge.owners(outcomes, Entry.NAME, lambda server, name: server == "b")) == {"x": "b"}


# -- What is missing ------------------------------------------------------------------------------------------------------


def test_failures_are_failed_legs_and_cut_lists() -> None:
    assert merge.failures([listed("a"), FAILED, listed("b", truncated="has more than 2 pages"), Done("d")]) == [
        FAILED,
        Failed("b", "truncated", "has more than 2 pages"),
    ]


def test_what_is_missing_is_said_in_meta_and_in_one_clause() -> None:
    failed = [FAILED, Failed("b", "timeout", "did not answer within 10 s")]
    assert merge.summary(failed) == "server 'c' is unreachable; server 'b' did not answer within 10 s"
    assert merge.unavailable_meta(failed) == {
        "_meta": {
            "mcp-extproc/unavailable": [
                {"server": "c", "reason": "connect", "message": "is unreachable"},
                {"server": "b", "reason": "timeout", "message": "did not answer within 10 s"},
            ]
        }
    }
    assert merge.unavailable_meta([]) == {}


@pytest.mark.parametrize("id", [b"0", b'"0"', b"9007199254740993"])
def test_results_echo_the_id_as_it_was_read(id: bytes) -> None:
    """Digit for digit, with its type."""
    assert envelope.result(id, {}) == b'{"jsonrpc":"2.0","id":' + id + b',"result":{}}'


@given(outcomes_of_legs, outcomes_of_legs)
def test_a_digest_tells_apart_what_gives_other_entries(one: list[Outcome], other: list[Outcome]) -> None:
    """Where one entry ends and the next one begins, and whose they are, counts too."""
    read = [
        [(each.server, [bytes(raw) for raw in each.items]) for each in outcomes if isinstance(each, Listed)]
        for outcomes in (one, other)
    ]
    assert (whole(merge.digest(one)) == whole(merge.digest(other))) == (read[0] == read[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([listed("a", "1", "2")], [listed("a", "12")]),
        ([listed("a", "1", "23")], [listed("a", "12", "3")]),
        ([listed("a", "1"), listed("b")], [listed("a"), listed("b", "1")]),
        ([listed("a", "1")], [listed("b", "1")]),
        ([listed("a", "1"), listed("b", "2")], [listed("b", "2"), listed("a", "1")]),
        ([listed("a")], []),
    ],
)
def test_a_digest_is_of_entries_and_of_their_order_and_servers(one: list[Outcome], other: list[Outcome]) -> None:
    assert whole(merge.digest(one)) != whole(merge.digest(other))


def test_a_digest_of_much_is_made_in_slices() -> None:
    large = listed("a", *[f'"{"x" * 1_000_000}"'] * 20)
    assert sum(1 for _ in merge.digest([large])) >= 3


def test_others_may_run_before_each_entry() -> None:
    """Rules may need long for each."""
    judged: list[str] = []

    def may_see(_server: str, name: str, _entry: object) -> bool:
        judged.append(name)
        return True

    lists = [listed("a", *({"name": f"t{number}"} for number in range(20)))]
    for work in (
        merge.entries(lists, Entry.NAME, lambda _, name: name, as_it_is, 100, may_see),
        merge.owners(lists, Entry.NAME, lambda _, __: True, may_see),
    ):
        judged.clear()
        done = [len(judged) for _ in work]
        assert done == list(range(20))
