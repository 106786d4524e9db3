"""How one configuration takes the place of another, without an Envoy and without processes. With them:
tests/e2e/test_reload.py."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from aiohttp import web

from mcp_extproc import tasks
from mcp_extproc.address import UnixAddress
from mcp_extproc.config import ConfigError, EnvoysSource, FileSource, GatewayConfig, Loaded
from mcp_extproc.config.api_keys import KeysByFile
from mcp_extproc.contract import FAILURE_HEADER, SERVER_HEADER
from mcp_extproc.envoy import watched_files
from mcp_extproc.envoy.files import Rendered
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.run import changes, file_watches, reload
from mcp_extproc.run.authorization_servers import AuthorizationServers
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.run.process import StartError
from mcp_extproc.run.reload import LiveConfig, Refused
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from mcp_extproc.run.supervisor import Supervisor


class Bug(Exception):
    """Nobody expects it."""


class Workers:
    """Stands for the supervisor."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self.served: list[set[str]] = []
        self.known: list[set[str]] = []
        """What Envoy's files had when the workers were replaced."""
        self.fails: Exception | None = None
        self.gone = asyncio.Event()
        self.breaks = 0
        """How often waiting for the old ones fails yet."""

    async def restart(self, config: Loaded) -> None:
        self.known.append(clusters(self.files))
        if self.fails is not None:
            raise self.fails
        self.served.append(set(config.config.servers))

    async def old_ones_gone(self) -> None:
        if self.breaks:
            self.breaks -= 1
            raise Bug
        await self.gone.wait()


class Stage:
    def __init__(self, directory: Path, *, strict: bool = False) -> None:
        self.file = directory / "gateway.yaml"
        self.files = directory
        self.write("a")
        self.workers = Workers(directory)
        layout = replace(Layout.in_directory(directory), admin=None)
        source = FileSource(self.file, {}, strict=strict)
        self.bridge = bridge = Bridge(layout, directory)
        self.issuers = AuthorizationServers(layout.keys)
        workers = cast("Supervisor", self.workers)
        self.live = LiveConfig(source, source.load(), None, workers, bridge, self.issuers, layout, directory)
        self.live.write_watched()
        self.live.write_bootstrap()

    def write(self, *servers: str) -> None:
        self.file.write_text(json.dumps({"servers": {name: {"url": f"http://{name}.example/mcp"} for name in servers}}))

    def stamps(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.files.glob("*.json")}

    async def until_known(self, *servers: str) -> None:
        await eventually(lambda: clusters(self.files), f"clusters {servers}", until=lambda seen: seen == set(servers))


def clusters(directory: Path) -> set[str]:
    resources = json.loads((directory / "cds.json").read_text())["resources"]
    return {cluster["name"].removeprefix("mcp/") for cluster in resources} - {"mcp_extproc", "mcp_nowhere"}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_start_renders_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[GatewayConfig] = []
    render = watched_files.render

    def counted(config: GatewayConfig, layout: Layout, directory: Path, api_keys: KeysByFile) -> Rendered:
        rendered.append(config)
        return render(config, layout, directory, api_keys)

    monkeypatch.setattr(watched_files, "render", counted)
    stage = Stage(tmp_path)
    assert rendered == [stage.live.served.config]


async def test_the_same_text_again_changes_nothing(stage: Stage) -> None:
    before = stage.stamps()
    stage.write("a")
    await stage.live.reload(even_if_same=False)
    assert (stage.workers.served, stage.stamps()) == ([], before)
    await stage.live.reload(even_if_same=True)
    assert (stage.workers.served, stage.stamps()) == ([{"a"}], before)
    await stage.live.close()


async def test_envoy_knows_a_server_before_the_workers_do_and_after(stage: Stage) -> None:
    stage.write("b")
    await stage.live.reload(even_if_same=False)
    assert stage.workers.known == [{"a", "b"}]
    assert stage.workers.served == [{"b"}]
    assert clusters(stage.files) == {"a", "b"}, "an old worker may still send to it"
    stage.workers.gone.set()
    await stage.until_known("b")
    await stage.live.close()


async def test_a_change_does_not_wait_for_what_is_left_of_the_one_before(stage: Stage) -> None:
    stage.write("b")
    await stage.live.reload(even_if_same=False)
    stage.write("c")
    await stage.live.reload(even_if_same=False)
    assert stage.workers.known == [{"a", "b"}, {"a", "b", "c"}]
    stage.write("a")
    await stage.live.reload(even_if_same=False)
    stage.workers.gone.set()
    await stage.until_known("a")
    await stage.live.close()


async def test_a_change_that_is_refused_does_not_keep_what_is_left_of_the_one_before(stage: Stage) -> None:
    stage.write("b")
    await stage.live.reload(even_if_same=False)
    stage.workers.fails = StartError("it does not start")
    stage.write("c")
    with pytest.raises(StartError):
        await stage.live.reload(even_if_same=False)
    assert clusters(stage.files) == {"a", "b"}
    stage.workers.gone.set()
    await stage.until_known("b")
    await stage.live.close()


@pytest.mark.parametrize("is_refused", [True, False])
async def test_children_of_a_server_that_changes_go_on_until_envoy_has_taken_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """The bridge is told of new servers before Envoy is, and of changed ones after."""
    told: list[object] = []

    async def serve(config: GatewayConfig) -> None:
        told.append({name: server.start_timeout for name, server in config.servers.items() if server.is_bridged})

    async def install(_: object) -> None:
        told.append("envoy")
        if is_refused:
            raise Refused("Envoy rejects cds.json; see its log")

    def write(**seconds: int) -> None:
        entries = {name: {"command": ["cat"], "start_timeout": given} for name, given in seconds.items()}
        stage.file.write_text(json.dumps({"servers": entries}))

    monkeypatch.setattr(stage.bridge, "serve", serve)
    write(changed=10)
    await stage.live.reload(even_if_same=False)
    await stage.live.close()
    told.clear()
    monkeypatch.setattr(stage.live, "_install", install)
    write(changed=20, new=30)
    with pytest.raises(Refused) if is_refused else nullcontext():
        await stage.live.reload(even_if_same=False)
    await stage.live.close()
    assert told == [
        {"changed": 10, "new": 30}, "envoy", {"changed": 10} if is_refused else {"changed": 20, "new": 30}
    ]  # fmt: skip


@pytest.mark.parametrize("error", [StartError("it does not start"), OSError(28, "No space left"), Bug()])
async def test_workers_that_do_not_start(stage: Stage, error: Exception) -> None:
    before = {path.name: path.read_bytes() for path in stage.files.glob("*.json")}
    stage.workers.fails = error
    stage.write("b")
    with pytest.raises(type(error)):
        await stage.live.reload(even_if_same=False)
    assert {path.name: path.read_bytes() for path in stage.files.glob("*.json")} == before
    assert set(stage.live.served.config.servers) == {"a"}
    await stage.live.close()


async def test_a_file_that_is_wrong(stage: Stage) -> None:
    before = stage.stamps()
    stage.file.write_text("servers: {")
    with pytest.raises(ConfigError):
        await stage.live.reload(even_if_same=True)
    stage.file.unlink()
    with pytest.raises(ConfigError):
        await stage.live.reload(even_if_same=True)
    assert (stage.workers.known, stage.stamps()) == ([], before)


async def test_a_change_that_envoy_could_not_watch_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a secret of its own brings a file; one without does not. An Envoy of others watches elsewhere."""
    monkeypatch.setattr(file_watches, "_available", lambda _: 0)

    def bring(name: str) -> None:
        client = {"token_endpoint": "https://b.example/token", "client_id": "me", "client_secret": "x"}
        secret = {"url": "http://b.example/mcp", "credentials": {"client_credentials": client}}
        stage.file.write_text(json.dumps({"servers": {"a": {"url": "http://a.example/mcp"}, name: secret}}))

    bring("others")
    await stage.live.reload(even_if_same=False)
    stage.live._envoy_log = stage.files / "envoy.log"
    stage.write("a", "plain")
    await stage.live.reload(even_if_same=False)
    before = {path.name: path.read_bytes() for path in stage.files.glob("*.json")}
    bring("secret")
    with pytest.raises(StartError, match="needs 1 more inotify instances, of which this user can have 0"):
        await stage.live.reload(even_if_same=False)
    assert {path.name: path.read_bytes() for path in stage.files.glob("*.json")} == before
    assert set(stage.live.served.config.servers) == {"a", "plain"}
    await stage.live.close()


@pytest.mark.parametrize("strict", [True, False])
async def test_a_strict_start_stays_strict(tmp_path: Path, strict: bool) -> None:
    stage = Stage(tmp_path, strict=strict)
    servers = {"b": {"url": "http://b.example/mcp"}, "local": {"type": "ws"}}
    stage.file.write_text(json.dumps({"mcpServers": servers}))
    with pytest.raises(ConfigError, match=r"mcpServers\.local") if strict else nullcontext():
        await stage.live.reload(even_if_same=False)
    assert stage.workers.served == ([] if strict else [{"b"}])
    await stage.live.close()


async def test_a_server_that_becomes_unservable_is_left_out_and_named(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    urls = {"a": {"url": "http://a.example/mcp"}, "b": {"url": "http://b.example/mcp"}}
    stage.file.write_text(json.dumps({"mcpServers": urls}))
    await stage.live.reload(even_if_same=False)
    stage.file.write_text(json.dumps({"mcpServers": {**urls, "b": {**urls["b"], "headers": {"A": "${NOT_SET}"}}}}))
    with caplog.at_level("INFO"):
        await stage.live.reload(even_if_same=False)
    assert stage.workers.served == [{"a", "b"}, {"a"}]
    [warning] = told(caplog, "config_warning")
    assert str(warning["warning"]).startswith("mcpServers.b is left out: headers.A: the environment variable NOT_SET")
    assert told(caplog, "config_reloaded")[-1]["removed"] == "b"
    await stage.live.close()


# -- Watching -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (changes, reload):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(tasks, "RESTART_SECONDS", (0.01,))


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    return [record.__dict__["mcp_fields"] for record in caplog.records if record.getMessage() == event]


async def test_the_watcher_outlives_a_bug(stage: Stage, at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    """Later edits are taken up, and what was served goes on until then."""
    stage.live.watch()
    stage.workers.fails = Bug()
    stage.write("b")
    await eventually(lambda: told(caplog, "config_refused"), "the watcher has got there")
    assert told(caplog, "config_refused") == [
        {
            "why": "the gateway failed to take it up (Bug); the trace says where",
            "effect": "the configuration before goes on",
        }
    ]
    assert [record.exc_info is not None for record in caplog.records if record.getMessage() == "config_refused"] == [
        True
    ]
    assert (clusters(stage.files), set(stage.live.served.config.servers)) == ({"a"}, {"a"})
    stage.workers.fails = None
    stage.write("c")
    await eventually(lambda: stage.workers.served, "the watcher has got there")
    assert stage.workers.served == [{"c"}]
    await stage.live.close()


async def test_a_number_that_envoy_can_not_have(stage: Stage, at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused with its path, and the next edit is taken up."""
    stage.live.watch()
    servers = {"b": {"url": "http://b.example/mcp"}}
    cluster = {"name": "authz", "connect_timeout": "1s", "foo": 99999999999999999999}
    stage.file.write_text(json.dumps({"servers": servers, "envoy": {"clusters": [cluster]}}))
    await eventually(lambda: told(caplog, "config_refused"), "the watcher has got there")
    [refused] = told(caplog, "config_refused")
    assert str(refused["why"]).startswith(f"{stage.file}: envoy.clusters[0].foo: a whole number beyond 2^53")
    stage.write("b")
    await eventually(lambda: stage.workers.served, "the watcher has got there")
    assert stage.workers.served == [{"b"}]
    await stage.live.close()


async def test_looking_at_the_file_breaks(
    stage: Stage, at_once: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter([Bug(), Bug()])
    look = FileSource.signature

    def breaks(source: FileSource) -> object:
        if (error := next(looks, None)) is not None:
            raise error
        return look(source)

    monkeypatch.setattr(FileSource, "signature", breaks)
    stage.live.watch()
    stage.write("b")
    await eventually(lambda: stage.workers.served, "the watcher has got there")
    assert [fields["task"] for fields in told(caplog, "task_failed")] == ["watch_config"] * 2
    await stage.live.close()


async def test_tidying_breaks(stage: Stage, at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody needs any more is taken away all the same."""
    stage.workers.breaks = 2
    stage.workers.gone.set()
    stage.write("b")
    await stage.live.reload(even_if_same=False)
    await stage.until_known("b")
    assert [fields["task"] for fields in told(caplog, "task_failed")] == ["tidy_envoy_config"] * 2
    await stage.live.close()


@pytest.mark.parametrize("only_the_path", [True, False])
async def test_a_server_that_speaks_sse_is_found_once_envoy_is_there(
    stage: Stage,
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    only_the_path: bool,
) -> None:
    """And stays found as long as its address does. The bridge's process and Envoy: tests/e2e/test_sse.py."""
    asked = []

    async def speaking(config: GatewayConfig, address: object) -> frozenset[str]:
        asked.append({name: server.transport for name, server in config.servers.items()})
        return frozenset({"old"} if "auto" in asked[-1].values() else ())

    monkeypatch.setattr(reload, "speaking_sse", speaking)
    monkeypatch.setattr(stage.bridge, "serve", nothing)
    stage.live.watch()
    stage.file.write_text(json.dumps({"mcpServers": {"old": {"url": "http://old.example/sse"}}}))
    await eventually(lambda: stage.workers.served, "the reload", until=lambda seen: seen == [{"old"}])
    assert asked == [{"a": "streamable_http"}]
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), stage.files / "upstreams.sock")
    await stage.until_known("old", "old/sse", "a")
    await eventually(lambda: stage.live.served.sse, "it is served", until=lambda names: names == {"old"})
    assert [fields["server"] for fields in told(caplog, "server_speaks_sse")] == ["old"]
    entries = {"old": {"url": "http://old.example/sse"}, "b": {"type": "http", "url": "http://b.example/mcp"}}
    stage.file.write_text(json.dumps({"mcpServers": entries}))
    await eventually(lambda: stage.workers.served[-1], "the reload", until=lambda names: names == {"old", "b"})
    assert stage.live.served.sse == {"old"}
    elsewhere = "http://old.example/mcp" if only_the_path else "http://new.example/sse"
    stage.file.write_text(json.dumps({"mcpServers": {"old": {"type": "http", "url": elsewhere}}}))
    await eventually(lambda: stage.live.served.sse, "it is elsewhere", until=lambda names: names == frozenset())
    await stage.live.close()
    server.close()
    await server.wait_closed()


async def nothing(_: GatewayConfig) -> None:
    """Instead of a process."""


async def test_closing_ends_the_watcher(stage: Stage, at_once: None) -> None:
    stage.live.watch()
    await stage.live.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_servers_of_a_change_that_do_not_answer_are_named_once(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the start are in its table."""
    monkeypatch.setattr(reload, "POLL_SECONDS", 0.01)
    asked: list[str] = []

    async def unreachable(request: web.Request) -> web.Response:
        asked.append(request.headers[SERVER_HEADER])
        return web.Response(status=503, headers={FAILURE_HEADER: "UpstreamConnectionFailure"})

    def named() -> list[dict[str, str]]:
        found = [record for record in caplog.records if record.getMessage() == "server_unavailable"]
        return [record.__dict__["mcp_fields"] for record in found]

    app = web.Application()
    app.router.add_post("/mcp", unreachable)
    runner = web.AppRunner(app)
    await runner.setup()
    upstreams = stage.live._layout.upstreams
    assert isinstance(upstreams, UnixAddress)
    await web.UnixSite(runner, upstreams.path).start()
    try:
        stage.live.watch()
        await stage.live.transports_found()
        stage.write("a", "b")
        await eventually(named, "a warning")
        stage.write("a", "b", "c")
        await eventually(named, "another one", until=lambda seen: len(seen) == 2)
        why = ".example:80 is unreachable (UpstreamConnectionFailure)"
        assert named() == [{"server": name, "why": f"{name}{why}"} for name in "bc"]
        assert asked == ["b", "c"]
    finally:
        await stage.live.close()
        await runner.cleanup()


async def test_a_certificate_that_envoy_can_not_read_leaves_the_configuration_before(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.live._source = EnvoysSource(stage.live._source)
    before = stage.stamps()
    stage.file.write_text(json.dumps({"servers": {"b": {"url": "https://b/mcp", "tls": {"ca": "/nowhere/ca.pem"}}}}))
    with pytest.raises(ConfigError, match=r"servers\.b\.tls\.ca: there is no such file"):
        await stage.live.reload(even_if_same=True)
    assert (stage.workers.served, stage.stamps(), set(stage.live.served.config.servers)) == ([], before, {"a"})


# -- API keys ---------------------------------------------------------------------------------------------------------


ALICES, BOBS = "alice-" + "k" * 20, "bob-" + "o" * 20


def with_keys(stage: Stage, *servers: str) -> Path:
    """The stage's configuration with a file of keys."""
    file = stage.files / "keys.yaml"
    sections = {"servers": {name: {"url": f"http://{name}.example/mcp"} for name in servers}}
    stage.file.write_text(json.dumps({**sections, "authentication": {"api_keys": {"file": str(file)}}}))
    return file


def keys_of(directory: Path, listener: str = "mcp") -> list[tuple[str, str]]:
    """Names and keys in the routes of a listener."""
    [table] = json.loads((directory / f"rds-{listener}.json").read_bytes())["resources"]
    [host] = table["virtual_hosts"]
    place = host["typed_per_filter_config"]["mcp_api_key_auth"]
    return [(item["client"], item["key"]) for item in place["credentials"]]


async def test_new_keys_change_routes_only(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with_keys(stage, "a").write_text(json.dumps({"alice": ALICES}))
    await stage.live.reload(even_if_same=False)
    stage.workers.gone.set()
    before = {name: (tmp_path / name).read_bytes() for name in ("cds.json", "lds.json", "envoy.json")}
    restarts = len(stage.workers.served)
    for listener in ("mcp", "mcp_batches"):
        assert keys_of(tmp_path, listener) == [("alice", ALICES)]
    (tmp_path / "keys.yaml").write_text(json.dumps({"alice": ALICES, "bob": [BOBS]}))
    await stage.live.reload_api_keys()
    for listener in ("mcp", "mcp_batches"):
        assert keys_of(tmp_path, listener) == [("alice", ALICES), ("bob", BOBS)]
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    assert len(stage.workers.served) == restarts
    assert not any(ALICES in content.decode() for content in before.values())
    await stage.live.close()


async def test_keys_that_can_not_be_used_change_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    file = with_keys(stage, "a")
    with pytest.raises(ConfigError, match=r"keys\.yaml: no such file"):
        await stage.live.reload(even_if_same=False)
    file.write_text(json.dumps({"alice": ALICES}))
    await stage.live.reload(even_if_same=False)
    for broken in ("", json.dumps({"alice": ALICES, "bob": ALICES}), json.dumps({"alice": ""})):
        file.write_text(broken)
        with pytest.raises(ConfigError):
            await stage.live.reload_api_keys()
        assert keys_of(tmp_path) == [("alice", ALICES)]
    # Another change is taken up meanwhile, with the keys that there are.
    with_keys(stage, "a", "b")
    await stage.live.reload(even_if_same=False)
    assert keys_of(tmp_path) == [("alice", ALICES)]
    await stage.live.close()


async def test_keys_that_envoy_refuses_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    file = with_keys(stage, "a")
    file.write_text(json.dumps({"alice": ALICES}))
    await stage.live.reload(even_if_same=False)

    async def refuse(*_: object) -> None:
        raise Refused("Envoy rejects it")

    with monkeypatch.context() as patched:
        patched.setattr(stage.live, "_install", refuse)
        file.write_text(json.dumps({"bob": BOBS}))
        with pytest.raises(Refused):
            await stage.live.reload_api_keys()
    assert keys_of(tmp_path) == [("alice", ALICES)]
    await stage.live.reload_api_keys()
    assert keys_of(tmp_path) == [("bob", BOBS)]
    await stage.live.close()


async def test_the_watcher_says_why_keys_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.01)
    stage = Stage(tmp_path)
    file = with_keys(stage, "a")
    file.write_text(json.dumps({"alice": ALICES}))
    await stage.live.reload(even_if_same=False)
    stage.live.watch()
    try:
        file.write_text(json.dumps({"alice": ALICES, "bob": ALICES}))
        refused = await eventually(
            lambda: [record for record in caplog.records if record.message == "api_keys_refused"], "it is logged"
        )
        assert ALICES not in repr(vars(refused[0]))
        file.write_text(json.dumps({"bob": BOBS}))
        await eventually(lambda: keys_of(tmp_path), "they are taken", until=lambda keys: keys == [("bob", BOBS)])
    finally:
        await stage.live.close()


class Rejecting(Admin):
    """Of an Envoy that has rejected its routes."""

    is_ready = True
    asked = 0

    async def ask(self, method: str, path: str) -> str | None:
        self.asked += 1
        if path.startswith("/stats") and "rds" in path:
            return "http.mcp.rds.mcp.update_rejected: 1\n"
        return "" if self.is_ready else None


async def test_what_an_envoy_of_others_rejects_when_it_starts_is_told_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "POLL_SECONDS", 0.01)
    stage = Stage(tmp_path)
    stage.live._admin = envoy = Rejecting(UnixAddress("nowhere"))

    async def says_it(times: int) -> None:
        await eventually(lambda: len(told(caplog, "envoy_rejects")), "it is told", until=lambda seen: seen == times)

    stage.live.watch()
    try:
        await says_it(1)
        envoy.is_ready, before = False, envoy.asked
        await eventually(lambda: envoy.asked, "it is noticed that it is gone", until=lambda seen: seen > before + 2)
        envoy.is_ready = True
        await says_it(2)
    finally:
        await stage.live.close()
    assert told(caplog, "envoy_rejects")[0]["why"] == "Envoy rejects rds-mcp.json; see its log"


async def test_what_envoy_rejects_is_told_without_keys(tmp_path: Path) -> None:
    """Envoy names a key that is there twice. We refuse that before; whatever else it may say of keys is not told either."""
    key, log = "k3y-" * 6, tmp_path / "envoy.log"
    log.write_text(f"[2026-01-01 00:00:00.000][7][warning][config] [fs.cc:81] update rejected: Duplicated key: {key}\n")
    layout = Layout.in_directory(tmp_path)
    whole = GatewayConfig.model_validate({
        "servers": {"a": {"url": "http://a.example/mcp"}},
        "authentication": {"api_keys": {"keys": {"alice": key}}},
    })  # fmt: skip
    [part] = [one for one in watched_files.render(whole, layout, tmp_path).routes if one.name == "rds-mcp.json"]
    assert key.encode() in part.text
    stage = Stage(tmp_path)
    stage.live._envoy_log = log
    assert str(stage.live._refused(part)) == "Envoy rejects rds-mcp.json: Duplicated key: [redacted]"
