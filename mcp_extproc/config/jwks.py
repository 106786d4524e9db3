"""Public keys as JSON Web Key Sets (RFC 7517), and which of them verify tokens of the allowed algorithms.

Envoy's jwt_authn verifies with any algorithm of a key's type where the key names none, so each key is given one: it is listed
once for each allowed algorithm (RFC 7517 section 4.4).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip
"""Signatures by a private key (RFC 7518 section 3.1, RFC 8037 section 3.1). `none` and HMAC, whose secret the gateway would
have to share, are not among them."""

MAX_BYTES: Final = 1 << 20
"""Of a key set, as it is read."""

MAX_KEYS: Final = 200
"""Of a key set, as it is served: each key once for each algorithm."""

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final[Mapping[str, tuple[str, int]]] = {"P-256": ("ES256", 32), "P-384": ("ES384", 48), "P-521": ("ES512", 66)}
"""Algorithm, and bytes of a coordinate (RFC 7518 sections 3.4 and 6.2.1)."""

_RSA_BITS: Final = range(2048, 8193)
"""Of a modulus (RFC 7518 section 3.3)."""

_EXPONENT_BITS: Final = range(2, 65)
"""Of an RSA exponent. With 1, which has one bit, everybody can sign."""

_LONGEST: Final = 256
"""Of a key's id, in characters."""


def usable_keys(text: str | bytes, algorithms: Sequence[str]) -> str:
    """A key set in which each key says its algorithm, as JSON text.

    Keys of other algorithms, for encryption, that are too short or broken, and private members, are left out.

    Raises:
        ValueError: it is no key set, or has no key that can be used. Nothing of it is repeated.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"the key set is larger than {MAX_BYTES} bytes")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the key set is not JSON") from None
    found = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise ValueError('the key set has no list "keys" (RFC 7517 section 5)')
    keys = list(_served(found, algorithms))
    if not keys:
        raise ValueError(f"the key set has no public key for any of {', '.join(algorithms)}")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"the key set has more than {MAX_KEYS} keys")
    return json.dumps({"keys": keys})


def _served(keys: Sequence[object], algorithms: Sequence[str]) -> Iterator[dict[str, str]]:
    seen = set()
    for key in keys:
        if not isinstance(key, dict) or key.get("use", "sig") != "sig":
            continue
        public = _public(key)
        if public is None:
            continue
        possible = _RSA if public["kty"] == "RSA" else {_CURVES[public["crv"]][0] if public["kty"] == "EC" else "EdDSA"}
        for algorithm in algorithms:
            if algorithm in possible and key.get("alg", algorithm) == algorithm:
                served = {**public, "alg": algorithm}
                if (once := tuple(served.items())) not in seen:
                    seen.add(once)
                    yield served


def _public(key: Mapping[str, Any]) -> dict[str, str] | None:
    """The members of a public key that verification needs, or ``None`` where they can't be used."""
    kty, crv = key.get("kty"), key.get("crv")
    if kty == "RSA" and _bits(key.get("n")) in _RSA_BITS and _bits(key.get("e")) in _EXPONENT_BITS:
        return {"kty": "RSA", "n": key["n"], "e": key["e"], "use": "sig", **_named(key.get("kid"))}
    if kty == "EC" and isinstance(crv, str) and crv in _CURVES:
        size = _CURVES[crv][1]
        if len(_octets(key.get("x"))) == size == len(_octets(key.get("y"))):
            return {"kty": "EC", "crv": crv, "x": key["x"], "y": key["y"], "use": "sig", **_named(key.get("kid"))}
    if kty == "OKP" and crv == "Ed25519" and len(_octets(key.get("x"))) == 32:
        return {"kty": "OKP", "crv": "Ed25519", "x": key["x"], "use": "sig", **_named(key.get("kid"))}
    return None


def _named(kid: object) -> dict[str, str]:
    """The id, where it can be kept. A key without one is tried for all tokens."""
    if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST:
        return {}
    try:
        kid.encode()
    except UnicodeEncodeError:  # half a character, for which Envoy refuses the whole set
        return {}
    return {"kid": kid}


def _bits(value: object) -> int:
    """Of a number in Base64url, without zeros in front; 0 for what is none."""
    return int.from_bytes(_octets(value), "big").bit_length()


def _octets(value: object) -> bytes:
    """Of Base64url; none for what is not."""
    if not isinstance(value, str):
        return b""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
