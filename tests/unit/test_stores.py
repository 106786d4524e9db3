"""Whatever a worker holds in memory belongs to one principal, or is the same for everybody.

Two of them do the same at one worker. What is kept for one is kept under a key that the other can't have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import mcp_extproc
from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.contract import READS_ALL, READS_KEY
from mcp_extproc.extproc import forwarding
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.gateway import headers
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.effects import SpendConsent
from mcp_extproc.gateway.legs import Listed
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.gateway.relay import awaited
from mcp_extproc.gateway.relay.awaited import ID_KEY
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.gateway.tokens import Granted, subject_of
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import EVERYTHING, NOW, Rig, config, message, opened, upstream

PACKAGE = Path(mcp_extproc.__file__).parent

HELD = {
    "gateway/handshake.py HandshakeCallers._callers": "its session",
    "gateway/memory.py SessionMemory._begun": "its session",
    "gateway/memory.py SessionMemory._consents": "its session",
    "gateway/memory.py SessionMemory._ended": "its session",
    "gateway/memory.py SessionMemory._ended_at": "its session with a server",
    "gateway/memory.py SessionMemory._late": "its session with a server",
    "gateway/memory.py SessionMemory._levels": "its session",
    "gateway/memory.py SessionMemory._listed": "its session",
    "gateway/memory.py SessionMemory._owners": "its session",
    "gateway/memory.py SessionMemory._running": "its session",
    "gateway/memory.py SessionMemory._settings": "its session with a server",
    "gateway/memory.py SessionMemory._spent": "its session",
    "gateway/merged_lists.py MergedLists._last": "its session",
    "gateway/merged_lists.py MergedLists._lists": "content",
    "gateway/plans.py Plans": "its session",
    "gateway/relay/awaited.py Readers._kinds": "sealed",
    "gateway/tokens.py Tokens._granted": "its principal",
    "mcp/sessions.py Sealer._recent": "sealed",
}
"""Stores of the decisions, and what their keys have in them: something that only one principal can name, or all of what is
kept (``content``: whoever finds it has it already)."""

BESIDES = {
    "bounded.py Alike._texts": "by all of the text that is kept",
    "bounded.py Bounded._sizes": "a part of each store",
    "bounded.py Bounded._values": "a part of each store",
    "extproc/detail.py Details._known": "by what Envoy's configuration reads",
    "extproc/http2/connection.py Connection._known_blocks": "by all of the bytes that are read",
    "extproc/identity.py Identification._known": "by all of the bytes that are read",
    "extproc/identity.py Identification._known_tokens": "by all of the text that is read",
    "extproc/identity.py Identification._methods": "by the configuration",
    "extproc/forwarding.py _known": "by the plan, which is a caller's",
    "extproc/forwarding.py _known_responses": "by the plan, which is a caller's",
    "extproc/recorder.py Recorder._listed": "names that servers list, for records alone",
    "extproc/recorder.py Recorder._prefixes": "by the facts of a plan, which is a caller's",
    "extproc/shared.py Shared.known_heads": "by all of the bytes that are read, and the principal",
    "extproc/shared.py Shared.known_responses": "by all of the bytes that are read",
    "gateway/authorization/rules.py Resolved.kinds": "by all that rules ask of a caller",
    "gateway/authorization/rules.py Resolved.principals": "by the principal itself",
    "gateway/authorization/rules.py Resolved.verdicts": "by what rules leave to the caller, and the item",
    "gateway/headers.py _removed": "by the names of headers",
    "gateway/policy/followed.py Resolved.kinds": "by all that policies ask of a caller",
    "gateway/policy/followed.py Resolved.principals": "by the principal itself",
    "gateway/policy/followed.py Resolved.verdicts": "by what policies say to the caller, and the item",
    "gateway/tokens.py Tokens._refused": "by server",
    "held.py HeldBytes._by_holder": "counts by principal, or else by session",
    "mcp/jsontext.py _Tree": "members of messages, as the table of methods has them",
    "telemetry/counters.py Counters._counts": "counts, by server and reason",
    "telemetry/accumulator.py Accumulator._counts": "counts, by server and reason",
    "telemetry/accumulator.py Accumulator._durations": "sums, by server and reason",
    "upstreams/answers.py Answers._queues": "by the session with a server",
    "upstreams/answers.py Answers._slots": "by server",
    "upstreams/fan_out.py LegRunner._opening": "by the session with a server",
    "upstreams/fan_out.py LegRunner._sizes": "numbers, by server",
    "upstreams/fan_out.py LegRunner._watched": "by the session with a server",
    "upstreams/get_streams.py Streams._merged": "by session",
    "upstreams/open_streams.py OpenStreams._principals": "counts by principal",
    "upstreams/open_streams.py OpenStreams._sessions": "by session",
    "upstreams/secret_files.py SecretFiles._read": "by server",
    "upstreams/secret_files.py SecretFiles._seen": "by server",
    "upstreams/token_exchange.py Exchanges._failed": "by the principal and what its token says, and the server",
    "upstreams/token_exchange.py Exchanges._running": "by the principal and what its token says, and the server",
    "upstreams/vetted_calls.py VettedCalls._of_session": "counts by session",
    "upstreams/vetted_calls.py VettedCalls._waiting": "by question, whose id is sealed for its session",
}
"""The other stores of a worker, and how they keep callers apart (tests/e2e/test_principals.py tries it)."""

OF_ONE = {
    "gateway/authorization/judging.py",  # one list
    "extproc/http2/connection.py",  # a connection of Envoy's
    "extproc/http2/transport.py",
    "extproc/identity.py _Claims._found",
    "extproc/identity.py _Verified._found",
    "gateway/handshake.py HandshakeCaller._refs",
    "gateway/merge.py",  # one list
    "telemetry/collector/",  # of its process, which answers nobody
    "telemetry/records/line_reader.py",  # the same
    "telemetry/seen.py",
    "telemetry/totals.py",
    "held.py HeldBytes._waiting",
    "upstreams/answers.py _Queue",
    "upstreams/listener.py",
    "upstreams/merged_stream.py",  # one client's stream
    "upstreams/turns.py",
}
"""What is made for one request, stream or connection, or only waits for its turn."""

_KINDS = {"Bounded", "Counter", "OrderedDict", "defaultdict", "deque", "dict"}


def stores(path: Path) -> Iterator[str]:
    """Attributes and names of a module that hold many things by a key."""
    where = path.relative_to(PACKAGE).as_posix()
    tree = ast.parse(path.read_text())
    owners: list[ast.Module | ast.ClassDef] = [tree, *(one for one in ast.walk(tree) if isinstance(one, ast.ClassDef))]
    for owner in owners:
        name = owner.name if isinstance(owner, ast.ClassDef) else ""
        if isinstance(owner, ast.ClassDef) and any(_kind(base) in _KINDS for base in owner.bases):
            yield f"{where} {name}"
        for node in ast.walk(owner) if name else owner.body:
            if isinstance(node, ast.AnnAssign) and _kind(node.annotation) in _KINDS:
                target = node.target
                if isinstance(target, ast.Attribute):
                    yield f"{where} {name}.{target.attr}"
                elif not name and isinstance(target, ast.Name):
                    yield f"{where} {target.id}"


def _kind(node: ast.expr) -> str:
    base = node.value if isinstance(node, ast.Subscript) else node
    return base.id if isinstance(base, ast.Name) else ""


def test_every_store_is_known() -> None:
    """One that is new has to say how it keeps principals apart."""
    folders = ("extproc", "gateway", "mcp", "telemetry", "upstreams")
    modules = [*PACKAGE.glob("*.py"), *(path for folder in folders for path in (PACKAGE / folder).rglob("*.py"))]
    found = {store for path in modules for store in stores(path)}
    named = {
        store for store in found
        if not any(store.startswith(part) for part in OF_ONE) or store in BESIDES
    }  # fmt: skip
    assert named == {*HELD, *BESIDES}


# -- What two of them leave behind ----------------------------------------------------------------------------------------


@dataclass
class Person:
    """A principal with a session at an endpoint, who does all there is to do."""

    rig: Rig
    principal: Principal
    endpoint: str = ""
    own: set[str] = field(default_factory=set)
    """What only its keys may have in them."""

    def __post_init__(self) -> None:
        name = self.name
        self.upstreams = {server: _all(server, f"{name} at {server}") for server in self.rig.config.servers}
        audience = self.endpoint or self.rig.config.listen.path
        state = self.rig.state(principal=self.principal.key, upstreams=self.upstreams, audience=audience)
        self.token, self.session = self.rig.sealer.seal(state)
        self.own = {self.token, self.session, *(f"{name} at {server}" for server in self.upstreams)}

    def head(self, method: str = "POST", **headers: str) -> RequestHead:
        head = self.rig.head(method, mcp_session_id=self.token, **headers)
        return replace(head, principal=self.principal, endpoint=self.endpoint)

    @property
    def name(self) -> str:
        return " in ".join(filter(None, (self.principal.subject or "anonymous", self.endpoint)))

    def does_everything(self) -> None:
        rig, memory = self.rig, self.rig.memory
        initialize = message("initialize", {"protocolVersion": "2025-11-25"})
        name = self.name
        begun = rig.fan_out(initialize, replace(self.head(), headers={**self._without_session()}))
        reply = begun.merge([replace(opened(server), session=self.upstreams[server]) for server in "ab"], NOW)
        rig.carry_out(reply)
        self.own |= {effect.caller for effect in reply.effects if hasattr(effect, "caller")}
        bare = rig.fan_out(message("tools/call", {"name": "y"}), self.head())
        rig.carry_out(
            bare.merge([Listed(server, [msgspec.Raw(b'{"name":"y"}')] * (server == "a")) for server in "ab"], NOW)
        )
        lists = rig.fan_out(message("tools/list"), self.head())
        rig.carry_out(lists.merge([Listed(server, [msgspec.Raw(b'{"name":"x"}')]) for server in "ab"], NOW))
        rig.fan_out(message("logging/setLevel", {"level": "info"}), self.head())
        rig.forward(message("resources/subscribe", {"uri": f"a+x:{name}"}), self.head())
        memory.replace("b", f"{name} at b", _all("b", f"{name} later"))
        self.own.add(f"{name} later")
        call = message("tools/call", {"name": "a__x", "_meta": {"progressToken": "p"}})
        forward = rig.forward(call, self.head())
        assert forward.progress is not None
        memory.started(*forward.progress, NOW + 60)
        memory.remember_consent(self.session, "a", "x")
        memory.apply(SpendConsent(self.session, b"question"))
        assert forward.response is not None
        assert forward.response.id is not None
        rig.gateway.awaited({
            **awaited.told(forward.response),
            READS_KEY: READS_ALL,
            ID_KEY: forward.response.id.decode(),
            **awaited.told_besides(forward.response, (), context_of(self.head())),
        })  # fmt: skip
        if (subject := subject_of(self.head(authorization="Bearer verified"))) is not None:
            rig.gateway.tokens.keep(subject, "a", Granted((("authorization", f"Bearer {name}"),), NOW, NOW + 60))

    def ends(self) -> None:
        decision = self.rig.gateway.admit(self.head("DELETE"), NOW)
        self.rig.carry_out(decision)  # type: ignore[arg-type]

    def _without_session(self) -> dict[str, str]:
        return {name: value for name, value in self.head().headers.items() if name != "mcp-session-id"}


def _all(server: str, id: str) -> UpstreamSession:
    return upstream(server, capabilities=EVERYTHING, id=id)


def bounded(thing: Any, owner: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Bounded[Any, Any]]]:
    """All stores that can be reached from an object, by the class and name of what holds them."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Bounded):
        yield owner if type(thing) is Bounded else type(thing).__name__, thing
        return
    if not type(thing).__module__.startswith("mcp_extproc") or isinstance(thing, type):
        return
    names = {*getattr(thing, "__dict__", {}), *(slot for kind in type(thing).__mro__ for slot in _slots(kind))}
    for name in sorted(names):
        if hasattr(thing, name):
            yield from bounded(getattr(thing, name), f"{type(thing).__name__}.{name}", seen)


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def held(gateway: Gateway) -> dict[str, Bounded[Any, Any]]:
    found = dict(bounded(gateway))
    names = {entry.rpartition(" ")[2]: entry for entry in HELD}
    assert found.keys() == names.keys()
    return {names[name]: store for name, store in found.items()}


ALICE, BOB, BOBS_KEY = (Principal(proven, issuer, name) for proven, issuer, name in (
    ("token", "https://idp.example", "alice"), ("token", "https://idp.example", "bob"), ("key", "", "bob"),
))  # fmt: skip


RULED = config(
    bare_names=True,
    authorization={"default": "allow"},
    virtual_servers={"v": {"servers": {"a": "all", "b": "all"}}},
)
"""With rules, which everybody may be another kind of caller for."""


@pytest.mark.parametrize(
    ("other", "endpoint"), [(BOB, ""), (ANONYMOUS, ""), (ALICE, "v")], ids=["bob", "anonymous", "elsewhere"]
)
def test_what_is_kept_for_one_is_kept_under_what_only_it_can_name(other: Principal, endpoint: str) -> None:
    rig = Rig(RULED)
    one, two = Person(rig, ALICE), Person(rig, other, endpoint)
    assert not one.own & two.own
    kept: dict[str, list[set[Any]]] = {name: [] for name in HELD}
    for person in (one, two):
        before = {name: set(store) for name, store in held(rig.gateway).items()}
        person.does_everything()
        if person is two:
            person.ends()
            one.ends()
        for name, store in held(rig.gateway).items():
            kept[name].append(set(store) - before[name])
    for name, how in HELD.items():
        keys = set().union(*kept[name])
        if how == "content":
            continue  # who finds it would make the same
        assert keys, f"nothing is kept in {name}: the test leaves it out"
        if how == "its principal":
            assert one.principal == two.principal or not kept[name][0] & kept[name][1], name
            continue
        if how == "sealed":
            assert not kept[name][0] & kept[name][1], name
            continue
        for key in keys:
            owners = [person for person in (one, two) if any(_names(key, own) for own in person.own)]
            assert len(owners) == 1, (name, key)


def _names(key: object, own: str) -> bool:
    if isinstance(key, tuple):
        return any(_names(part, own) for part in key)
    return key in (own, f"token {own}")


def test_a_list_of_another_one_is_not_looked_up() -> None:
    """It would be the same text. But that somebody else has got it is nobody's business."""
    rig = Rig(RULED)
    one, two = Person(rig, ALICE), Person(rig, BOB)
    one.does_everything()
    lists = held(rig.gateway)["gateway/merged_lists.py MergedLists._lists"]
    [tools, *_] = [key for key in lists if key.method == "tools/list"]
    made = rig.gateway._services.lists
    assert made.like_before(one.session, tools) is not None
    assert made.like_before(two.session, tools) is None


@pytest.mark.parametrize("other", [BOB, ANONYMOUS, BOBS_KEY], ids=["bob", "anonymous", "by key"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_with_anothers_session_one_is_who_has_an_unknown_one(other: Principal, method: str) -> None:
    """Also once the worker knows all there is to know of that session."""
    rig = Rig(RULED)
    one = Person(rig, BOB if other == BOBS_KEY else ALICE)
    one.does_everything()
    found = []
    for token in (one.token, "unknown"):
        head = replace(one.head(method, accept="text/event-stream" if method == "GET" else "*/*"), principal=other)
        head = replace(head, headers={**head.headers, "mcp-session-id": token})
        if method == "POST":
            found.append([rig.reply(body, head).body for body in (message("ping"), message("tools/list"))])
        else:
            found.append([rig.gateway.admit(head, NOW).body])  # type: ignore[union-attr]
    assert found[0] == found[1]
    assert rig.forward(message("tools/call", {"name": "a__x"}), one.head()).server == "a", "it goes on for its owner"


def test_what_a_worker_remembers_is_bounded_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many endpoints there are. Each connection of Envoy's has a store of its own besides."""
    made = []
    begin = Bounded.__init__

    def recorded(store: Bounded[Any, Any], entries: int, max_bytes: int) -> None:
        made.append(store)
        begin(store, entries, max_bytes)

    monkeypatch.setattr(Bounded, "__init__", recorded)
    rbac = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}
    whole = config(
        {"a": {}},
        authorization={"default": "allow"},
        virtual_servers={"x": {"servers": {"a": "all"}}, "y": {}},
        envoy={"http_filters": [{"name": "r", "typed_config": rbac}]},
    )
    Processor(Gateway(whole, "s" * 32, SessionMemory()), *[cast("Any", None)] * 5)
    lasting = [one for module in (forwarding, headers) for one in vars(module).values() if isinstance(one, Bounded)]
    told = re.search(r"altogether to ([\d,]+) MiB", (PACKAGE.parent / "docs" / "security.md").read_text())
    assert told is not None
    assert sum(store._max_bytes for store in (*made, *lasting)) == int(told[1].replace(",", "")) * MIB
