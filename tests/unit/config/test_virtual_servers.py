"""Virtual servers in the configuration: what is accepted, and what is refused at which place with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig, loads
from mcp_extproc.config.authorization import Kind, Selector
from mcp_extproc.config.endpoint import Endpoint, all_servers, endpoints, shown, url_of
from mcp_extproc.config.named_files import missing_files
from mcp_extproc.config.own_listener import certificates_without_tls
from tests.unit.config.support import error_of, native

SERVERS: dict[str, Any] = {
    "github": {"url": "http://127.0.0.1:1/mcp", "tools": {"exclude": ["issue_drop"]}},
    "dates": {"url": "http://127.0.0.1:2/mcp", "prefix": "d"},
    "plain": {"url": "http://127.0.0.1:3/mcp", "prefix": ""},
}
OAUTH = {
    "public_url": "https://gw.example",
    "oauth": {"issuers": [{"issuer": "https://idp.example", "audiences": ["a"]}]},
}


def text(virtual: dict[str, Any], **more: Any) -> str:
    return json.dumps({"servers": SERVERS, "virtual_servers": virtual, **more})


def config(virtual: dict[str, Any], **more: Any) -> GatewayConfig:
    return loads(text(virtual, **more), "gateway.yaml", {}).config


def endpoint(one: dict[str, Any], name: str = "v", **more: Any) -> Endpoint:
    _, found = endpoints(config({name: one}, **more))
    return found


def offers(found: Endpoint, server: str, kind: Kind, name: str) -> bool:
    assert found.offered is not None
    return server in found.offered and found.offered[server].allowing(kind)(name)


def test_without_any_there_is_the_main_endpoint() -> None:
    [main] = endpoints(config({}))
    assert (main.name, main.path, main.offered, main.domains, dict(main.headers)) == ("", "/mcp", None, (), {})


def test_the_main_endpoint_stays_as_it_is() -> None:
    assert endpoints(config({"v": {"servers": {"dates": "all"}}}))[0] == endpoints(config({}))[0]


def test_a_path_of_its_own() -> None:
    assert endpoint({}).path == "/mcp/v"
    assert endpoint({}, "team/v").path == "/mcp/team/v"
    assert endpoint({}, listen={"path": "/tools"}).path == "/tools/v"
    assert endpoint({}, listen={"path": "/"}).path == "/v"
    assert endpoint({"path": "/elsewhere"}).path == "/elsewhere"


def test_a_host_has_the_main_path_and_needs_no_other_permission() -> None:
    found = endpoint({"host": "V.Example."})
    assert (found.path, found.domains, found.hosts) == ("/mcp", ("v.example",), None)
    found = endpoint({"hosts": ["a.example", "*.B.example"], "path": "/x"})
    assert (found.path, found.domains) == ("/x", ("a.example", "*.b.example"))


def test_headers_go_by_lower_case_names() -> None:
    headers = {"X-Tenant": "acme", "X-Team": {"regex": "^a"}}
    assert endpoint({"path": "/mcp", "headers": headers}).headers == {
        "x-tenant": "acme", "x-team": Selector("regex", "^a")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"regex": "("}, "not a regular expression"),
        ({"glob": "a*"}, "expected a text, or {regex"),
        ({"regex": 1}, "expected a name, in which"),
        (" a", "expected values of visible ASCII characters"),
    ],
)
def test_values_of_headers_that_are_none(value: object, problem: str) -> None:
    found = error_of(text({"v": {"path": "/mcp", "headers": {"x-a": value}}}))
    assert f"virtual_servers.v.headers.x-a: {problem}" in found


def test_pages_of_its_own_in_place_of_the_main_ones() -> None:
    main: dict[str, Any] = {"origins": ["https://main.example"]}
    assert endpoint({}, **main).origins == ("https://main.example",)
    assert endpoint({"origins": ["https://Own.example"]}, **main).origins == ("https://own.example",)
    assert endpoint({"origins": []}, **main).origins == ()


def test_what_is_not_named_is_not_there() -> None:
    assert endpoint({}).offered == {}
    assert endpoint({"servers": {}}).servers == {}
    found = endpoint({"servers": {"github": {"tools": ["issue_*"], "prompts": []}, "dates": {}}})
    assert list(found.servers) == list(found.starts) == list(found.uri_words) == ["github"]
    assert offers(found, "github", "tools", "issue_read")
    assert not offers(found, "github", "tools", "search")
    assert not offers(found, "github", "prompts", "issue_read")
    assert not offers(found, "github", "resources", "file:///a")


def test_all_is_a_kind_or_a_server() -> None:
    found = endpoint({"servers": {"github": "all", "dates": {"prompts": "all"}}})
    kinds: tuple[Kind, ...] = ("tools", "prompts", "resources")
    assert [offers(found, "github", kind, "any") for kind in kinds] == [True, True, True]
    assert [offers(found, "dates", kind, "any") for kind in kinds] == [False, True, False]


def test_selectors_are_those_of_authorization() -> None:
    found = endpoint(
        {"servers": {"github": {"tools": [{"regex": "^search_"}, {"exact": "a*"}], "resources": ["file:*"]}}}
    )
    assert [offers(found, "github", "tools", name) for name in ("search_x", "a*", "ab")] == [True, True, False]
    assert [offers(found, "github", "resources", uri) for uri in ("file:///a/b", "http://x")] == [True, False]


def test_own_sections_replace_the_main_ones() -> None:
    main: dict[str, Any] = {"authorization": {"default": "deny"}, "authentication": OAUTH}
    inherits = endpoint({}, **main)
    assert inherits.authorization is not None
    assert inherits.authorization.default == "deny"
    assert inherits.authentication is not None
    assert (inherits.has_own_authentication, inherits.public_url) == (False, "https://gw.example")
    own = endpoint(
        {
            "authorization": {"default": "allow"},
            "authentication": {"api_keys": {"file": "k", "from": [{"header": "x-key"}]}},
        },
        **main,
    )
    assert own.authorization is not None
    assert own.authorization.default == "allow"
    assert own.authentication is not None
    assert (own.has_own_authentication, own.public_url) == (True, None)
    assert own.authentication.oauth is None


def test_the_public_url_names_the_main_endpoints_host_and_no_other() -> None:
    assert endpoint({"host": "v.example"}, authentication=OAUTH).public_url is None


def test_all_places_that_say_who_may_call() -> None:
    found = config({"v": {"authentication": OAUTH}, "w": {}}, authentication=OAUTH)
    assert [place for place, _ in found.authentications()] == [
        ("authentication",),
        ("virtual_servers", "v", "authentication"),
    ]


ANY = {"github": {"tools": "all"}}


@pytest.mark.parametrize(
    ("virtual", "problem"),
    [
        ({"-v": {}}, 'virtual_servers["-v"]'.replace('["-v"]', ".-v") + ": expected a name of 1 to 48 characters"),
        ({"a/b/c": {}}, 'virtual_servers["a/b/c"]: expected a name of 1 to 48 characters'),
        ({"v": {"path": "mcp"}}, "virtual_servers.v.path: expected an absolute path"),
        ({"v": {"path": "/mcp"}}, "virtual_servers.v.path: the path of the main endpoint"),
        ({"v": {"host": "a", "hosts": ["b"]}}, "virtual_servers.v.host: give either host or hosts"),
        ({"v": {"host": "http://a"}}, "virtual_servers.v.host: expected host names without scheme"),
        ({"v": {"hosts": ["*"]}}, "virtual_servers.v.hosts: expected host names without scheme"),
        ({"v": {"headers": {"Mcp-Session-Id": "a"}}}, "virtual_servers.v.headers: one of these headers has a meaning"),
        (
            {"v": {"headers": {"x-a": "1"}, "origins": ["https://a"]}},
            "v.origins: a browser asks for permission without",
        ),
        ({"v": {"origins": ["a.example"]}}, "virtual_servers.v.origins[0]: expected an origin"),
        ({"v": {"headers": {"x-a": ""}}}, "virtual_servers.v.headers.x-a: expected values of visible ASCII"),
        ({"v": {"servers": {"nobody": "all"}}}, "virtual_servers.v.servers.nobody: no server has this name"),
        ({"v": {"servers": {"gihub": "all"}}}, "servers.gihub: no server has this name, did you mean github?"),
        (
            {"v": {"servers": "all"}},
            "virtual_servers.v.servers: expected a mapping of servers, each with what is offered",
        ),
        ({"v": {"servers": ["github"]}}, "virtual_servers.v.servers: expected a mapping of servers, each with what"),
        (
            {"v": {"path": "/.well-known/oauth-protected-resource"}},
            "v.path: documents for OAuth clients are at such paths",
        ),
        (
            {"v": {"servers": {"github": "some"}}},
            "virtual_servers.v.servers.github: expected all, or a mapping with tools",
        ),
        (
            {"v": {"servers": {"github": None}}},
            "virtual_servers.v.servers.github: expected all, or a mapping with tools",
        ),
        (
            {"v": {"servers": {"github": {"tools": "issue_*"}}}},
            "servers.github.tools: expected all, or a list of names",
        ),
        ({"v": {"servers": {"github": {"tools": ["all"]}}}}, "servers.github.tools: write all without brackets"),
        (
            {"v": {"servers": {"github": {"tools": [{"regex": "("}]}}}},
            "servers.github.tools[0]: not a regular expression",
        ),
        (
            {"v": {"servers": {"github": {"tools": ["issue_drop"]}}}},
            "servers.github.tools[0]: the server does not offer",
        ),
        (
            {"v": {"servers": ANY, "rename": {"tools": {"issue": "x"}}}},
            "rename.tools.issue: nothing that is offered here",
        ),
        (
            {"v": {"servers": ANY, "rename": {"tools": {"d__a": "x"}}}},
            "rename.tools.d__a: nothing that is offered here",
        ),
        (
            {"v": {"servers": ANY, "rename": {"prompts": {"github__a": "x"}}}},
            "rename.prompts.github__a: nothing that is",
        ),
        (
            {"v": {"servers": ANY, "rename": {"tools": {"github__issue_drop": "x"}}}},
            "rename.tools.github__issue_drop: nothing that is offered here",
        ),
        (
            {"v": {"servers": ANY, "rename": {"tools": {"github__a": "x", "github__b": "x"}}}},
            "rename.tools.github__b: the same new name as that of github__a: choose another one",
        ),
        (
            {"v": {"servers": ANY, "rename": {"tools": {"github__a": "github__b"}}}},
            "rename.tools.github__a: github may offer something under the new name: choose another one",
        ),
        ({"v": {"servers": ANY, "rename": {"tools": {"github__a": "github__a"}}}}, "github may offer something under"),
        (
            {"v": {"servers": {**ANY, "plain": {"tools": ["a"]}}, "rename": {"tools": {"github__a": "a"}}}},
            "rename.tools.github__a: plain may offer something under the new name",
        ),
        (
            {"v": {"servers": ANY, "rename": {"tools": {"github__a": "a b"}}}},
            "rename.tools.github__a: expected a name of",
        ),
        (
            {"v": {"servers": ANY, "authorization": {"rules": [{"action": "allow", "servers": ["dates"]}]}}},
            "virtual_servers.v.authorization.rules[0].servers[0]: nothing of this server is offered here",
        ),
        (
            {"v": {"authorization": {"rules": [{"action": "allow", "principals": {"groups": ["a"]}}]}}},
            "virtual_servers.v.authorization.rules[0].principals: needs authentication",
        ),
        ({"v": {"path": "/a"}, "w": {"path": "/a"}}, "virtual_servers.w: all of its requests are those of v"),
        (
            {"v": {"hosts": ["*.a"]}, "w": {"host": "b.a", "headers": {"x-a": "1"}}},
            "virtual_servers.w: all of its requests are those of v",
        ),
    ],
)
def test_what_is_refused(virtual: dict[str, Any], problem: str) -> None:
    assert problem in error_of(text(virtual))


def test_two_that_share_a_path_or_a_host() -> None:
    virtual = {
        "headers": {"host": "a", "headers": {"x-a": "1"}}, "host": {"host": "a"}, "other": {"host": "b"},
        "below": {"host": "*.a"}, "path": {"path": "/a"}, "both": {"path": "/a", "host": "a"},
    }  # fmt: skip
    assert "virtual_servers.both: all of its requests are those of path" in error_of(text(virtual))
    del virtual["both"]
    assert len(endpoints(config(virtual))) == 6


# -- Without a main endpoint ---------------------------------------------------------------------------------------------

SAME = {"a": {"url": "http://a/", "prefix": "x"}, "b": {"url": "http://b/", "prefix": "x"}}


def alone(virtual: dict[str, Any], **more: Any) -> str:
    return text(virtual, main_endpoint=False, **{"servers": SAME, **more})


def test_without_a_main_endpoint_there_are_the_others_alone() -> None:
    virtual = {"v": {"path": "/mcp", "servers": {"a": "all"}}, "w": {"servers": {"b": "all"}}}
    read = native(alone(virtual))
    assert [(one.name, one.path, dict(one.starts)) for one in endpoints(read)] == [
        ("v", "/mcp", {"a": "x__"}), ("w", "/mcp/w", {"b": "x__"})
    ]  # fmt: skip
    assert dict(all_servers(read).starts) == {"a": "a__", "b": "b__"}


def test_servers_of_one_endpoint_have_different_prefixes() -> None:
    assert "servers.b and servers.a both have the same prefix" in error_of(
        alone({"v": {"servers": {"a": "all", "b": "all"}}})
    )
    assert native(alone({"v": {"servers": {"a": "all", "b": {}}}})).main_endpoint is False


def test_several_without_a_prefix_are_no_bare_names() -> None:
    servers = {"a": {"url": "http://a/", "prefix": ""}, "b": {"url": "http://b/", "prefix": ""}}
    apart = {"v": {"servers": {"a": "all"}}, "w": {"servers": {"b": "all"}}}
    assert native(alone(apart, servers=servers, bare_names=True)).bare_names
    together = {"v": {"servers": {"a": "all", "b": "all"}}}
    assert "bare_names: several servers have no prefix" in error_of(alone(together, servers=servers, bare_names=True))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"virtual_servers": {}}, "main_endpoint: without it, there has to be one of virtual_servers"),
        ({"virtual_server_header": True}, "virtual_server_header: it is the main endpoint's"),
    ],
)
def test_what_only_a_main_endpoint_has(more: dict[str, Any], problem: str) -> None:
    data = {"servers": SERVERS, "main_endpoint": False, "virtual_servers": {"v": {}}, **more}
    assert problem in error_of(json.dumps(data))


def test_filters_in_front_of_a_virtual_server() -> None:
    """That are really in front of it, and not of all ways to it."""
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    envoy = {
        "http_filters_before": [{"name": "a", "typed_config": lua}],
        "http_filters": [{"name": "b", "typed_config": lua}],
    }
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    assert endpoint({"typed_per_filter_config": {"a": off}}, envoy=envoy).typed_per_filter_config == {"a": off}
    behind = text({"v": {"typed_per_filter_config": {"b": off}}}, envoy=envoy)
    assert "v.typed_per_filter_config: a filter is configured that is not in envoy.http_filters_before" in error_of(
        behind
    )
    by_header = text({"v": {"typed_per_filter_config": {"a": off}}}, envoy=envoy, virtual_server_header=True)
    assert "it can be called at the main endpoint, without this: leave one of them out" in error_of(by_header)


def test_a_name_without_prefix_gets_no_new_one_where_it_may_be_of_several() -> None:
    servers = {"a": {"url": "http://a/", "prefix": ""}, "b": {"url": "http://b/", "prefix": ""}}
    one: dict[str, Any] = {"servers": {"a": "all", "b": "all"}, "rename": {"tools": {"x": "y"}}}
    assert "rename.tools.x: several servers here have no prefix" in error_of(text({"v": one}, servers=servers))
    del one["servers"]["b"]
    assert endpoint(one, servers=servers).rename.tools == {"x": "y"}


def test_names_may_be_swapped() -> None:
    rename = {"github__a": "github__b", "github__b": "github__a"}
    assert endpoint({"servers": ANY, "rename": {"tools": rename}}).rename.tools == rename


def test_a_name_that_only_a_pattern_might_take_is_free() -> None:
    """Of a server whose names have no prefix, any name might be one: then the new name hides it."""
    found = endpoint({"servers": {"plain": "all"}, "rename": {"tools": {"issue_read": "read"}}})
    assert found.rename.tools == {"issue_read": "read"}


def test_one_file_of_authorities_for_all_certificates() -> None:
    tls = {"listen": {"tls": {"certificate": "c", "key": "k"}}, "authentication": {"mtls": {"ca": "a.pem"}}}
    assert "virtual_servers.v.authentication.mtls.ca: another file than at another endpoint" in error_of(
        text({"v": {"authentication": {"mtls": {"ca": "b.pem"}}}}, **tls)
    )
    assert config({"v": {"authentication": {"mtls": {"ca": "a.pem"}}}}, **tls)


def test_its_certificates_come_by_tls() -> None:
    [problem] = certificates_without_tls(config({"v": {"authentication": {"mtls": {"ca": "a.pem"}}}}))
    assert str(problem).startswith("virtual_servers.v.authentication.mtls: requires listen.tls")


def test_its_files_and_warnings_have_its_place() -> None:
    own = {"mtls": {"ca": "gone.pem"}, "api_keys": {"file": "gone.yaml", "from": [{"header": "x-key"}]}}
    tls = {"listen": {"tls": {"certificate": "c", "key": "k"}}}
    assert [problem.path for problem in missing_files(config({"a/v": {"authentication": own}}, **tls))] == [
        "listen.tls.certificate", "listen.tls.key", 'virtual_servers["a/v"].authentication.mtls.ca',
        'virtual_servers["a/v"].authentication.api_keys.file',
    ]  # fmt: skip
    oauth = {"public_url": "https://gw.example", "oauth": {"issuers": [{"issuer": "https://idp.example"}]}}
    virtual = {"v": {"servers": ANY, "authentication": oauth}}
    [warning] = loads(text(virtual), "gateway.yaml", {}).warnings
    assert warning.startswith("virtual_servers.v.authentication.oauth.issuers[0] has no audiences")


@pytest.mark.parametrize(
    ("virtual", "url"),
    [
        ({"w": {"hosts": ["*.a.example"]}, "h": {"headers": {"x-a": "b"}}, "p": {"path": "/p"}}, "localhost:80/p"),
        ({"w": {"hosts": ["*.a.example", "b.example"], "path": "/"}}, "b.example:80/"),
        ({"w": {"hosts": ["*.a.example"], "path": "/"}}, "*.a.example:80/"),
    ],
)
def test_where_people_are_sent_without_a_main_endpoint(virtual: dict[str, Any], url: str) -> None:
    found = config({name: one | {"servers": ANY} for name, one in virtual.items()}, main_endpoint=False)
    assert url_of(shown(found), found.listen.model_copy(update={"port": 80})) == f"http://{url}"
