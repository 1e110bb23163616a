"""What is special about Docker: the container's own settings, other images, builds, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from actors.node import container
from actors.node.docker import DockerDriver
from actors.node.driver import SandboxSpec
from actors.node.images import TRANSFERS, Images
from actors.node.stop_all import stop_all
from actors.sandbox.tppd.client import Tppd
from runtime import settings as settings_module
from terminalpp.types.errors import (
    CommandNotStarted,
    ImageUnavailable,
    InvalidInput,
    IsolationUnavailable,
    SandboxFailed,
)
from terminalpp.types.ids import new_id
from terminalpp.types.states import Isolation, Network
from tests.docker.conftest import BASE, run
from tests.eventually import eventually

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]


async def quiet(_line: str) -> None:
    """Nobody watches."""


async def test_every_flag_is_on_the_container(make, client):
    started = await make(cpu=0.5, memory_bytes=128 * 1024**2, pids=64, nofile=1000)
    attrs = client.containers.get(started.handle).attrs
    host, config = attrs["HostConfig"], attrs["Config"]
    assert config["User"] == "0:0"
    assert config["Labels"][container.LABEL_GENERATION] == "1"
    assert host["CapDrop"] == ["ALL"]
    assert sorted(name.removeprefix("CAP_") for name in host["CapAdd"]) == sorted(container.CAPABILITIES)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["ReadonlyRootfs"], host["Privileged"], host["NetworkMode"]) == (True, False, "none")
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (128 * 1024**2, 500_000_000, 64)
    assert host["MemorySwap"] in (host["Memory"], 0, -1)
    assert {one["Name"]: one["Hard"] for one in host["Ulimits"]} == {"nofile": 16384, "core": 0}
    assert host["LogConfig"]["Type"] == "none"
    assert host["RestartPolicy"]["Name"] in ("no", "")
    assert host["IpcMode"] == "private"
    assert not host["Init"]
    mounts = {one["Destination"]: one for one in attrs["Mounts"]}
    assert set(mounts) == {container.TPPD, container.RUN, container.WORKSPACE}
    assert mounts[container.WORKSPACE]["Type"] == "volume"
    assert not mounts[container.TPPD]["RW"]
    assert "docker.sock" not in json.dumps(attrs["Mounts"])
    assert started.isolation is Isolation.RUNC
    assert started.limits["cpu"] == "cgroup: 0.5 CPUs"


async def test_the_limits_bite(make):
    started = await make(memory_bytes=64 * 1024**2, pids=32)
    eat = "x = bytearray(200 * 1024 * 1024); print(len(x))"
    code, out, _ = await run(started, "python3", "-c", eat)
    assert (code, out) in ((None, ""), (137, ""), (1, ""))
    bomb = "for i in $(seq 60); do sleep 2 & done 2>/dev/null; echo $?"
    code, out, _ = await run(started, "sh", "-c", bomb)
    assert code != 0 or out.strip() != "0"

    async def alive():
        with contextlib.suppress(CommandNotStarted):  # until the bomb has burnt out
            return (await run(started, "echo", "alive"))[1] == "alive\n"

    await eventually(alive)


async def test_open_network_has_a_device_and_neighbours_are_out_of_reach(make, client):
    one, two = await make(network=Network.OPEN), await make(network=Network.OPEN)
    assert "eth0" in (await run(one, "ls", "/sys/class/net"))[1]
    [name] = client.containers.get(two.handle).attrs["NetworkSettings"]["Networks"]
    assert client.networks.get(name).attrs["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    address = client.containers.get(two.handle).attrs["NetworkSettings"]["Networks"][name]["IPAddress"]
    serve = await asyncio.create_subprocess_exec(
        "docker", "exec", two.handle, "python3", "-m", "http.server", "8000",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    try:
        own = ["python3", "-c", f"import socket; socket.create_connection(('{address}', 8000), 2)"]

        async def answers():
            return (await run(two, *own))[0] == 0

        await eventually(answers)
        assert (await run(one, *own))[0] == 1
    finally:
        serve.kill()
        await serve.wait()


async def test_the_network_goes_with_the_last_sandbox_on_it(make, driver, client):
    def networks():
        return client.networks.list(filters={"label": f"terminalpp.home={driver._tag}"})

    one, two = await make(network=Network.OPEN), await make(network=Network.OPEN)
    labels = [client.containers.get(sandbox.handle).labels["terminalpp.sandbox"] for sandbox in (one, two)]
    await driver.stop(labels[0])
    assert len(networks()) == 1
    await driver.remove(labels[1])
    assert networks() == []
    again = await make(network=Network.OPEN)
    assert "eth0" in (await run(again, "ls", "/sys/class/net"))[1]


# ---- any image ----------------------------------------------------------------------------------


async def test_an_image_with_nothing_in_it_but_one_static_program(make, image, tppd):
    started = await make(image=image("FROM scratch\nCOPY program /program\n", program=tppd.read_bytes()))
    code, _, err = await run(started, "/program")
    assert code == 1
    client = Tppd(started.run_dir)
    await client.write_file("file", b"x", epoch=1)  # /home/user was made for it, and is the user's
    assert [entry.name for entry in await client.listdir("/home/user")] == ["file"]
    await client.close()
    assert "--run" in err
    with pytest.raises(CommandNotStarted):
        await run(started, "/bin/sh", "-c", "true")


async def test_an_image_with_ways_of_its_own(make, image):
    text = (f"FROM {BASE}\nENV FOO=bar PATH=/opt/bin:/usr/bin:/bin\nWORKDIR /nope\nUSER nobody\n"
            'VOLUME /data\nHEALTHCHECK CMD exit 1\nENTRYPOINT ["/bin/false"]\nCMD ["x"]\nEXPOSE 80\n')
    started = await make(image=image(text))
    code, out, _ = await run(started, "id", "-u")
    assert (code, out) == (0, "1000\n")
    assert await run(started, "sh", "-c", "echo x > ~/file && stat -c %u /home/user") == (0, "1000\n", "")
    assert started.details["environment"]["FOO"] == "bar"


async def test_an_image_without_bash(make, image):
    started = await make(image=image(f"FROM {BASE}\nRUN rm -f /bin/bash /usr/bin/bash\n"))
    assert (await run(started, "/bin/sh", "-c", "echo ok"))[1] == "ok\n"


async def test_the_builtin_image_has_what_agents_need(make):
    started = await make()
    tools = "git python3 python pip3 cc make rg curl less ps patch jq unzip file"
    look = f"for t in {tools}; do command -v $t || echo no $t; done; id -un"
    code, out, err = await run(started, "sh", "-c", look)
    assert code == 0
    assert "no " not in out, out + err
    assert out.splitlines()[-1] == "user"
    test = "def test_x():\n    assert 1 + 1 == 2\n"
    check = f"printf '{test}' > test_x.py && python3 -m pytest -q test_x.py"
    code, out, err = await run(started, "sh", "-c", check,
                               env={"HOME": "/home/user", "PATH": "/usr/bin:/bin"})
    assert code == 0, out + err
    code, out, err = await run(started, "sh", "-c", "python3 -m venv v && v/bin/python -c 'print(1)'")
    assert (code, out) == (0, "1\n"), err


# ---- images: names, builds, refusals ------------------------------------------------------------


def test_the_builtin_image_is_named_after_its_recipe(client, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    tags = {Images(client, base=base, uid=uid, recipe=tmp_path).builtin_tag()
            for base in ("a", "b") for uid in (1000, 1001)}
    assert len(tags) == 4
    again = Images(client, base="a", recipe=tmp_path).builtin_tag()
    assert again in tags
    (tmp_path / "Dockerfile").write_text("FROM x\nRUN true\n")
    assert Images(client, base="a", recipe=tmp_path).builtin_tag() not in tags


async def test_a_build_reports_lines_and_happens_once(client, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        f"ARG BASE\nFROM ${{BASE}}\nRUN echo step of {new_id()}\n")
    images = Images(client, base=BASE, recipe=tmp_path)
    lines: list[str] = []

    async def note(line: str) -> None:
        lines.append(line)

    first = await asyncio.gather(*(images.ensure(None, note) for _ in range(3)))
    assert len(set(first)) == 1
    assert sum("Successfully built" in line for line in lines) == 1
    assert any("step of" in line for line in lines)
    lines.clear()
    assert await images.ensure(None, note) == first[0]
    assert lines == []
    client.images.remove(images.builtin_tag(), force=True)


async def test_a_build_that_fails_says_why(client, tmp_path):
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN echo the reason && exit 7\n")
    with pytest.raises(ImageUnavailable) as caught:
        await Images(client, base=BASE, recipe=tmp_path).ensure(None, quiet)
    assert "7" in caught.value.detail
    assert "the reason" in caught.value.extra["log"]
    assert caught.value.extra["step"] == "build"


@pytest.mark.parametrize("name", ["127.0.0.1:1/no/such:image", "tpp-none@sha256:" + "0" * 64])
async def test_an_image_that_is_nowhere(make, name):
    with pytest.raises(ImageUnavailable) as caught:
        await make(image=name)
    assert name in caught.value.detail


async def test_an_image_that_is_another_path_of_the_daemons(make, client):
    other = (await make()).handle
    for name in (f"../containers/{other}", "Not A Name", "a?x=1"):
        with pytest.raises(InvalidInput):
            await make(image=name)


async def test_pulls_that_hang_hold_up_nothing_else(driver, client):
    """A registry that takes connections and says nothing; more pulls than there are threads for them."""
    registry = socket.create_server(("127.0.0.1", 0), backlog=64)
    name = f"127.0.0.1:{registry.getsockname()[1]}/never/comes"
    asked = asyncio.Event()

    async def note(_line: str) -> None:
        asked.set()

    images = Images(client, base=BASE)
    pulls = [asyncio.create_task(images.ensure(f"{name}:{n}", note)) for n in range(TRANSFERS + 40)]
    try:
        async with asyncio.timeout(20):
            await asked.wait()
        common = len([await asyncio.to_thread(int, n) for n in range(50)])
        assert common == 50  # of the process's own threads
        assert await driver.prepare(None, quiet)
        assert await driver.list() is not None
        assert not any(pull.done() for pull in pulls)
    finally:
        for pull in pulls:
            pull.cancel()
        registry.close()
    await asyncio.gather(*pulls, return_exceptions=True)


async def test_an_image_for_another_machine_is_a_clear_error(make, image):
    with pytest.raises(SandboxFailed) as caught:
        await make(image=image("FROM scratch\nCOPY x /.tpp\n", x=b"a file where tppd should go"))
    assert caught.value.detail


# ---- life ---------------------------------------------------------------------------------------


async def test_two_homes_do_not_see_each_other(driver, make, tppd, tmp_path):
    started = await make()
    other = DockerDriver(tmp_path, tppd, image_base=BASE)
    assert await other.list() == []
    sandbox_id = Path(started.run_dir).parent.name
    assert await other.inspect(sandbox_id) is None
    await other.remove(sandbox_id)
    assert await driver.inspect(sandbox_id) is not None


async def test_nothing_is_left_after_remove(driver, client):
    spec = SandboxSpec(new_id())
    started = await driver.start(spec)
    volume = started.details["workspace"]
    await driver.stop(spec.sandbox_id)
    assert client.volumes.get(volume)
    assert await driver.list() == [spec.sandbox_id]
    await driver.remove(spec.sandbox_id)
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get(volume)
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(started.handle)
    assert not Path(started.run_dir).parent.exists()


async def test_no_daemon_is_told_and_refused(tppd, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    lonely = DockerDriver(tmp_path, tppd)
    probe = await lonely.probe()
    assert not probe.available
    assert "no Docker daemon answers" in probe.detail
    assert probe.fix
    with pytest.raises(IsolationUnavailable):
        await lonely.start(SandboxSpec(new_id()))


async def test_a_daemon_elsewhere_is_refused(tppd, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert not (await DockerDriver(tmp_path, tppd).probe()).available


async def test_stop_all_ends_what_this_home_has_and_keeps_the_workspace(driver, home, make, client):
    started = await make()
    sandbox_id = Path(started.run_dir).parent.name
    await run(started, "sh", "-c", "echo kept > file")
    environment = {**os.environ, "TPP_HOME": str(home), "TPP_IMAGE_BASE": BASE}
    done = subprocess.run([sys.executable, "-m", "actors.node.stop_all"], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"sandbox": sandbox_id, "driver": "docker", "state": "stopped"} in reports
    assert await driver.inspect(sandbox_id) is None
    again = await driver.start(SandboxSpec(sandbox_id, generation=2))
    assert (await run(again, "cat", "file"))[1] == "kept\n"
    assert await stop_all(settings_module.load(environment)) == 0
