"""Which driver a sandbox gets: what was asked for, else Docker if it answers, else bubblewrap.

Isolation is never lowered silently. A person who asked for a driver or an image gets that or an error
with the reason. Only when neither was asked for does a Docker that has no image to offer give way to
bubblewrap, and then `Chosen.note` says so (it becomes the sandbox's `status_detail`). A sandbox that
has run before stays with its driver: the workspace is in that driver's hands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.node.driver import Driver, Probe, Progress
from terminalpp.types.errors import ImageUnavailable, IsolationUnavailable, SandboxFailed

DOCKER, BUBBLEWRAP = "docker", "bubblewrap"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The driver, and what the person should know about the choice ("" when it is the plain one)."""

    driver: Driver
    note: str = ""


async def choose(
    drivers: Mapping[str, Driver], asked: str, image: str | None, pinned: str | None, progress: Progress
) -> Chosen:
    """The driver for a sandbox. `asked`: auto, docker or bubblewrap; `pinned`: the one it had before.

    Makes Docker's image ready on the way, because having none may change the choice. Raises
    IsolationUnavailable, ImageUnavailable, SandboxFailed (the pinned driver is not available any more).
    """
    if pinned:
        return await _pinned(drivers[pinned], image, progress)
    if asked == BUBBLEWRAP:
        return _plain(drivers[BUBBLEWRAP], image, "TPP_SANDBOX_DRIVER is bubblewrap")
    docker = drivers[DOCKER]
    answer = await docker.probe()
    if not answer.available:
        if asked == DOCKER:
            detail = f"Docker was asked for and is not available: {answer.detail}"
            raise IsolationUnavailable(detail, answer.fix)
        return await _without_docker(drivers[BUBBLEWRAP], answer, image)
    try:
        await docker.prepare(image, progress)
        return Chosen(docker)
    except ImageUnavailable as error:
        if asked == DOCKER or image is not None:
            raise
        other = drivers[BUBBLEWRAP]
        instead = await other.probe()
        if not instead.available:
            raise ImageUnavailable(
                f"{error.detail}; and bubblewrap is no way out: {instead.detail}", instead.fix, error.extra
            ) from error
        return Chosen(other, f"bubblewrap instead of Docker, which has no image for it ({error.detail})")


async def _pinned(driver: Driver, image: str | None, progress: Progress) -> Chosen:
    answer = await driver.probe()
    if not answer.available:
        raise SandboxFailed(f"the workspace of this sandbox is kept by {driver.name}, which is not "
                            f"available now: {answer.detail}", answer.fix)
    await driver.prepare(image, progress)
    return Chosen(driver)


def _plain(bubblewrap: Driver, image: str | None, why: str) -> Chosen:
    if image is not None:
        raise ImageUnavailable(f"image {image!r} needs Docker, and {why}",
                               "Start Docker, or leave the image out to use this machine's own tools.")
    return Chosen(bubblewrap)


async def _without_docker(bubblewrap: Driver, docker: Probe, image: str | None) -> Chosen:
    answer = await bubblewrap.probe()
    if not answer.available:
        raise IsolationUnavailable(f"{docker.detail}; bubblewrap: {answer.detail}", answer.fix or docker.fix,
                                   {"docker": docker.fix, "bubblewrap": answer.fix})
    return _plain(bubblewrap, image, docker.detail)
