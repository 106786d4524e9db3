"""What holds for whatever documents there are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from base64 import b64decode
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mcp_extproc.config import ConfigError, Loaded, Server, loads
from mcp_extproc.config.config_error import field
from mcp_extproc.config.writing import written
from tests.unit.config.kubernetes.strategies import (
    MARK,
    Document,
    File,
    at,
    files,
    host_of,
    key_of,
    paths,
    route_files,
    spoilt_files,
    with_value,
    without,
)
from tests.unit.config.kubernetes.strategies import Path as FieldPath
from tests.unit.config.kubernetes.support import text_of

DOCS = Path(__file__).parents[4] / "docs"


def read(file: File) -> Loaded:
    return loads(text_of(*file.documents), "documents.yaml", file.environ)


def said(file: File) -> tuple[Any, set[str]]:
    """What is read, or nothing; and what is said of it. Not on which lines."""
    try:
        loaded = read(file)
    except ConfigError as error:
        return None, {f"{problem.path}: {problem.message}" for problem in error.problems}
    return loaded.config, {re.sub(r"^line \d+, | \(line \d+\)", "", warning) for warning in loaded.warnings}


@settings(max_examples=40)
@given(files)
def test_what_is_valid_is_read_and_read_the_same_again(file: File) -> None:
    loaded = read(file)
    converted = written(loaded.config, {})
    assert loads(converted.text(loaded.warnings), "gateway.yaml", converted.secrets).config == loaded.config
    # What workers get.
    assert loads(loaded.text, "documents.yaml", {}).config == loaded.config


@settings(max_examples=100)
@given(spoilt_files())
def test_whatever_is_wrong_is_said_and_no_secret_with_it(file: File) -> None:
    try:
        loaded = read(file)
    except ConfigError as error:
        seen = str(error) + repr(error) + "".join(traceback.format_exception(error))
    else:
        seen = "".join(loaded.warnings) + repr(loaded)
    assert MARK not in seen


@settings(max_examples=40)
@given(files)
def test_no_secret_is_in_what_convert_prints(file: File) -> None:
    loaded = read(file)
    converted = written(loaded.config, {})
    assert MARK not in converted.text(loaded.warnings)
    assert MARK not in repr(converted)


# -- Nothing is dropped -------------------------------------------------------------------------------------------------


def sections(document: Document) -> Iterator[FieldPath]:
    """Of those whose keys mean something: neither Envoy's own nor what has names of the user's choice."""
    chosen = {"data", "stringData", "annotations", "sessionStore", "timeouts"}
    for path in [(), *paths(document)]:
        if isinstance(at(document, path), dict) and not chosen.intersection(map(str, path)):
            yield path


@settings(max_examples=40)
@given(files, st.data())
def test_a_key_that_is_not_known_is_named(file: File, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(file.documents) - 1))
    path = data.draw(st.sampled_from(list(sections(file.documents[index]))))
    _, problems = said(with_value(file, index, (*path, "planted"), {"a": "b"}))
    kind, name, namespace = key_of(file.documents[index])
    [told] = [one for one in problems if "planted" in one]
    assert told.startswith(f"{kind} {namespace or 'default'}/{name} ")


def no_meaning() -> set[tuple[str, str]]:
    """Kinds and keys of which the pages say so."""
    found = set()
    for page in ("mcp-route.md", "kuadrant.md"):
        for section in (DOCS / page).read_text(encoding="utf-8").split("\n## ")[1:]:
            kind = section.partition("\n")[0]
            for keys in re.findall(r"^\| (`.+`) \| .*no meaning.* \|$", section, re.MULTILINE):
                found |= {(kind, key) for key in re.findall(r"`([^`]+)`", keys)}
    return found


NO_MEANING = no_meaning()


def told_as(kind: str, path: FieldPath) -> set[str]:
    """What the pages call a key, and the sections that it is in."""
    text = "".join("[]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    whole = text if kind in ("Secret", "ConfigMap") else text.removeprefix("spec").lstrip(".")
    return {whole, *(whole[: found.start()] for found in re.finditer(r"\.|\[\]", whole))}


NAMED_BY_NONE = "has no effect: no document that is read names it"


def is_brokers(document: Document) -> bool:
    """Whether it is a Secret that a ``credentialRef`` names."""
    return document["kind"] == "Secret" and "token" in {**document.get("data", {}), **document.get("stringData", {})}


def left_out(file: File) -> set[str]:
    """Names of documents that a server consists of which is told to be left out: of them, nothing counts."""
    found: set[str] = set()
    for each in file.documents:
        if each["kind"] == "MCPServerRegistration" and each["spec"].get("state") == "Disabled":
            name, spec = each["metadata"]["name"], each["spec"]
            refs = (value for key, value in spec.items() if key.endswith("Ref"))
            found |= {name, f"{name}-backend", *(ref["name"] for ref in refs)}
    return found


def counts(file: File, index: int, path: FieldPath, said: Iterable[str]) -> bool:
    """Whether anything comes of what stands there; not if something around it is told to have no effect."""
    document = file.documents[index]
    kind, name, namespace = key_of(document)
    if name in left_out(file):
        return False
    told = {one.partition(": ")[0] for one in said}
    around = {f"{kind} {namespace or 'default'}/{name} {field(path[:end])}".rstrip() for end in range(len(path))}
    replaced = {key.rpartition("/")[2] for key in document["metadata"].get("annotations", {})}
    if kind == "BackendTLSPolicy" and any(one.startswith(f"{kind} {namespace or 'default'}/{name} ") for one in said):
        return False  # of what it is about
    if any(NAMED_BY_NONE in one and f"{namespace or 'default'}/{name}" in one for one in said):
        return False
    return (
        told.isdisjoint(around - {f"{kind} {namespace or 'default'}/{name} spec"})
        and not any((kind, key) in NO_MEANING for key in told_as(kind, path))
        # A placeholder, and what a credentialRef names.
        and path not in {("stringData", key) for key in replaced}
        and (path != ("stringData",) or not replaced.issuperset(document["stringData"]))
        and not is_brokers(document)
        # What has to be there in Kubernetes, and is the same by default here.
        and not (path[-1] == "group" and at(document, path) == "")
    )


@settings(max_examples=60)
@given(files, st.data())
def test_all_that_is_written_counts_or_the_page_says_that_it_does_not(file: File, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(file.documents) - 1))
    path = data.draw(st.sampled_from(list(paths(file.documents[index]))))
    config, told = said(file)
    if counts(file, index, path, told):
        assert said(without(file, index, path)) != (config, told)


@settings(max_examples=40)
@given(files, st.data())
def test_every_document_counts_or_is_told_to_have_no_effect(file: File, data: st.DataObject) -> None:
    # What a credentialRef names is not read, which is told where it is named.
    read = [number for number, one in enumerate(file.documents) if not is_brokers(one)]
    index = data.draw(st.sampled_from(read))
    others = [one for number, one in enumerate(file.documents) if number != index]
    assert said(File(others, file.environ)) != said(file)


# -- Several documents --------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(files, st.data())
def test_the_order_of_documents_is_of_no_matter(file: File, data: st.DataObject) -> None:
    """Of two routes that would take a request the first has it: those stay in their order, and servers in that of routes."""
    moved = iter(data.draw(st.permutations([one for one in file.documents if one["kind"] not in ORDERED])))
    documents = [one if one["kind"] in ORDERED else next(moved) for one in file.documents]
    assert said(File(documents, file.environ)) == said(file)


ORDERED = ("MCPRoute", "MCPServerRegistration", "MCPVirtualServer")


@settings(max_examples=40)
@given(route_files(), st.randoms())
def test_routes_in_another_order_have_the_same_servers(file: File, random: Random) -> None:
    documents = list(file.documents)
    random.shuffle(documents)
    one, other = read(file).config, read(File(documents, file.environ)).config
    assert (one.servers, one.listen) == (other.servers, other.listen)
    assert one.virtual_servers == other.virtual_servers


@settings(max_examples=40)
@given(route_files())
def test_each_route_has_the_servers_of_its_backends_and_no_others(file: File) -> None:
    config = read(file).config
    routes = [one for one in file.documents if one["kind"] == "MCPRoute"]
    seen: list[str] = []
    for route in routes:
        _, name, namespace = key_of(route)
        offered = config.virtual_servers[name].servers if config.virtual_servers else config.servers
        seen += offered
        by_prefix = {config.servers[server].prefix or server: config.servers[server] for server in offered}
        backends = {one["name"]: one for one in route["spec"]["backendRefs"]}
        assert by_prefix.keys() == backends.keys()
        for backend, server in by_prefix.items():
            [host, *_] = hosts_of(server)
            assert host == host_of(backend, namespace)
            assert keys_of(server) == keys_for(file, namespace, backends[backend])
    assert sorted(seen) == sorted(config.servers)


def hosts_of(server: Server) -> list[str | None]:
    urls = [server.url] if server.url is not None else [f"http://{one}" for one in server.endpoints]
    return [urlsplit(url).hostname for url in urls]


def keys_of(server: Server) -> list[str]:
    """The credentials in headers and in the query."""
    values = [value.get_secret_value() for value in server.headers.values()]
    values += [value for _, value in parse_qsl(urlsplit(server.path_and_query).query)]
    return [value.removeprefix("Bearer ") for value in values if MARK in value]


def keys_for(file: File, namespace: str | None, backend: Document) -> list[str]:
    """What a backend's ``apiKey`` says."""
    key = backend.get("securityPolicy", {}).get("apiKey")
    if key is None or "inline" in key:
        return [] if key is None else [key["inline"]]
    [secret] = [one for one in file.documents if key_of(one) == ("Secret", key["secretRef"]["name"], namespace)]
    annotations = secret["metadata"].get("annotations", {})
    if annotations:
        return [file.environ[annotations["substitution.aigw.run/env/apiKey"]]]
    return [secret["stringData"]["apiKey"] if "stringData" in secret else b64decode(secret["data"]["apiKey"]).decode()]


# -- Reading again ------------------------------------------------------------------------------------------------------

_READS = """
import json, sys
from mcp_extproc.config import ConfigError, loads
for text, environ in json.load(sys.stdin):
    try:
        loaded = loads(text, "documents.yaml", environ)
        print(loaded.text, loaded.warnings)
    except ConfigError as error:
        print(error)
"""


def test_every_process_reads_the_same() -> None:
    """Whatever order its sets have."""
    found: list[tuple[str, dict[str, str]]] = []

    @settings(max_examples=20, phases=[Phase.generate])
    @given(st.one_of(files, spoilt_files()))
    def collect(file: File) -> None:
        found.append((text_of(*file.documents), file.environ))

    collect()
    texts = json.dumps(found)
    said = [
        subprocess.run(
            [sys.executable, "-c", _READS], input=texts, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert len(said[0].splitlines()) >= len(found)
