"""The documentation, held to the code: whatever it names exists, and whatever it shows works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.config import GatewayConfig, load
from mcp_extproc.config.agents.places import AGENTS, places
from mcp_extproc.contract import ORDINARY_KEY
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.access_log import FIELDS
from mcp_extproc.envoy.render.bootstrap import bootstrap, to_json
from mcp_extproc.gateway.facts import RequestFacts
from mcp_extproc.gateway.headers import PASSED
from mcp_extproc.gateway.legs import NO_ROOM, STARTING
from mcp_extproc.gateway.relay.outcomes import ANSWERED, CREDENTIALS_REFUSED, CREDENTIALS_UNAVAILABLE
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.mcp import methods, versions
from mcp_extproc.run.envoy_binary import find_envoy
from mcp_extproc.telemetry.instruments import ALL
from mcp_extproc.telemetry.prometheus import name_of

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "configuration.md"  # tests/unit/config/test_schema.py tests its examples
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md", "SECURITY.md")]
DOCUMENTS += [ROOT / ".github" / "pull_request_template.md", *sorted((ROOT / "docs").glob("*.md"))]
HAND_WRITTEN = [path for path in DOCUMENTS if path != GENERATED]

FENCES = {"mermaid", "yaml gateway", "json gateway", "yaml envoy-filter", "json", "sh", "text", "promql"}
"""What fenced blocks may say of themselves."""

# What the commands of the documentation find in the folder that they run in.
ENVIRONMENT = {"GITHUB_TOKEN": "t", "MCP_SESSION_SECRET": "s" * 32}
STARTS_NOTHING = {"validate", "envoy", "schema"}
FILES = ["gateway.yaml", "mcp-servers.json", "mcp-route.yaml", "kuadrant.yaml"]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(*infos: str) -> list[Block]:
    """The fenced blocks of the hand-written documents; of these kinds only, where some are given."""
    found = []
    for document in HAND_WRITTEN:
        text = document.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if not infos or match[1] in infos:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(document, line, match[1], match[2]))
    return found


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def commands(program: str) -> list[tuple[Block, list[str]]]:
    """The arguments of each command of this program in the shell blocks."""
    found = []
    for block in blocks("sh"):
        for line in block.text.splitlines():
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words and words[0] == program:
                found.append((block, words[1:]))
    assert found
    return found


def tables(document: str, heading: str) -> list[list[list[str]]]:
    """The tables of one section, as rows of cells, without their heads."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    section = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"{document} has no section {heading}"
    found = re.findall(r"^\|[^\n]*\n\|[ -|]*\n((?:\|[^\n]*\n)+)", section[2], re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in t.splitlines()] for t in found]


def codes(cell: str) -> list[str]:
    """What a cell puts in backticks."""
    return _CODE.findall(cell)


# -- Examples -------------------------------------------------------------------------------------------------------------


def test_blocks_say_what_they_are() -> None:
    assert {block.info for block in blocks()} <= FENCES


@pytest.mark.parametrize("block", blocks("yaml gateway", "json gateway"), ids=str)
def test_gateway_configurations_load(block: Block, tmp_path: Path) -> None:
    file = tmp_path / ("gateway.yaml" if block.info.startswith("yaml") else "mcp-servers.json")
    file.write_text(block.text, encoding="utf-8")
    loaded = load(file, ENVIRONMENT)
    assert loaded.config.servers or "pass_through" in loaded.config.model_fields_set
    assert loaded.warnings == ()


@pytest.mark.parametrize("name", FILES)
def test_the_samples_configurations_load(name: str) -> None:
    loaded = load(ROOT / "examples" / name, {"NOTES_PORT": "5001"})
    assert loaded.warnings == ()
    assert loaded.config.servers["notes"].addresses == (("127.0.0.1", 5001),)
    [(host, port)] = loaded.config.servers["dates"].addresses
    assert (host, port) in (("127.0.0.1", 3002), ("localhost", 3002))


OWN_FILTERS = [
    "cors", "mcp_origin", "custom_response", "buffer", "ext_proc", "mcp_responses", "mcp_refused", "mcp_length",
]  # fmt: skip


def with_filters(configuration: dict[str, Any], filters: list[Any]) -> dict[str, Any]:
    """A bootstrap with more HTTP filters, in the place that the documentation gives them."""
    [clients] = [item for item in configuration["staticResources"]["listeners"] if item["name"] == "mcp"]
    chain = clients["filterChains"][0]["filters"][0]["typedConfig"]["httpFilters"]
    assert [item["name"].rpartition(".")[2] for item in chain] == [*OWN_FILTERS, "router"]
    chain[-1:-1] = filters
    return configuration


def test_envoy_accepts_the_filters(tmp_path: Path) -> None:
    filters = [yaml.safe_load(block.text) for block in blocks("yaml envoy-filter")]
    assert filters
    config = GatewayConfig.model_validate({"servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}}})
    rendered = json.loads(to_json(bootstrap(config, Layout.in_directory(tmp_path))))
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(with_filters(rendered, filters)))
    done = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


# -- Commands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "arguments"),
    commands("mcp-extproc"),
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_are_as_documented(
    block: Block, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        shutil.copy(ROOT / "examples" / name, tmp_path)
    shutil.copy(ROOT / "envoy" / "existing.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    if arguments[0] in STARTS_NOTHING:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
    else:
        _parse(cli, arguments)


def _parse(command: click.Command, arguments: list[str]) -> None:
    """Read a command line as the program would, without carrying it out. Raises click.UsageError."""
    context = command.make_context(command.name, list(arguments))
    if isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, list(arguments))
        assert name is not None
        assert found is not None
        _parse(found, rest)
    else:
        file = context.params.get("file")
        assert file is None or Path(file).exists()


def test_envoys_are_started_without_an_abstract_socket() -> None:
    """Every user of the machine can connect to that of hot restart."""
    started = [words for _, words in commands("envoy") if "-c" in words]
    assert len(started) >= 4
    assert [words for words in started if "--disable-hot-restart" not in words] == []


def test_inline_commands_exist() -> None:
    for document in DOCUMENTS:
        for code in _CODE.findall(prose(document)):
            words = code.split()
            if words[0] == "mcp-extproc" and len(words) > 1:
                command: click.Command = cli
                for word in words[1:]:
                    if word.startswith("--"):
                        assert word in {option for p in command.params for option in p.opts}, f"{document.name}: {code}"
                    elif isinstance(command, click.Group):
                        assert word in command.commands, f"{document.name}: {code}"
                        command = command.commands[word]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[0] for _, words in commands("make")}
    for document in DOCUMENTS:
        named |= {code.split()[1] for code in _CODE.findall(prose(document)) if code.startswith("make ")}
    assert named <= targets
    assert targets - {"help"} <= named, "every target is documented"


def test_python_files_in_commands_exist() -> None:
    for block, words in commands("python"):
        assert (ROOT / words[0]).is_file(), block


# -- Names ----------------------------------------------------------------------------------------------------------------


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for text, target in _LINK.findall(prose(document)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        assert not anchor or anchor in _anchors(path), target
        for test in re.findall(r"^`(test_\w+)`$", text):
            assert f"def {test}(" in path.read_text(encoding="utf-8"), f"{target} has no {test}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_tests_exist(document: Path) -> None:
    top = {path.name for path in ROOT.iterdir() if path.is_dir()}
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    for code in _CODE.findall(prose(document)):
        if re.fullmatch(r"[\w.-]+/[\w./-]*", code) and code.partition("/")[0] in top:
            assert (ROOT / code).exists(), code
        if re.fullmatch(r"test_\w+", code):
            assert code in tests, code


def test_sections_that_the_code_refers_to_exist() -> None:
    """Comments and docstrings name documents, and sections of them in quotes."""
    pattern = re.compile(r"docs/([a-z-]+\.md)(?:, \"([^\"]+)\")?")
    found = 0
    folders = ("mcp_extproc", "tests", "bench", "examples", "compose")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".sh")
    ]
    for path in [*files, ROOT / "docker-compose.yaml"]:
        if path == Path(__file__):
            continue
        for name, heading in pattern.findall(path.read_text(encoding="utf-8")):
            document = ROOT / "docs" / name
            assert document.exists(), f"{path}: {name}"
            assert not heading or re.search(rf"^#+ {re.escape(heading)}$", document.read_text(), re.MULTILINE), (
                f"{path}: {name} has no section {heading}"
            )
            found += 1
    assert found


# -- Tables ---------------------------------------------------------------------------------------------------------------


def test_the_tables_of_methods() -> None:
    requests, notifications = tables("protocol.md", "Methods")
    for table, rows in ((methods.REQUESTS, requests), (methods.NOTIFICATIONS, notifications)):
        documented = {codes(name)[0]: what for name, what in rows if codes(name)}
        assert documented == {method.name: method.handling.value for method in table.values()}


def test_the_versions() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\*\*(\d{4}-\d{2}-\d{2})\*\*", text)) == set(versions.SUPPORTED)


def test_every_reason_is_in_the_table_of_errors() -> None:
    """The words of ``error_reason``, wherever the gateway makes an error."""
    made: set[str] = set()
    for name in ("gateway/refusals.py", "mcp/envelope.py", "extproc/exchange.py"):
        text = (ROOT / "mcp_extproc" / name).read_text(encoding="utf-8")
        made |= set(re.findall(r'reason(?:: str)? ?= ?"(\w+)"', text))
        made |= set(re.findall(r'_transport\(\s*\d+,\s*"(\w+)"', text))
        made |= set(re.findall(r'"(duplicate_\w+)"', text))
        made |= set(re.findall(r'_not_run\("(\w+)"', text))
    made |= {f"consent_{verdict.value}" for verdict in Verdict if verdict is not Verdict.GIVEN}
    rows = tables("protocol.md", "Bad input")[0]
    assert {word for row in rows for word in codes(row[2])} == made


def test_every_reason_of_a_partial_answer_is_told() -> None:
    made = {"truncated"}
    words = {"NO_ROOM": NO_ROOM, "STARTING": STARTING, "CREDENTIALS_REFUSED": CREDENTIALS_REFUSED}
    words["outcomes.CREDENTIALS_UNAVAILABLE"] = CREDENTIALS_UNAVAILABLE
    for path in (ROOT / "mcp_extproc" / "upstreams").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name, word in words.items():
            text = text.replace(name, f'"{word}"')
        made |= set(re.findall(r'(?:UpstreamError|ErrorAnswer|super\(\).__init__)\(\s*"(\w+)"', text))
        made |= set(re.findall(r'Failed\(\s*[\w.]+,\s*"(\w+)"', text))
        made |= {word for line in re.findall(r"reason = (.*)", text) for word in re.findall(r'"([a-z_]+)"', line)}
    rows = tables("protocol.md", "Partial results")[0]
    assert {codes(row[0])[0] for row in rows} == made


def test_every_key_of_the_metadata_is_told() -> None:
    keys = {word.partition(".")[0] for row in tables("protocol.md", "Metadata")[0] for word in codes(row[0])}
    known = RequestFacts(
        id=b"1", method="m", params={"name": "n"}, session="s", protocol_version="v", client="c", session_error="e",
        principal="p", issuer="i", endpoint="v", server="s", named=("tool", "t"), batch=1, resumes="m", repair=True,
        consent="given", unavailable=("s",), error=(1, "r"), native=True, rule="r", passed_on="more", session_seconds=1.0,
    )  # fmt: skip
    assert set(known.__struct_fields__) == {name for name in known.__struct_fields__ if getattr(known, name)}
    made = {*known.metadata(), "prompt", "shown", "forwarded", "early", "answered", ORDINARY_KEY, *ANSWERED}
    inspected = (ROOT / "mcp_extproc" / "gateway" / "policy" / "inspect.py").read_text()
    made |= set(re.findall(r'facts(?: = \{|\[)"(\w+)"', inspected)) | set(re.findall(r'facts, "(\w+)":', inspected))
    assert made <= keys
    assert keys - made <= {"passthrough_reason"}, "what nobody writes"
    logged = {
        match.partition(":")[0] for value in FIELDS.values() for match in re.findall(r"mcp_proxy:([\w:]+)\)", value)
    }
    assert logged <= keys


def test_every_field_of_the_access_log_is_told() -> None:
    rows = tables("access-log.md", "Access log")[0]
    assert {word for row in rows for word in codes(row[0])} == FIELDS.keys()


def test_every_metric_is_told() -> None:
    rows = tables("observability.md", "Metrics")[0]
    told = [(*map(tuple, map(codes, row[:2])), row[2], *map(tuple, map(codes, row[3:5])), row[5]) for row in rows]
    assert told == [
        ((each.name,), (name_of(each),), each.kind.value, (each.unit,), each.labels, each.meaning) for each in ALL
    ]


def test_the_headers_that_pass_are_told() -> None:
    """Apart from the hop-by-hop ones, and one that is refused before."""
    hop_by_hop = {"connection", "transfer-encoding", "te", "expect", "upgrade", "content-encoding"}
    told = {word.lower() for row in tables("protocol.md", "Headers")[0] for word in codes(row[0])}
    assert PASSED - hop_by_hop <= told


def test_every_listener_and_filter_is_told(tmp_path: Path) -> None:
    config = GatewayConfig.model_validate({"servers": {"notes": {"url": "http://127.0.0.1:3001/mcp"}}})
    rendered = json.loads(to_json(bootstrap(config, Layout.in_directory(tmp_path))))
    listeners, routes = tables("envoy.md", "What is in it")[:2]
    manager = {
        item["name"]: item["filterChains"][0]["filters"][0]["typedConfig"]
        for item in rendered["staticResources"]["listeners"]
    }
    assert {codes(row[0])[0]: codes(row[2]) for row in listeners} == {
        name: [item["name"].rpartition(".")[2] for item in found["httpFilters"]] for name, found in manager.items()
    }
    [host] = manager["mcp"]["routeConfig"]["virtualHosts"]
    assert [codes(row[0])[0].replace("<server>", "notes") for row in routes] == [r["name"] for r in host["routes"]]


def test_every_place_of_agents_is_told() -> None:
    """In the order in which they are looked at."""
    found: dict[str, tuple[list[str], list[str]]] = {agent: ([], []) for agent in AGENTS}
    for place in places(Path("~"), Path(), {}, "linux"):
        found[place.agent][0 if place.project is not None else 1].append(str(place.path))
    told = {
        codes(agent)[0]: ([word for word in codes(project) if word != "projects"], codes(user))
        for agent, project, user in tables("agents.md", "Where it looks")[0]
    }
    assert told == found


# -- Evidence -------------------------------------------------------------------------------------------------------------


def _sections(document: str) -> dict[str, str]:
    """The text of each section up to the next heading, by heading."""
    parts = re.split(r"^#+ (.+)\n", (ROOT / "docs" / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("document", ["resilience.md", "docker.md", "stdio.md"])
def test_every_claim_is_in_the_evidence(document: str) -> None:
    """What happens then, and the options: the rows of these tables are claims."""
    claims = 0
    for heading, text in _sections(document).items():
        if re.search(
            r"^\| (what \| then|key \| Envoy's option|\| what happens|killed with SIGKILL)", text, re.MULTILINE
        ):
            [claimed] = tables(document, heading)[:1]
            evidence = tables("evidence.md", f"{document.partition('.')[0].capitalize()}: {heading}")[0]
            assert [row[0] for row in evidence][: len(claimed)] == [row[0] for row in claimed], heading
            claims += len(claimed)
    assert claims


def test_every_attack_is_in_the_evidence() -> None:
    [tried], [evidence] = tables("security.md", "Tried"), tables("evidence.md", "Security: Tried")
    assert [row[0] for row in evidence] == [row[0] for row in tried]


def test_evidence_is_tests() -> None:
    rows = [row for heading in _sections("evidence.md") for table in tables("evidence.md", heading) for row in table]
    assert rows
    for _, tests in rows:
        assert not re.sub(r"\[`test_\w+`\]\(\.\./tests/[\w/]+\.py\)(, |$)", "", tests), tests


def test_tests_are_named_on_the_contributors_pages_only() -> None:
    for document in HAND_WRITTEN:
        if document.name not in ("evidence.md", "design.md", "CONTRIBUTING.md", "CHANGELOG.md"):
            assert not re.search(r"`test_\w+`", prose(document)), document.name
