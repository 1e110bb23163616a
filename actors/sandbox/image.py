"""References to container images, checked before a daemon sees them: it takes some as paths of its API."""

from __future__ import annotations

import re

from terminalpp.types.errors import InvalidInput

LONGEST = 255  # of a repository's name, as registries take it
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?"
_NAME = rf"(?P<name>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
_TAG = r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
_DIGEST = r"(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-f]{32,128}))?"
# The grammar of the OCI distribution specification's reference implementation.
_REFERENCE = re.compile(_NAME + _TAG + _DIGEST)


def check_image(image: str) -> str:
    """`image` when it is `[host[:port]/]path[:tag][@algorithm:hex]` or an image id. Raises InvalidInput."""
    found = _REFERENCE.fullmatch(image[:1024])
    if found is None or len(image) > 1024 or len(found["name"]) > LONGEST:
        raise InvalidInput(
            f"image: {image[:300]!r} is no reference to an image",
            'Write it as "debian:12", "host:5000/path/name:tag" or "name@sha256:<64 hex digits>".',
        )
    return image
