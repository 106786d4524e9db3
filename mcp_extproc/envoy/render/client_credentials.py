"""Tokens that Envoy gets for itself, as an OAuth client, and puts into requests to a server.

Source: OAuth 2.1 section 4.2 (client credentials grant), RFC 8707 (resource); Envoy, "Credential Injector". It is a filter of
the server's cluster: calls, retries and what workers ask for themselves have the token, and no worker sees it. The secret of
the client is in a file of its own, which Envoy reads by SDS: Envoy shows no such secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcp_extproc.config import GatewayConfig, Server
from mcp_extproc.config.config_error import Problem, field
from mcp_extproc.config.credentials import ClientCredentials
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster
from mcp_extproc.envoy._api.config_core_v3 import (
    ApiVersion,
    ConfigSource,
    HttpUri,
    PathConfigSource,
    TypedExtensionConfig,
)
from mcp_extproc.envoy._api.filters_http_credential_injector_v3 import CredentialInjector
from mcp_extproc.envoy._api.filters_network_http_connection_manager_v3 import HttpFilter
from mcp_extproc.envoy._api.http_injected_credentials_oauth2_v3 import (
    OAuth2,
    OAuth2AuthType,
    OAuth2ClientCredentials,
    OAuth2EndpointParameter,
)
from mcp_extproc.envoy._api.transport_sockets_tls_v3 import SdsSecretConfig
from mcp_extproc.envoy.layout import SECRETS_START, Layout, token_cluster
from mcp_extproc.envoy.render import token_endpoints
from mcp_extproc.envoy.render.typed import any_of, seconds

FILTER: Final = "mcp_client_credentials"

DETAILS: Final = "failed_to_inject_credential"
"""How Envoy names the answer of its own where it has no token: 401, as if the client were to blame."""

_FETCH_SECONDS = 10.0
_RETRY_SECONDS = 1.0
"""Time between two attempts to get a token. With a secret from SDS the first one comes too early."""


def of_servers(config: GatewayConfig) -> Iterator[tuple[str, ClientCredentials]]:
    """The servers that get such tokens."""
    for name, server in config.servers.items():
        if server.credentials.client_credentials is not None:
            yield name, server.credentials.client_credentials


def filters(name: str, server: Server, layout: Layout) -> list[HttpFilter]:
    """The first of a server's cluster, if there is one. It replaces what a request has."""
    wanted = server.credentials.client_credentials
    if wanted is None or layout.secrets is None:
        return []
    secret = ConfigSource(
        path_config_source=PathConfigSource(path=str(layout.secrets / file_of(name))),
        resource_api_version=ApiVersion.V3,
    )
    oauth = OAuth2(
        token_endpoint=HttpUri(uri=wanted.token_endpoint, cluster=token_cluster(name), timeout=seconds(_FETCH_SECONDS)),
        scopes=list(wanted.scopes),
        client_credentials=OAuth2ClientCredentials(
            client_id=wanted.client_id,
            client_secret=SdsSecretConfig(name=_secret_of(name), sds_config=secret),
            auth_type=OAuth2AuthType.BASIC_AUTH if wanted.basic else OAuth2AuthType.URL_ENCODED_BODY,
        ),
        token_fetch_retry_interval=seconds(_RETRY_SECONDS),
        endpoint_params=(
            [] if wanted.resource is None else [OAuth2EndpointParameter(name="resource", value=wanted.resource)]
        ),
    )
    credential = TypedExtensionConfig(name="envoy.http.injected_credentials.oauth2", typed_config=any_of(oauth))
    injecting = CredentialInjector(overwrite=True, credential=credential)
    return [HttpFilter(name=FILTER, typed_config=any_of(injecting))]


def clusters(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """Where Envoy gets the tokens."""
    if layout.secrets is None:
        return []
    return [token_endpoints.cluster(name, one) for name, one in of_servers(config)]


def file_of(server: str) -> str:
    """The name of the file with the secret."""
    return f"{SECRETS_START}{server}.json"


def secrets(config: GatewayConfig) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """The files that have the secrets: name, content, and the secret in it. Only their owner may read them."""
    for name, one in of_servers(config):
        value = one.secret
        if value is None:
            continue
        secret = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": _secret_of(name),
            "generic_secret": {"secret": {"inline_string": value}},
        }
        yield file_of(name), {"resources": [secret]}, value


def needing_files(config: GatewayConfig) -> Iterator[Problem]:
    """Problems for an Envoy that reads no files of ours besides its bootstrap."""
    for server, _ in of_servers(config):
        yield Problem(
            "Envoy reads the client's secret from a file beside its configuration, which what is printed can't have: start"
            " Envoy with `mcp-extproc run`, or with the files of `mcp-extproc serve --envoy-config`",
            field(["servers", server, "credentials", "client_credentials"]),
        )


def _secret_of(server: str) -> str:
    return f"mcp_client_secret/{server}"
