"""Several sections ``authentication`` on one listener: what they can't say at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcp_extproc.config.authentication import Authentication, Jwks
from mcp_extproc.config.config_error import PlacedError, field

Place = tuple[str | int, ...]


def problems(sections: Sequence[tuple[Place, Authentication]]) -> Iterator[PlacedError]:
    """What can't be as it is written. ``sections``: all, with their places."""
    yield from _other_keys(sections)
    yield from _claims_that_are_credentials(sections)


def _other_keys(sections: Sequence[tuple[Place, Authentication]]) -> Iterator[PlacedError]:
    known: dict[str, tuple[Place, Jwks | None]] = {}
    for place, section in sections:
        for index, one in enumerate(section.oauth.issuers if section.oauth is not None else ()):
            here = (*place, "oauth", "issuers", index)
            there, jwks = known.setdefault(one.issuer, (here, one.jwks))
            if jwks != one.jwks:
                yield PlacedError(
                    (*here, "jwks"), f"the issuer of {field(there)} with other keys: an issuer has the same everywhere"
                )


def _claims_that_are_credentials(sections: Sequence[tuple[Place, Authentication]]) -> Iterator[PlacedError]:
    """In one section by itself: see :class:`mcp_extproc.config.authentication.Authentication`."""
    for place, section in sections:
        for name, header in section.external.headers.items() if section.external is not None else ():
            for other, theirs in sections:
                if other != place and header in _brought(theirs):
                    yield PlacedError(
                        (*place, "external", name),
                        f"clients of another endpoint send credentials in this header ({field(other)}), and what clients"
                        " say of themselves is removed from all requests: use another one",
                    )


def _brought(section: Authentication) -> set[str]:
    """Headers in which clients send something."""
    keys = section.api_keys.sources if section.api_keys is not None else ()
    external = section.external
    asked = external.sources if external is not None else ()
    found = {source.header for source in (*keys, *asked) if source.header is not None}
    return found | set(external.request_headers if external is not None else ())


def url_at(section: Authentication | None, main: str, path: str) -> str | None:
    """The URL of an endpoint at the main one's host, as clients know it, where that is known.

    Args:
        section: the main endpoint's.
        main: path of the main endpoint.
        path: of the endpoint.
    """
    if section is None:
        return None
    resource = section.oauth.resource if section.oauth is not None else None
    # A proxy in front may have put something before the paths.
    before = None if resource is None else resource.rstrip("/")
    if before is not None and before.endswith(main.rstrip("/")):
        return before.removesuffix(main.rstrip("/")) + path
    return None if section.public_url is None else section.public_url + path


def check_audiences(place: Place, inherited: Authentication | None, url: str | None) -> None:
    """Check a virtual server that has the main endpoint's section, and the URL by which clients know it.

    Raises:
        PlacedError: nothing says for whom tokens have to be.
    """
    oauth = inherited.oauth if inherited is not None else None
    if oauth is not None and url is None and any(not one.audiences for one in oauth.issuers):
        raise PlacedError(
            place,
            "tokens of the top level's authentication have to be for its own URL (resource or public_url), which is not this"
            " one's: give its issuers audiences, or this virtual server an authentication of its own",
        )
