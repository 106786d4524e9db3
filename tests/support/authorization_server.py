"""An OAuth authorization server for tests: the MCP SDK's own (registration, PKCE, code and token endpoints), whose access
tokens are JWTs that PyJWT signs, with keys and metadata that a test may change."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    IdentityAssertionParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import cors_middleware, create_auth_routes
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.processes import free_port
from tests.support.waiting import eventually

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

LIFETIME = 600
"""Seconds."""


def new_key(algorithm: str) -> PrivateKey:
    """A private key for an algorithm."""
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: PrivateKey, kid: str) -> dict[str, Any]:
    """The public half of a key. It does not say its algorithm, as those of many servers do not."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        found = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        found = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**{name: value for name, value in found.items() if name != "key_ops"}, "kid": kid}


@dataclass
class AuthorizationServer:
    """One issuer. Use as an async context manager; :meth:`stop` and :meth:`start` in between, at the same port."""

    port: int = field(default_factory=free_port)
    audience: str = "https://gateway.example/mcp"
    """Of tokens for which no resource is asked."""
    subject: str = "alice"
    """Who logs in."""
    keys: dict[str, PrivateKey] = field(
        default_factory=lambda: {alg: new_key(alg) for alg in ("RS256", "ES256", "EdDSA")}
    )
    """By algorithm, which is the key's id, too."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Members of the metadata that are replaced."""
    asked: list[str] = field(default_factory=list)
    """Paths of all requests."""

    def __post_init__(self) -> None:
        self._provider = _Provider(self)
        self._server: uvicorn.Server | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(key, kid) for kid, key in self.keys.items()]}

    def token(
        self, algorithm: str = "RS256", *, headers: Mapping[str, Any] | None = None, key: Any = None, **claims: Any
    ) -> str:
        """A signed token. Claims and headers that are ``None`` are left out."""
        now = int(time.time())
        all_claims = {
            "iss": self.issuer, "sub": self.subject, "aud": self.audience, "iat": now, "exp": now + LIFETIME, **claims,
        }  # fmt: skip
        payload = {name: value for name, value in all_claims.items() if value is not None}
        signer = self.keys[algorithm] if key is None else key
        named = {"kid": algorithm, **(headers or {})}
        said = {name: value for name, value in named.items() if value is not None}
        return jwt.encode(payload, signer, algorithm=algorithm, headers=said)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve."""
        listening = socket.create_server(("127.0.0.1", self.port))
        config = uvicorn.Config(self._app(), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        self._server = server = uvicorn.Server(config)
        self._serving = asyncio.create_task(server._serve(sockets=[listening]))
        await eventually(lambda: server.started, "the authorization server serves")

    async def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.should_exit = True
            await self._serving
            self._server = None

    def _app(self) -> Starlette:
        options = ClientRegistrationOptions(enabled=True)
        routes = create_auth_routes(self._provider, AnyHttpUrl(self.issuer), client_registration_options=options)
        return Starlette(routes=[
            # Pages in a browser read it, too, like all that the SDK serves.
            Route(
                "/.well-known/oauth-authorization-server",
                cors_middleware(self._metadata, ["GET", "OPTIONS"]),
                methods=["GET", "OPTIONS"],
            ),
            Route("/jwks", self._jwks),
            *routes,
        ])  # fmt: skip

    async def _metadata(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        known = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        }
        return JSONResponse({**known, **self.metadata})

    async def _jwks(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        return JSONResponse(self.jwks())


class _Provider:
    """Everybody who asks is logged in as :attr:`AuthorizationServer.subject`."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server
        self._clients: dict[str, OAuthClientInformationFull] = {}
        self._codes: dict[str, AuthorizationCode] = {}

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self._clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        assert client_info.client_id is not None
        self._clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        assert client.client_id is not None
        code = secrets.token_urlsafe(32)
        self._codes[code] = AuthorizationCode(
            code=code,
            client_id=client.client_id,
            scopes=params.scopes or [],
            expires_at=time.time() + LIFETIME,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self._codes[authorization_code.code]
        scope = " ".join(authorization_code.scopes)
        audience = authorization_code.resource or self._server.audience
        token = self._server.token(aud=audience, scope=scope, client_id=client.client_id)
        return OAuthToken(access_token=token, token_type="Bearer", expires_in=LIFETIME, scope=scope)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        return None

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        raise NotImplementedError

    async def load_access_token(self, token: str) -> AccessToken | None:
        return None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        raise NotImplementedError

    async def exchange_identity_assertion(
        self, client: OAuthClientInformationFull, params: IdentityAssertionParams
    ) -> OAuthToken:
        raise NotImplementedError
