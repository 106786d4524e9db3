"""Who a request is from, by what Envoy's filters wrote about it."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from google.protobuf import json_format

from mcp_extproc.config import GatewayConfig
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.identity import Identification
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.wire import field, number_field

JWT = "envoy.filters.http.jwt_authn"
CLAIMS = {"iss": "https://idp.example", "sub": "alice", "scope": ["a", "b"], "exp": 1.0, "n": None, "o": {"p": [True]}}
ALICE = Principal("token", "https://idp.example", "alice")
OAUTH = {"oauth": {"issuers": [{"issuer": "https://idp.example", "audiences": ["x"]}]}}


class Who:
    """Says who sent a request to the only endpoint."""

    def __init__(self, identification: Identification) -> None:
        self._identification = identification

    def of(self, raw: bytes) -> Principal:
        return self._identification.of(raw, "").principal

    def with_claims(self, claims: str, raw: bytes = b"") -> Principal:
        return self._identification.with_claims(self.of(raw), claims, "")


def identification(**sections: Any) -> Who:
    return Who(
        Identification(GatewayConfig.model_validate({"servers": {"a": {"url": "http://127.0.0.1:1"}}, **sections}))
    )


def message(metadata: Any) -> bytes:
    """As Envoy writes it."""
    return json_format.ParseDict({"filter_metadata": metadata}, pb.Metadata()).SerializeToString()


def test_the_claims_of_a_verified_token() -> None:
    who = identification(authentication=OAUTH)
    for _ in range(2):
        found = who.of(message({JWT: {"payload": CLAIMS}}))
        assert (found, set(found.scopes), found.claims["o"]) == (ALICE, {"a", "b"}, {"p": [True]})
    assert who.of(message({JWT: {"payload": {**CLAIMS, "sub": "bob"}}})).subject == "bob"
    assert found.groups == frozenset()
    nested = identification(authentication={"oauth": {**OAUTH["oauth"], "groups_claim": "o.roles"}})
    assert nested.of(message({JWT: {"payload": {**CLAIMS, "o": {"roles": ["admin"]}}}})).groups == {"admin"}
    by_email = identification(authentication={"oauth": {**OAUTH["oauth"], "principal_claim": "email"}})
    assert by_email.of(message({JWT: {"payload": {**CLAIMS, "email": "a@b"}}})).subject == "a@b"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {JWT: {}},
        {JWT: {"payload": "alice"}},
        {JWT: {"payload": {}}},
        {JWT: {"payload": {**CLAIMS, "iss": "https://removed.example"}}},
        {JWT: {"payload": {**CLAIMS, "iss": None}}},
        {JWT: {"header": CLAIMS}},
        {JWT: {"failed_status": {"sub": "alice"}}},
        {"mcp_proxy": {"principal": "alice", "payload": CLAIMS}},
        {JWT: CLAIMS},
    ],
)
def test_anything_else_is_nobody(metadata: Any) -> None:
    assert identification(authentication=OAUTH).of(message(metadata)) == ANONYMOUS


def base64url(claims: Any) -> str:
    """As Envoy's filter writes the payload of a token."""
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def test_claims_in_a_header_are_those_in_metadata() -> None:
    """Of the same token, whose filter makes doubles of numbers and lists of scopes in metadata."""
    in_token = {**CLAIMS, "scope": " a  b", "scp": "", "exp": 1, "big": 2**53 + 1, "t": True, "deep": [{"n": 7}]}
    in_metadata = {**in_token, "scope": ["a", "b"], "scp": [], "exp": 1.0, "big": float(2**53), "deep": [{"n": 7.0}]}
    who = identification(authentication=OAUTH)
    for padding in range(4):  # the lengths that base64 pads in other ways
        more = {"pad": "x" * padding}
        found = who.with_claims(base64url({**in_token, **more}))
        expected = who.of(message({JWT: {"payload": {**in_metadata, **more}}}))
        assert (found, found.claims, found.scopes) == (expected, expected.claims, frozenset({"a", "b"}))
        assert str(found.claims) == str({name: expected.claims[name] for name in found.claims}), "of the same types"
        assert who.with_claims(base64url({**in_token, **more})) is found


@pytest.mark.parametrize("claims", ["", "x", "e3 0", "e30\n", "W10", "bnVsbA", "ew", "ä", "e+/="])
def test_claims_that_cannot_be_read_prove_nobody(claims: str) -> None:
    """Nor is who brought them anonymous: nothing is said to Envoy, which refuses then."""
    who = identification(authentication={**OAUTH, "anonymous": True})
    with pytest.raises(messages.Unreadable):
        who.with_claims(claims)


@pytest.mark.parametrize(
    "text",
    [
        '{"iss": "https://idp.example", "sub": "alice", "sub": "bob"}',
        '{"iss": "https://idp.example", "sub": "alice", "s\\u0075b": "bob"}',
        '{"iss": "https://idp.example", "sub": "alice", "o": [{"a": 1, "a": 2}]}',
        '{"iss": "https://idp.example", "sub": "\\ud800"}',
        f'{{"iss": "https://idp.example", "sub": "alice", "n": 1{"0" * 400}}}',
        f'{{"iss": "https://idp.example", "sub": "alice", "n": {"[" * 50_000}{"]" * 50_000}}}',
    ],
)
def test_claims_that_others_may_read_otherwise_prove_nobody(text: str) -> None:
    with pytest.raises(messages.Unreadable):
        identification(authentication=OAUTH).with_claims(base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode())


def test_a_header_is_believed_where_envoy_says_that_no_client_wrote_it() -> None:
    config = {"servers": {"a": {"url": "http://127.0.0.1:1"}}, "authentication": OAUTH}
    who = Identification(GatewayConfig.model_validate(config))
    said = message({"mcp_principal": {"claims": "1"}})
    assert who.of(said, "").trusts_claims
    assert who.of(said, "") is who.of(said, "")
    others: list[Any] = [
        {},
        {"mcp_principal": {}},
        {"mcp_principal": {"api_key": "1"}},
        {JWT: {"claims": "1", "payload": CLAIMS}},
    ]
    for other in others:
        assert not who.of(message(other), "").trusts_claims
    assert not who.of(said, None).trusts_claims


def test_without_authentication_nobody_looks() -> None:
    assert identification().of(message({JWT: {"payload": CLAIMS}})) == ANONYMOUS


def test_what_filters_of_others_verified() -> None:
    existing = {
        "subject": ["their.filter", "user", "name"],
        "issuer": ["their.filter", "by"],
        "scopes": ["other", "scopes"],
        "groups": ["other", "groups"],
        "claims": ["their.filter", "user"],
    }
    who = identification(authentication={"existing": existing})
    told = {
        "their.filter": {"user": {"name": "alice", "team": "x"}, "by": "them"},
        "other": {"scopes": "a b", "groups": ["x y"]},
    }
    found = who.of(message(told))
    assert (found, set(found.scopes)) == (Principal("existing", "them", "alice"), {"a", "b"})
    assert found.groups == {"x y"}
    assert found.claims == {"name": "alice", "team": "x"}
    for other in ({}, {"their.filter": {"user": "alice"}}, {"their.filter": {"user": {"name": 7}}}):
        assert who.of(message(other)) == ANONYMOUS


def test_the_earlier_name_for_it() -> None:
    who = identification(envoy={"principal": {"metadata": [JWT, "payload", "sub"]}})
    assert who.of(message({JWT: {"payload": CLAIMS}})) == Principal("existing", "", "alice")
    by_header = identification(envoy={"principal": {"header": "x-user"}})
    assert by_header.of(message({JWT: {"payload": CLAIMS}})) == ANONYMOUS


def test_the_same_content_is_the_same_principal_in_any_order() -> None:
    who = identification(authentication=OAUTH)
    orders = [dict(sorted(CLAIMS.items(), reverse=reverse)) for reverse in (False, True)]
    first, second = (message({JWT: {"payload": claims}}) for claims in orders)
    assert who.of(first) is who.of(second)
    with pytest.raises(messages.Unreadable):
        who.of(b"\xff")


def test_short_metadata_that_is_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As each request has where claims are in a header. Of longer ones, each order would be kept."""
    who = identification(authentication={"oauth": OAUTH["oauth"], "api_keys": {"file": "k"}})
    short = [
        message({"mcp_principal": dict(items)}) for items in itertools.permutations([("claims", "1"), ("api_key", "a")])
    ]
    long = message({JWT: {"payload": {**CLAIMS, "more": "x" * 200}}})
    found = [who.of(raw) for raw in (*short, long)]
    read: list[bytes] = []
    reading = messages.read_metadata

    def counted(raw: bytes) -> pb.Metadata:
        read.append(raw)
        return reading(raw)

    monkeypatch.setattr(messages, "read_metadata", counted)
    assert all(one is other for one, other in zip(found, map(who.of, (*short, long)), strict=True))
    assert found[0] is found[1]
    assert set(read) <= {long}


def test_metadata_is_taken_out_of_messages_with_headers() -> None:
    metadata = message({JWT: {"payload": CLAIMS}})
    for head in (field(2, b"h" * 300), field(3, b""), field(2, b"h" * 20_000)):
        for attributes in (b"", field(9, b"a")):
            assert messages.without_metadata(head + attributes) == (head + attributes, b"")
            assert messages.without_metadata(head + field(8, metadata) + attributes) == (head + attributes, metadata)
    body = field(4, field(1, b"x")) + field(8, metadata)
    assert messages.without_metadata(body) == (body, b"")
    assert messages.without_metadata(b"") == (b"", b"")
    for cut in (b"\x12", b"\x12\xff", b"\x12\x05ab", field(2, b"ab") + b"\x42", field(2, b"ab") + b"\x42\x05ab"):
        with pytest.raises(messages.Unreadable):
            messages.without_metadata(cut)


@pytest.mark.parametrize("end", [b"", number_field(2, 1)])
def test_a_body_is_read_fast_with_metadata_behind_it(end: bytes) -> None:
    body = field(4, field(1, b"x" * 300) + end)
    metadata = message({JWT: {"payload": CLAIMS}})
    for more in (b"", field(8, b""), field(8, metadata)):
        assert messages.whole_body(body + more) == b"x" * 300
        assert messages.read(body + more).request_body.body == b"x" * 300
    for other in (field(9, b"x"), field(8, metadata)[:-1], field(8, metadata) + b"\0", field(8, b"") * 2):
        assert messages.whole_body(body + other) is None


def test_a_key_counts_before_a_token() -> None:
    """And is another principal than a token's subject of the same name."""
    both = identification(authentication={**OAUTH, "api_keys": {"file": "k"}})
    by_key = {"mcp_principal": {"api_key": "alice"}}
    by_token = {JWT: {"payload": CLAIMS}}
    assert both.of(message(by_key)) == both.of(message({**by_key, **by_token})) == Principal("key", "api_keys", "alice")
    assert both.of(message(by_token)).proven == "token"
    assert both.with_claims(base64url(CLAIMS), message(by_key)).proven == "key"
    assert both.with_claims(base64url(CLAIMS)) == ALICE
    for nothing in ({}, {"api_key": ""}, {"api_key": 7}, {"other": "alice"}):
        assert both.of(message({"mcp_principal": nothing})) == ANONYMOUS
    without_keys = identification(authentication=OAUTH)
    assert without_keys.of(message(by_key)) == ANONYMOUS


@pytest.mark.parametrize(
    ("principal", "name", "subject"),
    [
        ("san_uri", "spiffe://a/b", "spiffe://a/b"),
        ("san_uri", "a,b", None),
        ("san_uri", "-", None),
        ("san_uri", "", None),
        ("subject", "CN=a,O=b", "CN=a,O=b"),
        ("subject", "-", None),
    ],
)
def test_a_certificate_names_one(principal: str, name: str, subject: str | None) -> None:
    """Several names are joined by commas. A token counts before it."""
    tls = {"certificate": "server.pem", "key": "server.key"}
    mtls = {"ca": "clients.pem", "principal": principal}
    who = identification(authentication={**OAUTH, "mtls": mtls}, listen={"tls": tls})
    by_certificate = {"mcp_principal": {"certificate": name}}
    found = who.of(message(by_certificate))
    assert found == (ANONYMOUS if subject is None else Principal("certificate", "mtls", subject))
    assert who.of(message({**by_certificate, JWT: {"payload": CLAIMS}})) == ALICE
    assert who.with_claims(base64url(CLAIMS), message(by_certificate)) == ALICE
    assert identification(authentication=OAUTH).of(message(by_certificate)) == ANONYMOUS


def test_a_service_names_the_caller_in_headers() -> None:
    """Which Envoy has put into metadata. A token counts before it, and it before a certificate."""
    tls = {"certificate": "server.pem", "key": "server.key"}
    named = {"principal_header": "x-user", "groups_header": "x-groups", "scopes_header": "x-scopes"}
    external = {"http": "http://127.0.0.1:1", **named}
    who = identification(
        authentication={**OAUTH, "external": external, "mtls": {"ca": "clients.pem"}}, listen={"tls": tls}
    )
    told = {
        "external": "alice",
        "external_groups": " dev,, ops team ,",
        "external_scopes": "mcp:read  mcp:call",
        "certificate": "spiffe://a",
    }
    found = who.of(message({"mcp_principal": told}))
    assert (found, set(found.groups)) == (Principal("external", "external", "alice"), {"dev", "ops team"})
    assert found.scopes == {"mcp:read", "mcp:call"}
    assert who.of(message({"mcp_principal": told, JWT: {"payload": CLAIMS}})).proven == "token"
    assert who.with_claims(base64url(CLAIMS), message({"mcp_principal": told})).proven == "token"
    for nothing in ({}, {"external": ""}, {"external": 7}, {"external_groups": "dev"}):
        assert who.of(message({"mcp_principal": nothing})) == ANONYMOUS
    assert who.of(message({"envoy.filters.http.ext_authz": {"external": "alice"}})) == ANONYMOUS


def test_a_service_names_the_caller_in_metadata() -> None:
    external = {
        "grpc": "a:1",
        "principal_metadata": ["user", "name"],
        "groups_metadata": ["user", "groups"],
        "scopes_metadata": ["scope"],
    }
    who = identification(authentication={"external": external})
    for scope in ("mcp:read mcp:call", ["mcp:call", "mcp:read"]):
        said = {"user": {"name": "alice", "groups": ["dev"]}, "tenant": "x", "scope": scope}
        found = who.of(message({"envoy.filters.http.ext_authz": said}))
        assert (found, set(found.groups)) == (Principal("external", "external", "alice"), {"dev"})
        assert found.scopes == {"mcp:read", "mcp:call"}
    assert found.claims == said
    for other in ({}, {"user": "alice"}, {"user": {"name": ""}}, {"user": {"name": ["alice"]}}):
        assert who.of(message({"envoy.filters.http.ext_authz": other})) == ANONYMOUS
    assert who.of(message({"mcp_principal": {"external": "alice"}})) == ANONYMOUS
    one = {"user": {"name": "alice", "groups": "dev, ops"}}
    assert who.of(message({"envoy.filters.http.ext_authz": one})).groups == {"dev, ops"}
    without = identification(authentication={"external": {**external, "groups_metadata": []}})
    assert without.of(message({"envoy.filters.http.ext_authz": said})).groups == frozenset()


def test_a_service_names_the_caller_in_headers_that_are_metadata() -> None:
    """Over HTTP: each is one text, and groups are a list in it."""
    external = {
        "http": "http://127.0.0.1:1",
        "principal_metadata": ["x-user"],
        "groups_metadata": ["x-groups"],
        "scopes_metadata": ["x-scopes"],
    }
    who = identification(authentication={"external": external})
    said = {"x-user": "alice", "x-groups": "dev, ops team", "x-scopes": "mcp:read mcp:call"}
    found = who.of(message({"envoy.filters.http.ext_authz": said}))
    assert found == Principal("external", "external", "alice")
    assert (set(found.groups), set(found.scopes)) == ({"dev", "ops team"}, {"mcp:read", "mcp:call"})
    assert found.claims == said
    assert who.of(message({"envoy.filters.http.ext_authz": {"x-groups": "dev"}})) == ANONYMOUS
    assert who.of(message({"mcp_principal": {"external": "alice"}})) == ANONYMOUS


def test_each_endpoint_believes_its_own_methods() -> None:
    """What filters wrote is the same; who it is may differ, and where nobody is believed it is nobody."""
    other = {"oauth": {"issuers": [{"issuer": "https://other.example", "audiences": ["x"]}]}}
    by_email = {"oauth": {**OAUTH["oauth"], "principal_claim": "email", "groups_claim": "o.p"}}
    virtual: dict[str, Any] = {
        "same": {},
        "other": {"authentication": other},
        "by email": {"authentication": by_email},
        "keys": {"authentication": {"api_keys": {"file": "k"}}},
    }
    config = GatewayConfig.model_validate({
        "servers": {"a": {"url": "http://127.0.0.1:1"}},
        "authentication": OAUTH,
        "virtual_servers": {name.replace(" ", "_"): {"servers": {"a": "all"}, **one} for name, one in virtual.items()},
    })  # fmt: skip
    who = Identification(config)
    raw = message(
        {JWT: {"payload": {**CLAIMS, "email": "a@b", "o": {"p": ["g"]}}}, "mcp_principal": {"api_key": "bob"}}
    )
    claims = base64url({**CLAIMS, "email": "a@b", "o": {"p": ["g"]}})

    def in_metadata(name: str | None) -> Principal:
        return who.of(raw, name).principal

    def in_header(name: str | None) -> Principal:
        return who.with_claims(ANONYMOUS, claims, name)

    for by in (in_metadata, in_header):
        assert by("") == ALICE
        assert by("same") is by("")
        found = by("by_email")
        assert (found.subject, set(found.groups)) == ("a@b", {"g"})
        for nobody in ("other", "unknown", None):
            assert by(nobody) == ANONYMOUS
    assert who.of(raw, "keys").principal == Principal("key", "api_keys", "bob")
    assert who.with_claims(ANONYMOUS, claims, "keys") == ANONYMOUS
