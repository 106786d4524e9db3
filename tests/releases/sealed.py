"""What this release seals, to be kept: ``python -m tests.releases.sealed 0.3.0`` writes ``tests/releases/0.3.0.json``.

Each value has what it has to open to. The layouts are those of the payloads: what this release's readers expect.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from mcp_extproc.gateway.relay.identifiers import (
    ClientView,
    Cursor,
    Identifiers,
    Owned,
    Position,
    session_checksum,
)
from mcp_extproc.mcp.sealing import TextSealer
from mcp_extproc.mcp.sessions import Sealer, Session, UpstreamSession

FOLDER = Path(__file__).parent

SECRET = "the secret of a fleet that goes on over releases"

PAYLOADS: tuple[type[msgspec.Struct], ...] = (Session, UpstreamSession, Owned, Position, Cursor)
"""All that is sealed."""

ALPHA = UpstreamSession("2025-11-25", "a-session-of-alpha", frozenset({"tools", "logging"}))
BETA = UpstreamSession("2025-06-18", None, frozenset())
"""A server without sessions."""

FAR = 4_102_444_800
"""Unix time of the year 2100: these tokens do not expire while anybody tests with them."""

ANONYMOUS = Session("/mcp", "", "2025-11-25", FAR, "agent/1", frozenset({"roots", "sampling"}), {"alpha": ALPHA}, 7)
SOMEBODY = Session("/tools/mcp", "hash-of-somebody", "2025-03-26", FAR, "", frozenset(), {"alpha": ALPHA, "beta": BETA})


def releases() -> list[str]:
    """The versions that a file is kept of, the first one first."""
    files = [path.stem for path in FOLDER.glob("*.json")]
    return sorted(files, key=lambda version: [int(part) for part in version.split(".")])


def read(release: str) -> Any:
    """What a release sealed, as :func:`record` described it."""
    return json.loads((FOLDER / f"{release}.json").read_text())


def record() -> dict[str, Any]:
    """What the code as it is seals."""
    sealer, identifiers = Sealer(SECRET), Identifiers(TextSealer(SECRET))
    (token, name), (other, other_name) = sealer.seal(ANONYMOUS), sealer.seal(SOMEBODY)
    view = ClientView(name, ANONYMOUS.version, ANONYMOUS.client_flags)
    checksum = session_checksum(ALPHA)

    def owned(purpose: str, raw: bytes) -> dict[str, Any]:
        sealed = json.loads(identifiers.own(purpose, view, "alpha", ALPHA, raw))
        return {"sealed": sealed, "is": plain(Owned("alpha", checksum, raw))}

    def event(method: str, event_id: str) -> dict[str, Any]:
        position = Position(method, (Cursor("alpha", checksum, event_id),))
        return {"sealed": identifiers.event_id(view, position), "is": plain(position)}

    return {
        "secret": SECRET,
        "layouts": {payload.__name__: layout(payload) for payload in PAYLOADS},
        "sessions": [
            {"sealed": token, "id": name, "is": plain(ANONYMOUS)},
            {"sealed": other, "id": other_name, "is": plain(SOMEBODY)},
        ],
        # These are of the first session. The event ids are those that tests/support/streaming.py gives.
        "request": owned("request", b'"1"'),
        "progress": owned("progress", b"9007199254740993"),
        "event_of_get": event("", f"{ALPHA.id}.0/0"),
        "event_of_call": event("tools/call", f"{ALPHA.id}.0/0"),
    }


def layout(payload: type[msgspec.Struct]) -> list[str]:
    """The fields of a payload with their types, in order."""
    hints = get_type_hints(payload)
    return [f"{name}: {_spelled(hints[name])}" for name in payload.__struct_fields__]


def plain(value: Any) -> Any:
    """A payload as JSON has it, with the names of its fields."""
    match value:
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        case dict():
            return {key: plain(member) for key, member in value.items()}
        case tuple():
            return [plain(member) for member in value]
        case frozenset():
            return sorted(value)
        case bytes():
            return value.decode()
        case _:
            return value


def _spelled(hint: Any) -> str:
    """A type without the modules of its names: to a reader it does not matter where they are defined."""
    text = repr(hint) if getattr(hint, "__args__", ()) else getattr(hint, "__name__", repr(hint))
    return re.sub(r"\b(\w+\.)+(?=\w)", "", text)


def main(version: str, say: Callable[[str], object] = print) -> int:
    """Write the file of a version; a file that is there belongs to a release, and stays as it is."""
    file = FOLDER / f"{version}.json"
    if file.exists():
        say(f"{file.name} is there: what a release sealed does not change")
        return 1
    file.write_text(json.dumps(record(), indent=2) + "\n")
    say(f"{file.name} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
