"""The running configuration, and its replacement by another one without losing a call.

The order: the bridge's new servers, clusters and routes of all new servers, what changes at the bridge, then the workers one
after the other. When the last worker with the previous configuration has ended, what only that needed is removed, routes
before clusters.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.config import ConfigError, GatewayConfig, Loaded, Server, Source
from mcp_extproc.config.api_keys import KeysByFile
from mcp_extproc.envoy.files import BOOTSTRAP, File, Rendered, write, write_secrets
from mcp_extproc.envoy.layout import Layout, cluster_name
from mcp_extproc.gateway.redaction import Redactor
from mcp_extproc.run import file_watches
from mcp_extproc.run.api_keys import ApiKeys
from mcp_extproc.run.authorization_servers import AuthorizationServers
from mcp_extproc.run.bridge import Bridge
from mcp_extproc.run.changes import POLL_SECONDS, Changes, refusals_logged
from mcp_extproc.run.collector import CollectorProcess
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.run.envoy_log import rejection
from mcp_extproc.run.forked import in_a_fork
from mcp_extproc.run.process import StartError
from mcp_extproc.run.supervisor import Supervisor
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log
from mcp_extproc.upstreams.http_sse import speaking_sse
from mcp_extproc.upstreams.probe import ServerStatus, probe, probe_started

TAKE_SECONDS = 20.0
"""Deadline for Envoy to apply a file. Host names of new servers are resolved within this time."""

_TAKE_POLL_SECONDS = 0.02
_REFUSAL_CHARS = 1000
"""Of what Envoy says about a configuration."""
_WARMING = "cluster_manager.warming_clusters"

_SAY_SO = 'give it "type": "sse" in mcp-servers.json, or transport: sse in YAML: then it is not asked again'


_LOG = log.logger("config")


def _warn_of(status: ServerStatus) -> None:
    if status.problem is not None:
        why = f"{status.address} {status.problem}"
        log.event(_LOG, logging.WARNING, "server_unavailable", {"server": status.name, "why": why})


class Refused(Exception):
    """Envoy rejected a configuration. ``str()`` is the part that it rejected."""


class LiveConfig:
    """The configuration in use.

    Args:
        source: of the configuration.
        served: its content at the start.
        port: port for clients, instead of the configuration's.
        workers: the workers that use it.
        bridge: runs its stdio servers.
        issuers: keep its authorization servers' keys.
        layout: addresses of Envoy and the workers.
        directory: of the files that Envoy watches; ``None`` if Envoy is configured separately.
        envoy_log: where Envoy says why it rejects something; ``None`` if others have its log.
        collector: collects what its configuration asks for, if that is ours.
    """

    def __init__(
        self,
        source: Source,
        served: Loaded,
        port: int | None,
        workers: Supervisor,
        bridge: Bridge,
        issuers: AuthorizationServers,
        layout: Layout,
        directory: Path | None,
        envoy_log: Path | None = None,
        collector: CollectorProcess | None = None,
    ) -> None:
        self.served = served
        self._source = source
        self._changes = Changes(source)
        self._port = port
        self._workers = workers
        self._bridge = bridge
        self._issuers = issuers
        self._collector = collector
        self._api_keys = ApiKeys(served.config)
        self._layout = layout
        self._directory = directory
        self._envoy_log = envoy_log
        self._admin = Admin(layout.admin) if layout.admin is not None else None
        self._changing = asyncio.Lock()
        self._leaving: dict[str, Server] = {}
        """Servers that are not configured any more, and that Envoy still knows: there may be calls to them under way."""
        self._last_rendered: tuple[GatewayConfig, Rendered] | None = None
        self._tasks = Tasks(_LOG)
        self._tidying: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        """Set when there may be servers that were not asked what they speak."""
        self._found = asyncio.Event()
        self._introduced: Mapping[str, Server] | None = None
        """Servers of which it is known whether they answer: those of the start have a table."""

    def render_apart(self) -> None:
        """Render Envoy's files already, for when they are written, in a process that takes along what rendering needs and
        leaves behind. Not once an event loop, or a thread, has begun: a fork has what they hold, and not them."""
        config = self.served.config
        self._api_keys.of(config)  # which are read once, and kept
        if (rendered := in_a_fork(lambda: self._render(config), Rendered)) is not None:
            self._last_rendered = config, rendered

    def write_watched(self) -> None:
        """Write the files that Envoy watches.

        Raises:
            OSError: they can't be written.
            StartError: Envoy could not watch them.
        """
        assert self._directory is not None
        rendered = self._rendered(self.served.config)
        self._require_watches(self._directory, rendered)
        write_secrets(self._directory, rendered.secrets, alone=True)
        for part in rendered.watched:
            write(self._directory, part)

    def _require_watches(self, directory: Path, rendered: Rendered) -> None:
        """Of files that are new to Envoy, if it is ours. Another one may run as another user, or on another machine."""
        if self._envoy_log is not None:
            file_watches.require(
                sum(not (directory / file.name).exists() for file in (*rendered.secrets, *rendered.watched))
            )

    def write_bootstrap(self) -> bool:
        """Write Envoy's bootstrap, last: once it exists, all other files do. Returns whether it changed.

        Raises:
            OSError: it can't be written.
        """
        assert self._directory is not None
        return write(self._directory, self._rendered(self.served.config).bootstrap)

    # -- When ---------------------------------------------------------------------------------------------------------

    def reload_soon(self) -> None:
        """Have :meth:`watch` replace the workers, whether the configuration has changed or not."""
        self._changes.ask()

    def watch(self) -> None:
        """Take up what changes, until :meth:`close`. What can't be served is logged, and tried again after the next change."""
        self._tasks.keep("watch_config", self._watch)
        if self._directory is not None:
            self._tasks.keep("watch_api_keys", self._watch_api_keys)
            if self._envoy_log is None:
                self._tasks.keep("watch_envoy", self._watch_envoy)
            self._tasks.keep("find_transports", self._find_transports)

    async def transports_found(self) -> None:
        """Wait until the servers that :meth:`watch` found have been asked what they speak."""
        await self._found.wait()

    async def _find_transports(self) -> None:
        """Ask servers what they speak, at the start and after each change. Those behind an Envoy that is configured separately
        are not asked: it could not be told of the answer."""
        while True:
            if _unknown(self.served.config) and not await _is_there(self._layout.upstreams):
                await asyncio.sleep(POLL_SECONDS)  # Envoy has not started yet.
                continue
            await self._or_log(self.find_transports())
            self._found.set()
            await self._warn_of_silent_ones()
            await self._changed.wait()
            self._changed.clear()

    async def _warn_of_silent_ones(self) -> None:
        """Name the servers that a change brought and that do not answer: it is taken up without them."""
        config, known = self.served.config, self._introduced
        self._introduced = config.servers
        if known is None or not await _is_there(self._layout.upstreams):
            return
        new = {name: server for name, server in config.servers.items() if known.get(name) != server}
        asked = [] if not new else await probe(config.model_copy(update={"servers": new}), self._layout.upstreams)
        for status in asked:
            if status.state == "starting":
                self._tasks.start("follow_start", self._warn_unless_it_starts(config, status.name), server=status.name)
            else:
                _warn_of(status)

    async def _warn_unless_it_starts(self, config: GatewayConfig, name: str) -> None:
        status = await probe_started(config, self._layout.upstreams, name)
        if self.served.config.servers.get(name) == config.servers[name]:
            _warn_of(status)

    async def _watch_envoy(self) -> None:
        """Say what an Envoy that others start has rejected by then: it goes on without, and nobody waits for it."""
        was_ready = False
        while True:
            is_ready = self._admin is not None and await self._admin.ask("GET", "/ready") is not None
            if is_ready and not was_ready:
                try:
                    await self.require_taken()
                except Refused as refused:
                    effect = "it goes on without; without its routes a listener answers 404"
                    log.event(_LOG, logging.ERROR, "envoy_rejects", {"why": str(refused), "effect": effect})
            was_ready = is_ready
            await asyncio.sleep(POLL_SECONDS)

    async def _watch(self) -> None:
        while True:
            asked = await self._changes.next()
            if asked or self._directory is not None:
                await self._try_to_reload(asked)

    async def _try_to_reload(self, asked: bool) -> None:
        before = self.served
        await self._or_log(self.reload(even_if_same=asked))
        if asked or self.served is not before:
            self._changed.set()

    async def _or_log(self, change: Awaitable[None]) -> None:
        with refusals_logged(_LOG, "gateway", Refused):
            await change

    # -- How ----------------------------------------------------------------------------------------------------------

    async def reload(self, *, even_if_same: bool) -> None:
        """Apply the present configuration.

        Args:
            even_if_same: replace the workers even if it has not changed.

        Raises:
            ConfigError: it is invalid.
            Refused: Envoy rejects it.
            StartError: a worker does not start with it, or Envoy could not watch its files.
            OSError: the files for Envoy can't be written.
                After each of them, and any other exception, the configuration before goes on.
        """
        async with self._changing:
            new = self._source.load().with_port(self._port)
            if self._directory is not None:
                new.require_servers()
                new = self._with_the_same_socket(new)
            if new.is_same(self.served) and not even_if_same:
                return
            await self._take_up(new.with_sse(_still_sse(self.served, new)))

    async def find_transports(self) -> None:
        """Ask the servers with ``transport: auto`` what they speak, and serve those that speak HTTP+SSE as such. Others, and
        those that can't be reached, stay as they are.

        Raises:
            Refused, StartError, OSError: as with :meth:`reload`.
        """
        asked = self.served.config
        found = await speaking_sse(asked, self._layout.upstreams)
        async with self._changing:
            names = {name for name in found if self.served.config.servers.get(name) == asked.servers[name]}
            if not names:
                return
            for name in sorted(names):
                log.event(_LOG, logging.WARNING, "server_speaks_sse", {"server": name, "advice": _SAY_SO})
            await self._take_up(self.served.with_sse(names))

    async def _take_up(self, new: Loaded) -> None:
        await self._stop_tidying()
        before = self.served
        known = {**self._leaving, **before.config.servers}
        leaving = {name: server for name, server in known.items() if name not in new.config.servers}
        try:
            await self._bring_in(new, leaving)
            self.served, self._leaving = new, leaving
            self._api_keys.serve(new.config)
        finally:
            # After a refusal, too: there may be something left of the change before.
            self._tidying = self._tasks.keep("tidy_envoy_config", self._tidy)
        _tell(before, new)

    # -- API keys -----------------------------------------------------------------------------------------------------

    async def _watch_api_keys(self) -> None:
        changes = Changes(self._api_keys)
        while True:
            await changes.next()
            try:
                await self.reload_api_keys()
            except (ConfigError, Refused, OSError) as error:
                log.event(_LOG, logging.ERROR, "api_keys_refused", {
                    "why": str(error), "effect": "the keys before stay",
                })  # fmt: skip

    async def reload_api_keys(self) -> None:
        """Have Envoy take the present keys, if they have changed. Nothing else does: no worker is replaced.

        Raises:
            ConfigError: a file can't be used. Others are.
            Refused: Envoy rejects them.
            OSError: the files for Envoy can't be written.
                After each of them the keys before stay.
        """
        async with self._changing:
            keys, problems = self._api_keys.read()
            if keys:
                await self._take_keys(keys)
        for problem in problems:
            raise problem

    async def _take_keys(self, keys: KeysByFile) -> None:
        await self._stop_tidying()
        before = self._api_keys.replace(keys)
        self._last_rendered = None
        try:
            await self._install(self._rendered(_with(self.served.config, self._leaving)).routes)
        except BaseException:
            self._api_keys.replace(before)
            self._last_rendered = None
            for part in self._rendered(_with(self.served.config, self._leaving)).routes:
                write(self._directory or Path(), part)
            raise
        finally:
            self._tidying = self._tasks.keep("tidy_envoy_config", self._tidy)
        log.event(_LOG, logging.INFO, "api_keys_read", {"names": sum(map(len, keys.values()))})

    def _with_the_same_socket(self, new: Loaded) -> Loaded:
        """For another option of the listening socket Envoy would open another one, at another port if it chose that itself."""
        running = self.served.config.listen.limits.unread_timeout
        if new.config.listen.limits.unread_timeout == running:
            return new
        log.event(_LOG, logging.WARNING, "envoy_needs_restart", {
            "why": "listen.limits.unread_timeout has changed, which is an option of the listening socket: restart all",
        })  # fmt: skip
        return new.with_unread_timeout(running)

    async def close(self) -> None:
        """Watch no more, and give up what is not done yet. What Envoy does not need any more stays."""
        await self._tasks.close()

    async def _stop_tidying(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.wait({self._tidying})

    async def _bring_in(self, new: Loaded, leaving: Mapping[str, Server]) -> None:
        before = _with(self.served.config, self._leaving)
        try:
            # What changes follows once Envoy has not refused it: until then the children of what it was go on.
            await self._bridge.serve(_with(before, _new_to_the_bridge(before, new.config)))
            now = _with(new.config, leaving)
            await self._issuers.serve(new.config)
            await self._collect(new.config)
            rendered = self._rendered(now)
            if self._directory is not None:
                self._require_watches(self._directory, rendered)
                write_secrets(self._directory, rendered.secrets)
            await self._install(rendered.watched)
            await self._bridge.serve(now)
            await self._workers.restart(new)
        except Exception:
            if self._directory is not None:
                rendered = self._rendered(before)
                write_secrets(self._directory, rendered.secrets)
                for part in _removing(rendered):
                    write(self._directory, part)
            await self._bridge.serve(before)
            await self._issuers.serve(before)
            await self._collect(before)
            raise

    async def _collect(self, config: GatewayConfig) -> None:
        if self._collector is not None:
            await self._collector.serve(config)

    async def _tidy(self) -> None:
        """Remove what is not needed any more."""
        try:
            await self._workers.old_ones_gone()
            config = self.served.config
            rendered = self._rendered(config)
            await self._install([rendered.listeners, *rendered.routes])
            while self._leaving:
                for name in [name for name in self._leaving if await self._is_idle(name)]:
                    del self._leaving[name]
                await self._install([self._rendered(_with(config, self._leaving)).clusters])
                await self._bridge.serve(_with(config, self._leaving))
                if self._leaving:
                    await asyncio.sleep(POLL_SECONDS)
            if self._directory is not None:
                write_secrets(self._directory, rendered.secrets, alone=True)
            if self._directory is not None and write(self._directory, rendered.bootstrap):
                log.event(_LOG, logging.WARNING, "envoy_needs_restart", {
                    "why": "settings that Envoy reads only when it starts have changed",
                    "file": self._directory / BOOTSTRAP,
                })  # fmt: skip
        except (Refused, StartError, OSError) as error:
            log.event(_LOG, logging.ERROR, "envoy_config_not_tidied", {"why": str(error)})

    async def _is_idle(self, server: str) -> bool:
        """Whether a server has no running call. Envoy would end calls together with their cluster."""
        name = f"cluster.{cluster_name(server)}.upstream_rq_active"
        stats = await self._stats(f"^{re.escape(name)}$")
        return stats is None or stats.get(name, "0") == "0"

    async def _install(self, parts: Sequence[File]) -> None:
        """Write files one after the other, each after Envoy applied the one before. Without a running Envoy, don't wait."""
        if self._directory is None:
            return
        for part in parts:
            rejected = await self._rejections(part)
            if write(self._directory, part) and rejected is not None:
                await self._taken(part, rejected)

    async def require_taken(self) -> None:
        """Check that an Envoy that has just started has taken all that it watches. It goes on without what it rejects.

        Raises:
            Refused: it has not.
        """
        for part in self._rendered(self.served.config).watched:
            if await self._rejections(part):
                raise self._refused(part)

    def _refused(self, part: File) -> Refused:
        if self._envoy_log is None:
            return Refused(f"Envoy rejects {part.name}; see its log")
        why = Redactor(part.secrets or (), "")(rejection(self._envoy_log), _REFUSAL_CHARS)
        return Refused(f"Envoy rejects {part.name}: {why}")

    async def _taken(self, part: File, rejected: int) -> None:
        """Wait until Envoy has applied a file.

        Raises:
            Refused: it rejects the file, or does not respond in time.
        """
        deadline, taken = time.monotonic() + TAKE_SECONDS, False
        while time.monotonic() < deadline:
            now = await self._stats(f"^{re.escape(part.stat)}\\.|^{_WARMING}$")
            if now is None:
                return  # Envoy has ended, and will read the files when it starts again.
            if int(now.get(f"{part.stat}.update_rejected", 0)) > rejected:
                raise self._refused(part)
            taken = now.get(f"{part.stat}.version_text") == part.version
            if taken and now.get(_WARMING) == "0":
                return
            await asyncio.sleep(_TAKE_POLL_SECONDS)
        if taken:
            # For example, names of new servers can't be resolved. The others need not wait.
            log.event(_LOG, logging.WARNING, "clusters_still_warming", {"seconds": TAKE_SECONDS})
            return
        raise Refused(f"Envoy did not apply {part.name} within {TAKE_SECONDS:g} s; see its log")

    async def _rejections(self, part: File) -> int | None:
        """How often Envoy has rejected one file so far; ``None`` if Envoy does not run."""
        stats = await self._stats(f"^{re.escape(part.stat)}\\.")
        return None if stats is None else int(stats.get(f"{part.stat}.update_rejected", 0))

    async def _stats(self, pattern: str) -> Mapping[str, str] | None:
        return None if self._admin is None else await self._admin.stats(pattern)

    def _rendered(self, config: GatewayConfig) -> Rendered:
        """Envoy's files. Those of the last configuration are kept: rendering blocks for a good part of a second."""
        if self._last_rendered is None or self._last_rendered[0] is not config:
            self._last_rendered = config, self._render(config)
        return self._last_rendered[1]

    def _render(self, config: GatewayConfig) -> Rendered:
        from mcp_extproc.envoy import watched_files  # a supervisor whose configuration never changes does without

        return watched_files.render(config, self._layout, self._directory or Path(), self._api_keys.of(config))


def _unknown(config: GatewayConfig) -> bool:
    """Whether there are servers that have to be asked what they speak."""
    return any(server.transport == "auto" for server in config.servers.values())


async def _is_there(address: Address) -> bool:
    """Whether somebody listens at an address."""
    try:
        if isinstance(address, UnixAddress):
            _, writer = await asyncio.open_unix_connection(address.path)
        else:
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


def _still_sse(served: Loaded, new: Loaded) -> set[str]:
    """Servers that were found to speak HTTP+SSE, and that are at the same place."""
    was, now = served.config.servers, new.config.servers
    return {name for name in served.sse if name in now and _place(now[name]) == _place(was[name])}


def _place(server: Server) -> tuple[object, ...]:
    return server.addresses, server.unix_socket, server.uses_tls, server.path_and_query


def _with(config: GatewayConfig, servers: Mapping[str, Server]) -> GatewayConfig:
    """A configuration, including servers that are no longer in it, or not yet."""
    return config.model_copy(update={"servers": {**config.servers, **servers}}) if servers else config


def _new_to_the_bridge(before: GatewayConfig, new: GatewayConfig) -> dict[str, Server]:
    """The servers that the bridge gets, and that it has nothing of."""
    has = {name for name, server in before.servers.items() if server.is_bridged}
    return {name: server for name, server in new.servers.items() if server.is_bridged and name not in has}


def _removing(rendered: Rendered) -> tuple[File, ...]:
    """The order in which nothing is removed while it is referenced."""
    return (rendered.listeners, *rendered.routes, rendered.clusters)


def _tell(before: Loaded, new: Loaded) -> None:
    if new.is_same(before):
        log.event(_LOG, logging.INFO, "workers_replaced")
        return
    for warning in new.warnings:
        log.event(_LOG, logging.WARNING, "config_warning", {"warning": warning})
    was, now = before.config.servers, new.config.servers
    log.event(_LOG, logging.INFO, "config_reloaded", {
        "servers": ",".join(now),
        "added": ",".join(name for name in now if name not in was),
        "removed": ",".join(name for name in was if name not in now),
        "changed": ",".join(name for name in now if name in was and now[name] != was[name]),
    })  # fmt: skip
