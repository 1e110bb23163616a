"""The docker driver: a container with `tppd` as process 1, hardened by default.

What it guarantees. The command inside runs without capabilities (tppd drops the six it keeps for
itself), without new privileges, under limits, on a read-only root with the workspace as a named
volume, with no network unless asked, and with no path of the host but two of our own: the static
`tppd` (read-only) and the sandbox's run directory, which only root inside may enter. Any image works:
nothing in it is used, so it needs no shell, no libc and no entrypoint of its own.

What it remembers is in the daemon: labels say home, sandbox and generation, so that any process finds
a sandbox again after every process of ours has died. Nothing restarts by itself.

What it refuses. A daemon on another machine, or one that remaps user ids: the run directory would
not be the same directory on both sides. Docker's SDK blocks, so each operation runs in a thread of
the driver's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from docker.models.containers import Container

from actors.node import container
from actors.node.driver import Probe, Progress, SandboxSpec, Started
from actors.node.images import Images
from actors.node.threads import Threads
from actors.sandbox.image import check_image
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import (
    Conflict,
    InvalidInput,
    IsolationUnavailable,
    SandboxFailed,
    TerminalError,
)

CLIENT_TIMEOUT_S = 120  # a daemon that is busy unpacking an image answers late
READY_TIMEOUT_S = 30.0
PROBE_TTL_S = 10.0
CALLS = 8  # at a time; each is short, save the removal of a large sandbox
# What the SDK raises: refusals of the daemon, and a daemon that went away in the middle.
DOCKER_ERRORS = (docker.errors.DockerException, requests.RequestException)
START_DOCKER = "Start the Docker daemon (and allow this account to use it), or use bubblewrap."


async def quiet(_line: str) -> None:
    """Progress that nobody watches."""


class DockerDriver:
    """Sandboxes of one home as containers of the local Docker daemon. See `driver.Driver`."""

    name = "docker"

    def __init__(
        self, home: Path, tppd: Path, *, image: str | None = None, image_base: str = "ubuntu:22.04"
    ) -> None:
        """`tppd` is the static binary on this machine; `image` the default one (None: built-in)."""
        self._home = home
        self._tppd = tppd
        self._image = image
        self._image_base = image_base
        self._tag = hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:10]
        # The account inside must be another one than the person's own, should walls ever fail.
        self.uid = 1001 if os.getuid() == 1000 else 1000
        self._connected: tuple[docker.DockerClient, dict[str, Any], Images] | None = None
        self._checked: tuple[float, Probe] | None = None
        self._locks: dict[str, asyncio.Lock] = {}
        self._network = threading.Lock()
        self._threads, self._folders = Threads("docker", CALLS), Threads("folders", 2)

    # ---- the daemon -----------------------------------------------------------------------------

    async def probe(self) -> Probe:
        """Whether a local daemon answers. The answer is kept for ten seconds."""
        if self._checked and time.monotonic() - self._checked[0] < PROBE_TTL_S:
            return self._checked[1]
        found = await self._threads.run(self._probe)
        self._checked = (time.monotonic(), found)
        return found

    def _probe(self) -> Probe:
        try:
            client = _connect()
            info = client.info()
        except DOCKER_ERRORS as error:
            self._connected = None
            return Probe(False, None, f"no Docker daemon answers: {_words(error)}", START_DOCKER)
        if not client.api.base_url.startswith("http+docker://"):
            return Probe(False, None, f"the Docker daemon at {client.api.base_url} is not on this machine",
                         "Unset DOCKER_HOST, or run Terminal++ where the daemon runs.")
        if any("name=userns" in option for option in info.get("SecurityOptions") or []):
            return Probe(False, None, "the Docker daemon remaps user ids (userns-remap)",
                         "Use bubblewrap, or a daemon without userns-remap.")
        isolation = container.isolation_of(str(info.get("DefaultRuntime") or "runc"))
        if self._connected is None:
            self._connected = (client, info, Images(client, base=self._image_base, uid=self.uid))
        version = info.get("ServerVersion", "?")
        return Probe(True, isolation, f"Docker {version}, runtime {info.get('DefaultRuntime')}")

    async def _daemon(self) -> tuple[docker.DockerClient, dict[str, Any], Images]:
        """The connected client. Raises IsolationUnavailable when there is none to be had."""
        if self._connected is None:
            found = await self._threads.run(self._probe)
            if self._connected is None:
                raise IsolationUnavailable(found.detail, found.fix)
        return self._connected

    # ---- the contract ---------------------------------------------------------------------------

    async def prepare(self, image: str | None, progress: Progress) -> str:
        """See Driver.prepare."""
        _client, _info, images = await self._daemon()
        wanted = image or self._image
        return await images.ensure(check_image(wanted) if wanted else None, progress)

    async def start(self, spec: SandboxSpec, progress: Progress | None = None) -> Started:
        """See Driver.start."""
        self._directory(spec.sandbox_id)
        async with self._locks.setdefault(spec.sandbox_id, asyncio.Lock()):
            client, info, images = await self._daemon()
            if (running := await self.inspect(spec.sandbox_id)) is not None:
                if running.generation == spec.generation:
                    return running
                if running.generation > spec.generation:
                    raise Conflict(f"sandbox {spec.sandbox_id} already runs at generation "
                                   f"{running.generation}, newer than {spec.generation}")
            image = await self.prepare(spec.image, progress or quiet)
            try:
                await self._threads.run(self._remove_containers, client, spec.sandbox_id)
                run_dir = await self._threads.run(self._make_run_dir, spec.sandbox_id)
                made = await self._threads.run(self._create, client, info, images, spec, image, run_dir)
            except docker.errors.APIError as error:
                raise SandboxFailed(f"Docker refused the sandbox: {_words(error)}") from error
            except DOCKER_ERRORS as error:
                raise SandboxFailed(f"the Docker daemon went away: {_words(error)}", START_DOCKER) from error
            try:
                await self._until_ready(made, run_dir)
            except BaseException:
                await self._threads.run(self._remove_containers, client, spec.sandbox_id)
                raise
            return await self._threads.run(self._started, made, images)

    async def inspect(self, sandbox_id: str) -> Started | None:
        """See Driver.inspect."""
        self._directory(sandbox_id)
        client, _info, images = await self._daemon()

        def work() -> Started | None:
            for found in self._containers(client, sandbox_id):
                if found.status in ("running", "paused"):
                    return self._started(found, images)
            return None

        return await self._call(work)

    async def stop(self, sandbox_id: str) -> None:
        """See Driver.stop."""
        self._directory(sandbox_id)
        client, _info, _images = await self._daemon()
        await self._call(self._remove_containers, client, sandbox_id)
        await self._call(self._drop_network, client)

    async def freeze(self, sandbox_id: str, frozen: bool) -> None:
        """See Driver.freeze."""
        self._directory(sandbox_id)
        client, _info, _images = await self._daemon()

        def work() -> None:
            for found in self._containers(client, sandbox_id):
                if found.status == ("running" if frozen else "paused"):
                    (found.pause if frozen else found.unpause)()

        try:
            await self._threads.run(work)
        except docker.errors.APIError as error:
            raise Conflict(f"Docker cannot pause or resume it: {_words(error)}") from error
        except DOCKER_ERRORS as error:
            raise SandboxFailed(f"the Docker daemon went away: {_words(error)}", START_DOCKER) from error

    async def remove(self, sandbox_id: str) -> None:
        """See Driver.remove."""
        folder = self._directory(sandbox_id)
        client, _info, _images = await self._daemon()
        await self._call(self._remove_containers, client, sandbox_id)
        await self._call(self._remove_volume, client, sandbox_id)
        await self._call(self._drop_network, client)
        await self._folders.run(shutil.rmtree, folder, True)

    async def list(self) -> list[str]:
        """See Driver.list."""
        client, _info, _images = await self._daemon()

        def work() -> set[str]:
            mine = {"label": f"{container.LABEL_HOME}={self._tag}"}
            found = client.containers.list(all=True, filters=mine, ignore_removed=True)
            labels = [one.labels for one in found]
            labels += [one.attrs.get("Labels") or {} for one in client.volumes.list(filters=mine)]
            return {one[container.LABEL_SANDBOX] for one in labels if container.LABEL_SANDBOX in one}

        return sorted(await self._call(work))

    # ---- blocking parts, each in a thread -------------------------------------------------------

    async def _call(self, work: Any, *arguments: Any) -> Any:
        """Run blocking `work` in a thread; what Docker says against it becomes a SandboxFailed."""
        try:
            return await self._threads.run(work, *arguments)
        except DOCKER_ERRORS as error:
            self._checked = None
            raise SandboxFailed(f"Docker: {_words(error)}", START_DOCKER) from error

    def _directory(self, sandbox_id: str) -> Path:
        """Raises InvalidInput for an id that is no plain name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", sandbox_id):
            raise InvalidInput(f"not a sandbox id: {sandbox_id!r}")
        return self._home / "sandboxes" / sandbox_id

    def _make_run_dir(self, sandbox_id: str) -> Path:
        run_dir = self._directory(sandbox_id) / "run"
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The socket of a dead generation would be connected to, and refuse.
        (run_dir / "ctl.sock").unlink(missing_ok=True)
        return run_dir

    def _containers(self, client: docker.DockerClient, sandbox_id: str) -> list[Container]:
        labels = [f"{container.LABEL_HOME}={self._tag}", f"{container.LABEL_SANDBOX}={sandbox_id}"]
        return client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    def _create(
        self, client: docker.DockerClient, info: dict[str, Any], images: Images, spec: SandboxSpec,
        image: str, run_dir: Path,
    ) -> Container:  # fmt: skip
        name = spec.image or self._image
        identity = container.Identity(
            self._tag, self.uid, str(self._tppd), str(run_dir), name or images.builtin_tag(),
            "" if name else self._image_base)  # fmt: skip
        volume = identity.volume(spec.sandbox_id)
        client.volumes.create(volume, labels=identity.labels(spec.sandbox_id))
        # A network without a running container on it may be dropped, so nobody may meanwhile.
        with self._network if spec.network == "open" else contextlib.nullcontext():
            network = container.ensure_network(client, identity) if spec.network == "open" else None
            made = client.containers.create(**container.options(spec, identity, image, info, network))
            made.start()
        return made

    def _remove_containers(self, client: docker.DockerClient, sandbox_id: str) -> None:
        for found in self._containers(client, sandbox_id):
            try:
                if found.status == "paused":
                    found.unpause()
                found.remove(force=True, v=True)  # v: anonymous volumes of the image, never the workspace
            except docker.errors.NotFound:
                continue
            except docker.errors.APIError as error:
                # Another process removes it at this moment: wait for its end, as `stop` promises.
                if error.status_code != 409:
                    raise
                _await_gone(found)

    def _drop_network(self, client: docker.DockerClient) -> None:
        with self._network:
            container.drop_network(client, self._tag)

    def _remove_volume(self, client: docker.DockerClient, sandbox_id: str) -> None:
        try:
            client.volumes.get(container.volume_name(self._tag, sandbox_id)).remove(force=True)
        except docker.errors.NotFound:
            return

    def _started(self, found: Container, images: Images) -> Started:
        found.reload()
        return Started(
            run_dir=str(self._directory(found.labels[container.LABEL_SANDBOX]) / "run"),
            handle=found.id,
            isolation=container.isolation_of(str(found.attrs["HostConfig"].get("Runtime") or "runc")),
            generation=int(found.labels[container.LABEL_GENERATION]),
            limits=container.limits_of(found.attrs["HostConfig"], found.labels),
            details={
                "driver": self.name,
                "helper": "another uid",
                "image": found.labels.get(container.LABEL_IMAGE),
                "image_base": found.labels.get(container.LABEL_BASE) or None,
                "image_id": found.attrs.get("Image", ""),
                "workspace": container.volume_name(self._tag, found.labels[container.LABEL_SANDBOX]),
                "environment": images.environment(str(found.attrs.get("Image", ""))),
            },
        )

    async def _until_ready(self, made: Container, run_dir: Path) -> None:
        """Return once tppd answers. Raises SandboxFailed when the container ends, or is silent."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        checked = time.monotonic()
        while True:
            if (run_dir / "ctl.sock").exists():
                client = Tppd(run_dir)
                try:
                    await client.hello()
                    return
                except (TerminalError, OSError) as error:
                    last = str(error)
                finally:
                    await client.close()
            else:
                last = "it made no control socket"
            if time.monotonic() - checked > 0.25:
                checked = time.monotonic()
                await self._call(made.reload)
                if made.status in ("exited", "dead"):
                    state = made.attrs.get("State") or {}
                    raise SandboxFailed(f"the sandbox ended at once with code {state.get('ExitCode')}: "
                                        f"{state.get('Error') or last}")
            if time.monotonic() > deadline:
                raise SandboxFailed(f"the sandbox did not answer within {READY_TIMEOUT_S:.0f} s: {last}")
            await asyncio.sleep(0.005)


def _connect() -> docker.DockerClient:
    """A client of the daemon that the environment names, or of the account's own (rootless) one."""
    try:
        client = docker.from_env(timeout=CLIENT_TIMEOUT_S)
        client.ping()
        return client
    except DOCKER_ERRORS:
        own = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), "docker.sock")
        if os.environ.get("DOCKER_HOST") or not os.path.exists(own):
            raise
        return docker.DockerClient(base_url=f"unix://{own}", timeout=CLIENT_TIMEOUT_S)


def _await_gone(found: Container) -> None:
    try:
        found.wait(timeout=READY_TIMEOUT_S, condition="removed")
    except (docker.errors.NotFound, requests.RequestException):
        return


def _words(error: BaseException) -> str:
    return str(getattr(error, "explanation", None) or error)


