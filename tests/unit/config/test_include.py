from __future__ import annotations

from pathlib import Path

import pytest

from mcp_extproc.config import ConfigError, FileSource, Loaded, load, loads, only_commands

MAIN = "include: [servers.d/*.yaml]\nservers: {own: {url: 'http://own.example/'}}\nlisten: {port: 2000}\n"


def team(folder: Path, name: str, text: str) -> Path:
    (folder / "servers.d").mkdir(exist_ok=True)
    file = folder / "servers.d" / name
    file.write_text(text)
    return file


def one(name: str, url: str = "http://a.example/") -> str:
    return f"servers: {{{name}: {{url: '{url}'}}}}\n"


def main(folder: Path, text: str = MAIN) -> Path:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return file


def loaded(folder: Path, text: str = MAIN) -> Loaded:
    return load(main(folder, text), {"HOST": "h.example"})


def problems(folder: Path, text: str = MAIN) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    assert caught.value.__context__ is None
    return [str(problem) for problem in caught.value.problems]


def test_servers_of_all_files(tmp_path: Path) -> None:
    team(tmp_path, "b.yaml", one("b"))
    team(tmp_path, "a.yaml", one("a", "http://${HOST}/"))
    team(tmp_path, "a.txt", "no")
    team(tmp_path, "c.yaml", "")
    found = loaded(tmp_path)
    assert list(found.config.servers) == ["own", "a", "b"]
    assert found.config.servers["a"].url == "http://h.example/"
    assert (found.config.listen.port, found.warnings, found.config.include) == (2000, (), ())
    # Workers get all in one text.
    assert loads(found.text, "gateway.yaml", {"HOST": "h.example"}).config == found.config


def test_a_bridge_elsewhere_reads_included_commands(tmp_path: Path) -> None:
    team(tmp_path, "a.yaml", "servers: {a: {url: 'http://${NOPE}/'}, b: {command: [x]}}")
    found = load(main(tmp_path), {}, part=only_commands)
    assert list(found.config.servers) == ["b"]
    assert list(loads(found.text, "gateway.yaml", {}).config.servers) == ["b"]


def test_the_main_file_needs_no_servers(tmp_path: Path) -> None:
    team(tmp_path, "a.yaml", one("a"))
    assert list(loaded(tmp_path, "include: [servers.d/a.yaml]").config.servers) == ["a"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (one("own"), "servers.d/a.yaml servers.own: the main file has a server of this name"),
        (
            one("a") + "listen: {}",
            "servers.d/a.yaml line 2, listen: expected a section servers, and nothing else: this belongs into the main file",
        ),
        (
            "servers:\n  a:\n    uri: x",
            "servers.d/a.yaml line 3, servers.a.uri: unknown key, did you mean url?",
        ),
        ("servers: []", "servers.d/a.yaml: expected a section servers, and nothing else"),
        ("include: [x]", "servers.d/a.yaml: expected a section servers, and nothing else"),
        (
            one("a", "ftp://hunter2/"),
            "servers.d/a.yaml servers.a.url: expected a URL that starts with http:// or https://",
        ),
        (
            one("a", "http://${NOPE}/"),
            (
                "servers.d/a.yaml servers.a.url: the environment variable NOPE is not set: set it, or give a default with"
                " ${NOPE:-default}"
            ),
        ),
    ],
)
def test_problems_name_the_file(text: str, problem: str, tmp_path: Path) -> None:
    team(tmp_path, "a.yaml", text)
    assert problems(tmp_path) == [problem]


def test_what_is_wrong_in_the_main_file_has_its_line(tmp_path: Path) -> None:
    team(tmp_path, "a.yaml", one("a"))
    assert problems(tmp_path, MAIN.replace("port", "prot")) == ["line 3, listen.prot: unknown key, did you mean port?"]


def test_two_teams_and_one_name(tmp_path: Path) -> None:
    team(tmp_path, "a.yaml", one("x"))
    team(tmp_path, "b.yaml", one("x"))
    assert problems(tmp_path) == ["servers.d/b.yaml servers.x: servers.d/a.yaml has a server of this name"]


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    team(tmp_path, "a.yaml", "servers: {")
    [problem] = problems(tmp_path)
    assert problem.startswith("servers.d/a.yaml: line ")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path, "include: [a.yaml]") == ["include[0]: there is no such file"]
    assert loaded(tmp_path).warnings == ("include[0]: there is no such file",)
    assert problems(tmp_path, "include: servers.d") == ["include: expected a list of files, such as [servers.d/*.yaml]"]


def test_a_text_in_no_file_includes_nothing() -> None:
    with pytest.raises(ConfigError, match="include: only a file can include others"):
        loads(MAIN, "gateway.yaml", {})


def test_files_that_change_come_and_go_are_noticed(tmp_path: Path) -> None:
    first = team(tmp_path, "a.yaml", one("a"))
    source = FileSource(main(tmp_path), {})
    source.load()
    seen = [source.signature()]

    def changed() -> bool:
        seen.append(source.signature())
        return seen[-1] != seen[-2]

    assert not changed()
    first.write_text(one("a", "http://elsewhere.example/"))
    assert changed()
    second = team(tmp_path, "b.yaml", "servers: {")
    assert changed()
    with pytest.raises(ConfigError):
        source.load()
    # Corrected in place, which the folder does not show.
    second.write_text(one("b"))
    assert changed()
    assert list(source.load().config.servers) == ["own", "a", "b"]
    second.unlink()
    assert changed()
