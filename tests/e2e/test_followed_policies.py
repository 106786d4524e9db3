"""Lists against Envoy's own verdicts on calls: what RBAC certainly denies is left out, and nothing else, for any RBAC."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from mcp_extproc.gateway.authorization.items import Item
from mcp_extproc.gateway.endpoints import Endpoints, ServedEndpoint
from mcp_extproc.gateway.policy.followed import Policies
from mcp_extproc.gateway.principal import ANONYMOUS, BY_KEY, BY_TOKEN, Principal, of_claims
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import TestGateway
from tests.support.gateway import gateway as start
from tests.support.scripted import ScriptedServer, fixed, tool

pytestmark = pytest.mark.asyncio(loop_scope="module")

RBAC = "rbac"
TYPE = "type.googleapis.com/envoy.extensions.filters.http"
SERVERS = [f"s{number}" for number in range(20)]
"""Each has an RBAC of its own, and is the same server in truth."""
KEY = "key-of-alice-" + "a" * 20

TOOLS, PROMPTS = ["read", "Write", "naïve x", "s1__read"], ["sum", "read"]
URIS, TEMPLATES = ["file:///open", "ui://v/1"], ["file:///{path}"]


# -- Any RBAC -----------------------------------------------------------------------------------------------------------------

WORDS = [
    *TOOLS, *PROMPTS, *URIS, "s1__read", "S1+file:///open", "s2+file:///open", "s1", "s2", "s3", "tools/call", "prompts/get",
    "resources/read", "alice", "bob", "api_keys", "ops", "mcp:read", "POST", "=?base64?bmHDr3ZlIHg=?=", "2.0", "",
]  # fmt: skip
_words = st.sampled_from(WORDS)
_regexes = st.sampled_from(
    ["read", "s\\d__.*", ".*", "(?i)WRITE", "na.ve x", "na\\Cve x", "a|b", "tools/.*|prompts/get"]
)
_texts = st.one_of(
    st.fixed_dictionaries({"exact": _words}, optional={"ignore_case": st.booleans()}),
    st.fixed_dictionaries({"prefix": st.sampled_from(["s", "s1", "r", "file:", "tools/", "na"])}),
    st.fixed_dictionaries(
        {"suffix": st.sampled_from(["d", "READ", "x", "open"])}, optional={"ignoreCase": st.booleans()}
    ),
    st.fixed_dictionaries(
        {"contains": st.sampled_from(["ea", "/", "__", "ï"])}, optional={"ignore_case": st.booleans()}
    ),
    st.builds(lambda regex: {"safe_regex": {"regex": regex}}, _regexes),
)
_paths = st.sampled_from([
    "mcp_proxy method", "mcp_proxy server", "mcp_proxy tool", "mcp_proxy prompt", "mcp_proxy params name",
    "mcp_proxy params uri", "mcp_proxy params name more", "mcp_proxy principal", "mcp_proxy issuer", "mcp_proxy nothing",
    "mcp_proxy session", "mcp_proxy protocol_version", "mcp_proxy jsonrpc", "envoy.filters.http.mcp method",
    "envoy.filters.http.mcp params name", "mcp_principal api_key", "envoy.filters.http.jwt_authn payload sub",
    "envoy.filters.http.jwt_authn payload groups", "envoy.filters.http.jwt_authn payload exp",
    "envoy.filters.http.jwt_authn payload realm roles", "envoy.filters.http.jwt_authn payload",
])  # fmt: skip
_values = st.deferred(
    lambda: st.one_of(
        _texts.map(lambda text: {"string_match": text}),
        _texts.map(lambda text: {"stringMatch": text}),
        st.booleans().map(lambda value: {"bool_match": value}),
        st.just({"null_match": {}}),
        st.booleans().map(lambda value: {"present_match": value}),
        st.sampled_from([{"double_match": {"exact": 1.5}}, {"double_match": {"range": {"start": 1, "end": 1e11}}}]),
        _texts.map(lambda text: {"list_match": {"one_of": {"string_match": text}}}),
        st.lists(_texts, min_size=2, max_size=3).map(
            lambda texts: {"or_match": {"value_matchers": [{"string_match": text} for text in texts]}}
        ),
    )
)
_metadata = st.builds(
    lambda path, value, more: {
        "filter": path.split()[0], "path": [{"key": key} for key in path.split()[1:]], "value": value, **more
    },
    _paths, _values, st.sampled_from([{}, {}, {"invert": True}, {"invert": False}]),
)  # fmt: skip
_headers = st.builds(
    lambda name, how, more: {"name": name, **how, **more},
    st.sampled_from([":method", "mcp-method", "mcp-name", "x-mcp-server", "X-Mcp-Server", "x-mcp-other", "user-agent"]),
    st.one_of(
        _texts.map(lambda text: {"string_match": text}),
        st.booleans().map(lambda value: {"present_match": value}),
        st.just({}),
        st.just({"range_match": {"start": 1, "end": 5}}),
    ),
    st.sampled_from([{}, {}, {"invert_match": True}, {"treat_missing_header_as_empty": True}]),
)
_rest = st.sampled_from([{"any": True}, {"any": True}, {"url_path": {"path": {"prefix": "/"}}}])


def _rules(inner: str, combined: str, negated: str, more: Any) -> Any:
    simple = st.one_of(
        _metadata.map(lambda value: {"metadata": value}),
        _metadata.map(lambda value: {"sourced_metadata": {"metadata_matcher": value}}),
        _headers.map(lambda value: {"header": value}),
        _rest,
        more,
    )
    return st.recursive(
        simple,
        lambda rules: st.one_of(
            rules.map(lambda rule: {negated: rule}),
            st.lists(rules, min_size=1, max_size=3).map(lambda several: {f"and_{combined}": {inner: several}}),
            st.lists(rules, min_size=1, max_size=3).map(lambda several: {f"or_{combined}": {inner: several}}),
        ),
        max_leaves=4,
    )


_permissions = _rules("rules", "rules", "not_rule", st.just({"destination_port": 1}))
_principals = _rules(
    "ids", "ids", "not_id", st.just({"direct_remote_ip": {"address_prefix": "127.0.0.0", "prefix_len": 8}})
)
_policies = st.dictionaries(
    st.sampled_from(["first", "second"]),
    st.fixed_dictionaries({
        "permissions": st.lists(_permissions, min_size=1, max_size=2),
        "principals": st.lists(st.just({"any": True}) | _principals, min_size=1, max_size=2),
    }),
    min_size=1,
)  # fmt: skip
_filters = st.one_of(
    st.fixed_dictionaries({
        "rules": st.fixed_dictionaries({"policies": _policies}, optional={"action": st.sampled_from(["DENY", "DENY", "LOG"])})
    }),
    st.sampled_from([{"rules": {}}, {"rules": {"action": "DENY"}}, {}]),
)  # fmt: skip


def generated(count: int) -> list[dict[str, Any]]:
    """The same each time."""
    found: list[dict[str, Any]] = []

    @seed(16)
    @settings(max_examples=count, phases=[Phase.generate], database=None)
    @given(_filters)
    def take(one: dict[str, Any]) -> None:
        found.append(one)

    take()
    return found[:count]


# -- Envoy --------------------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    gateway: TestGateway
    filters: Mapping[str, Any]
    """By server."""
    callers: list[tuple[Principal, dict[str, str]]]
    """Who they are, and what they send."""

    @property
    def policies(self) -> Policies:
        served: ServedEndpoint | None = Endpoints(self.gateway.local.config).named("")
        assert served is not None
        assert served.policies is not None
        return served.policies


_NO_RULES = {"name": RBAC, "typed_config": {"@type": f"{TYPE}.rbac.v3.RBAC"}}
_READS_BODIES = {"name": "lua", "typed_config": {
    "@type": f"{TYPE}.lua.v3.Lua",
    "default_source_code": {"inline_string": "function envoy_on_request(handle) end"},
}}  # fmt: skip
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "calls": {"policies": "calls", "http_filters": [_NO_RULES]},
    "one visit": {"http_filters": [_NO_RULES]},
    "two visits": {"http_filters": [_NO_RULES, _READS_BODIES]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ARRANGEMENTS)
async def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "keys.yaml").write_text(json.dumps({"alice": KEY}))
    filters = dict(zip(SERVERS, generated(len(SERVERS)), strict=True))
    async with AsyncExitStack() as stack:
        idp = await stack.enter_async_context(AuthorizationServer(subject="bob"))
        server = await stack.enter_async_context(ScriptedServer("followed"))
        server.capabilities = {"tools": {}, "prompts": {}, "resources": {}}
        server.pages = [[tool(name) for name in TOOLS]]
        for method, result in {
            "prompts/list": {"prompts": [{"name": name} for name in PROMPTS]},
            "resources/list": {"resources": [{"uri": uri, "name": "x"} for uri in URIS]},
            "resources/templates/list": {"resourceTemplates": [{"uriTemplate": uri, "name": "x"} for uri in TEMPLATES]},
            "tools/call": {"content": []},
            "prompts/get": {"messages": []},
            "resources/read": {"contents": []},
        }.items():
            server.on[method] = fixed(result=result)
        servers = {
            name: {
                "url": server.url,
                "typed_per_filter_config": {RBAC: {"@type": f"{TYPE}.rbac.v3.RBACPerRoute", "rbac": rbac}},
            }
            for name, rbac in filters.items()
        }
        issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}
        gateway = await stack.enter_async_context(
            start(
                folder,
                servers,
                authentication={
                    "anonymous": True,
                    "oauth": {"issuers": [issuer]},
                    "api_keys": {"file": str(folder / "keys.yaml")},
                },
                envoy=ARRANGEMENTS[request.param],
            )
        )
        token = idp.token(scope="mcp:read", groups=["ops", "read"], realm={"roles": ["read"]})
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        callers = [
            (ANONYMOUS, {}),
            (Principal(BY_KEY, "api_keys", "alice"), {"x_api_key": KEY}),
            (of_claims(BY_TOKEN, claims, "sub", "groups"), {"authorization": f"Bearer {token}"}),
        ]
        yield Stage(gateway, filters, callers)


LISTS = (
    ("tools/list", "tools", "name", "tools"),
    ("prompts/list", "prompts", "name", "prompts"),
    ("resources/list", "resources", "uri", "resources"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate", "resources"),
)


def uses(server: str) -> Iterator[tuple[Item, bool, str, str, dict[str, str]]]:
    """Each item, whether it is a template, clients' name for it, and how it is used."""
    for name in TOOLS:
        yield Item("tools", server, name), False, f"{server}__{name}", "tools/call", {"name": f"{server}__{name}"}
    for name in PROMPTS:
        yield Item("prompts", server, name), False, f"{server}__{name}", "prompts/get", {"name": f"{server}__{name}"}
    for uri in URIS:
        visible = f"{server}+{uri}" if uri.startswith("file") else uri.replace("ui://", f"ui://{server}/")
        yield Item("resources", server, uri), False, visible, "resources/read", {"uri": visible}
    for template in TEMPLATES:
        used = {"uri": f"{server}+{template.replace('{path}', 'some')}"}
        yield Item("resources", server, template), True, f"{server}+{template}", "resources/read", used


async def test_lists_leave_out_what_envoy_denies_for_sure(stage: Stage) -> None:
    counts = {"left out": 0, "allowed for sure": 0, "open, denied": 0, "open, allowed": 0}
    for principal, headers in stage.callers:
        opened = await stage.gateway.rpc(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
            **headers,
        )
        headers = {**headers, "mcp_session_id": opened.headers["mcp-session-id"]}
        shown: set[tuple[str, str]] = set()
        for method, items, known_by, kind in LISTS:
            listed = await stage.gateway.rpc(method, **headers)
            shown |= {(kind, entry[known_by]) for entry in listed.result[items]}
        followed = stage.policies.of(principal)
        for server, rbac in stage.filters.items():
            for item, is_template, visible, method, params in uses(server):
                verdict = followed.verdict(item, is_template=is_template).denies
                answer = await stage.gateway.rpc(method, params, **headers)
                denied = answer.json.get("error", {}).get("data", {}).get("reason") == "denied"
                assert denied or "result" in answer.json, answer.body
                about = (principal.subject, visible, verdict, rbac)
                assert ((item.kind, visible) in shown) is (verdict is not True), about
                assert verdict is None or verdict is denied, about
                counts[_what(verdict, denied=denied)] += 1
    # What a filter of another kind does is not known.
    assert (counts.pop("allowed for sure") > 0) is (len(stage.gateway.local.config.envoy.http_filters) == 1)
    assert min(counts.values()) > 0, counts


def _what(verdict: bool | None, *, denied: bool) -> str:
    if verdict is None:
        return f"open, {'denied' if denied else 'allowed'}"
    return "left out" if verdict else "allowed for sure"
