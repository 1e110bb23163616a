"""Sandbox images: the built-in one is built at first use, any other is looked up, then pulled.

The built-in image is named after its recipe, `tpp-sandbox:<hash of Dockerfile, base and uid>`: a
changed recipe is a new image, an unchanged one costs a look-up. Every long step reports lines of
progress. What cannot be had is an ImageUnavailable whose `extra.step` is `build`, `pull` or `image`
(so that a caller that did not ask for this image may choose another way); nothing half-built stays.
Docker's SDK blocks, so each call runs in a thread of the driver's and its lines come back over a queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from actors.node.threads import Threads
from terminalpp.types.errors import ImageUnavailable

Progress = Callable[[str], Awaitable[None]]
RECIPE = Path(__file__).resolve().parents[2] / "images" / "sandbox"
# The build runs our own recipe, not a stranger's code, and needs what the host has: its resolver,
# its route to the package source, its proxies.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_KEPT_LINES = 15
TRANSFERS = 4  # images that are built or pulled at a time; further ones wait


class Images:
    """The images of one Docker daemon. Concurrent requests for one image share one build or pull."""

    def __init__(
        self, client: docker.DockerClient, *, base: str, uid: int = 1000, recipe: Path = RECIPE
    ) -> None:
        self._client = client
        self._calls, self._transfers = Threads("images", 2), Threads("transfers", TRANSFERS)
        self._base = base
        self._uid = uid
        self._recipe = recipe
        self._locks: dict[str, asyncio.Lock] = {}

    def builtin_tag(self) -> str:
        """The name of the built-in image: the same recipe, base and uid give the same name."""
        recipe = (self._recipe / "Dockerfile").read_bytes()
        digest = hashlib.sha256(b"\0".join([recipe, self._base.encode(), str(self._uid).encode()]))
        return f"tpp-sandbox:{digest.hexdigest()[:16]}"

    async def ensure(self, image: str | None, progress: Progress) -> str:
        """The id of `image` (None: the built-in one), built or pulled if it is not here.

        Raises ImageUnavailable with the daemon's own last words.
        """
        name = image or self.builtin_tag()
        async with self._locks.setdefault(name, asyncio.Lock()):
            if found := await self._calls.run(self._find, name):
                return found
            if image is None:
                await self._build(name, progress)
            else:
                await self._pull(name, progress)
            if found := await self._calls.run(self._find, name):
                return found
        raise ImageUnavailable(f"{name} was fetched, but the Docker daemon does not list it",
                               extra={"image": name, "step": "image"})

    def environment(self, image_id: str) -> dict[str, str]:
        """The variables that the image sets (its PATH, for one). Blocks."""
        config = self._client.images.get(image_id).attrs.get("Config") or {}
        return dict(entry.split("=", 1) for entry in config.get("Env") or [] if "=" in entry)

    def _find(self, name: str) -> str | None:
        try:
            return self._client.images.get(name).id
        except docker.errors.ImageNotFound:
            return None
        except docker.errors.APIError as error:
            raise ImageUnavailable(f"{name}: {error.explanation or error}",
                                   extra={"image": name, "step": "image"}) from error

    async def _build(self, tag: str, progress: Progress) -> None:
        await progress(f"building the sandbox image from {self._base} (first use only; about a minute)")
        arguments = {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
        arguments |= {"BASE": self._base, "SANDBOX_UID": str(self._uid)}

        def steps() -> Iterator[dict[str, Any]]:
            return self._client.api.build(
                path=str(self._recipe), tag=tag, buildargs=arguments, network_mode="host",
                decode=True, rm=True, forcerm=True)

        await self._follow(steps, tag, "build", progress)

    async def _pull(self, name: str, progress: Progress) -> None:
        await progress(f"pulling {name}")
        repository, tag = _repository_and_tag(name)

        def steps() -> Iterator[dict[str, Any]]:
            return self._client.api.pull(repository, tag=tag, stream=True, decode=True)

        await self._follow(steps, name, "pull", progress)

    async def _follow(
        self, steps: Callable[[], Iterator[dict[str, Any]]], name: str, step: str, progress: Progress
    ) -> None:
        """Run `steps` in a thread and report its lines. Raises ImageUnavailable when it fails."""
        # Unbounded in name only: a build says some thousand short lines, a pull some ten per layer.
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def work() -> str | None:
            failure = None
            try:
                for record in steps():
                    if "error" in record:
                        failure = str(record["error"]).strip()
                    elif line := _line(record):
                        loop.call_soon_threadsafe(lines.put_nowait, line)
            except (docker.errors.DockerException, requests.RequestException) as error:
                failure = getattr(error, "explanation", None) or str(error)
            finally:
                loop.call_soon_threadsafe(lines.put_nowait, None)
            return failure

        thread = asyncio.create_task(self._transfers.run(work))
        last: list[str] = []
        while (line := await lines.get()) is not None:
            last = [*last[-_KEPT_LINES:], line]
            await progress(line)
        if failure := await thread:
            words = "the build failed" if step == "build" else "it is not here and cannot be pulled"
            raise ImageUnavailable(f"{name}: {words}: {failure}",
                                   extra={"image": name, "step": step, "log": last})


def _line(record: dict[str, Any]) -> str:
    """What one record of a build or pull says in words; progress bars are left out."""
    if "stream" in record:
        return str(record["stream"]).strip()
    status = str(record.get("status") or "").strip()
    if record.get("progressDetail"):
        return ""
    return f"{record['id']}: {status}" if record.get("id") else status


def _repository_and_tag(name: str) -> tuple[str, str | None]:
    """`host:5000/a/b:tag` in two parts; a digest stays in the name; no tag means `latest`."""
    if "@" in name:
        return name, None
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return name, "latest"
