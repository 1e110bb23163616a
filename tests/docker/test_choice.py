"""Which driver a sandbox gets, as a table; isolation and images are never replaced silently."""

from __future__ import annotations

import pytest

from actors.node.choice import choose
from actors.node.driver import Probe
from terminalpp.types.errors import ImageUnavailable, IsolationUnavailable, SandboxFailed
from terminalpp.types.states import Isolation

HERE = Probe(True, Isolation.RUNC, "it works")
AWAY = Probe(False, None, "it is not installed", "install it")


class Stand:
    """A driver reduced to what the choice asks of it."""

    def __init__(self, name: str, probe: Probe, images: bool) -> None:
        self.name = name
        self._probe = probe
        self._images = images

    async def probe(self) -> Probe:
        return self._probe

    async def prepare(self, image, progress) -> str:
        if not self._images:
            raise ImageUnavailable(f"no {image or 'built-in image'}", extra={"step": "build"})
        return "id"


async def quiet(_line: str) -> None:
    """Nobody watches."""


D, B = "docker", "bubblewrap"
# docker there, its images there, bubblewrap there, asked, image, pinned → driver or error
TABLE = [
    (True, True, True, "auto", None, None, D),
    (True, True, True, "auto", "x", None, D),
    (True, True, True, "docker", None, None, D),
    (True, True, True, "bubblewrap", None, None, B),
    (True, True, True, "bubblewrap", "x", None, ImageUnavailable),
    (False, True, True, "auto", None, None, B),
    (False, True, True, "auto", "x", None, ImageUnavailable),
    (False, True, True, "docker", None, None, IsolationUnavailable),
    (False, True, False, "auto", None, None, IsolationUnavailable),
    (True, False, True, "auto", None, None, B),
    (True, False, True, "auto", "x", None, ImageUnavailable),
    (True, False, True, "docker", None, None, ImageUnavailable),
    (True, False, False, "auto", None, None, ImageUnavailable),
    (True, True, True, "auto", None, B, B),
    (True, True, True, "bubblewrap", None, D, D),
    (False, True, True, "auto", None, D, SandboxFailed),
]


@pytest.mark.parametrize(("docker", "images", "bwrap", "asked", "image", "pinned", "expected"), TABLE)
async def test_choice(docker, images, bwrap, asked, image, pinned, expected):
    drivers = {D: Stand(D, HERE if docker else AWAY, images), B: Stand(B, HERE if bwrap else AWAY, True)}
    work = choose(drivers, asked, image, pinned, quiet)
    if isinstance(expected, str):
        chosen = await work
        assert chosen.driver.name == expected
        # Only the step down is told: Docker answers, and is not used.
        assert bool(chosen.note) == (expected == B and docker and asked == "auto" and pinned is None)
    else:
        with pytest.raises(expected) as caught:
            await work
        assert caught.value.next_step
