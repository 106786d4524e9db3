"""Tokens that Envoy gets for itself: what is in its configuration, and what is not."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from mcp_extproc.config import GatewayConfig
from mcp_extproc.envoy.files import Rendered, write_secrets
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.client_credentials import needing_files
from mcp_extproc.envoy.watched_files import render

SECRET = "planted-client-secret-9fA1"
CLIENT = {
    "token_endpoint": "https://idp.example/token",
    "client_id": "gateway",
    "client_secret": SECRET,
    "scopes": ["a", "b"],
    "resource": "https://a.example/mcp",
}


def configured(**client: Any) -> GatewayConfig:
    credentials = {"client_credentials": {**CLIENT, **client}}
    return GatewayConfig.model_validate({
        "servers": {"a": {"url": "http://a.example/mcp", "credentials": credentials}, "b": {"url": "http://b.example/mcp"}}
    })  # fmt: skip


def rendered(directory: Path = Path("/run/mcp"), **client: Any) -> Rendered:
    return render(configured(**client), Layout.in_directory(directory), directory)


def clusters(whole: Rendered) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(whole.clusters.text)["resources"]}


def filters(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    [options] = cluster["typed_extension_protocol_options"].values()
    found: list[dict[str, Any]] = options["http_filters"]
    return found


def test_the_first_filter_of_the_servers_cluster() -> None:
    """So that what comes from a client or a worker is replaced, and retries have it, too."""
    found = clusters(rendered())
    injector = filters(found["mcp/a"])[0]
    assert injector["name"] == "mcp_client_credentials"
    assert injector["typed_config"]["overwrite"] is True
    assert "allow_request_without_credential" not in injector["typed_config"]
    oauth = injector["typed_config"]["credential"]["typed_config"]
    assert (oauth["token_endpoint"]["uri"], oauth["token_endpoint"]["cluster"]) == (
        CLIENT["token_endpoint"],
        "mcp_token/a",
    )
    assert oauth["scopes"] == ["a", "b"]
    assert oauth["endpoint_params"] == [{"name": "resource", "value": CLIENT["resource"]}]
    assert oauth["token_fetch_retry_interval"] == "1s"
    client = oauth["client_credentials"]
    assert (client["client_id"], client["auth_type"]) == ("gateway", "URL_ENCODED_BODY")
    secret = client["client_secret"]["sds_config"]
    assert secret["path_config_source"]["path"] == "/run/mcp/mcp-secret-a.json"
    assert all(one["name"] != "mcp_client_credentials" for one in filters(found["mcp/b"]))


def test_the_authorization_server_is_verified() -> None:
    cluster = clusters(rendered())["mcp_token/a"]
    assert "idp.example" in json.dumps(cluster["transport_socket"])
    assert "transport_socket" not in clusters(rendered(token_endpoint="http://127.0.0.1:9000/token"))["mcp_token/a"]


def test_basic_authentication_of_the_client() -> None:
    injector = filters(clusters(rendered(basic=True))["mcp/a"])[0]
    client = injector["typed_config"]["credential"]["typed_config"]["client_credentials"]
    assert client.get("auth_type", "BASIC_AUTH") == "BASIC_AUTH"


def test_the_secret_is_in_one_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    whole = rendered(tmp_path)
    for part in (whole.bootstrap, *whole.watched):
        assert SECRET.encode() not in part.text
    write_secrets(tmp_path, whole.secrets)
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [secret] = json.loads(file.read_bytes())["resources"]
    assert secret["generic_secret"]["secret"]["inline_string"] == SECRET
    injector = filters(clusters(whole)["mcp/a"])[0]
    client = injector["typed_config"]["credential"]["typed_config"]["client_credentials"]
    assert client["client_secret"]["name"] == secret["name"]
    assert client["client_secret"]["sds_config"]["path_config_source"]["path"] == str(file)


def test_a_secret_that_is_not_needed_any_more_goes(tmp_path: Path) -> None:
    mine = tmp_path / "sds-mine.json"
    mine.write_text("{}")
    write_secrets(tmp_path, rendered(tmp_path).secrets)
    write_secrets(tmp_path, [], alone=True)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_failed_injection_is_no_clients_fault() -> None:
    listeners = {one["name"]: json.dumps(one) for one in json.loads(rendered().listeners.text)["resources"]}
    for name, says in (("mcp", "credentials_unavailable"), ("mcp_upstreams", "CredentialsUnavailable")):
        assert "response.code_details == 'failed_to_inject_credential'" in listeners[name]
        assert says in listeners[name]


def test_where_there_are_no_files_it_is_refused() -> None:
    [problem] = needing_files(configured())
    assert problem.path == "servers.a.credentials.client_credentials"
    assert problem.message.startswith("Envoy reads the client's secret from a file")
    assert SECRET not in str(problem)
