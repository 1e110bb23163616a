"""Which image references are taken."""

from __future__ import annotations

import pytest

from actors.sandbox.image import check_image
from terminalpp.types.errors import InvalidInput

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "image",
    [
        "debian", "debian:12", "library/debian:12-slim", "a.b-c__d/e_f:Tag_1.2-x", "localhost/x", "a---b",
        "localhost:5000/x:1", "Registry.Example.com:443/a/b/c:v1", f"debian@{DIGEST}", DIGEST, "887569c18f55",
        f"host:5000/a/b:1@{DIGEST}", "tpp-sandbox:2c83a6c5ee1753b4",
    ],
)  # fmt: skip
def test_taken(image: str) -> None:
    assert check_image(image) == image


@pytest.mark.parametrize(
    "image",
    [
        "", " ", "a b", " a", "a ", "a\n", "A", "Debian:12", "a/B", "a:", ":tag", "a:b:c", "a@", "a@sha256:",
        "a@sha256:xyz", "a@sha256:" + "0" * 31, f"a@{DIGEST}:tag", "a/../b", "./a", "/a", "a/", "a//b",
        "../containers/0123456789ab",
        "a/./b", "-a", "a-", "a_", "a.", ".a", "a..b", "a___b", "a?all=1", "a#b", "a%2e", "a\\b", "a\0b", "é",
        "a:" + "t" * 129, "b" * 256, "host:port/a", "[::1]:5000/a", "https://host/a", "x" * 100_000,
    ],
)  # fmt: skip
def test_refused(image: str) -> None:
    with pytest.raises(InvalidInput, match="image: "):
        check_image(image)
