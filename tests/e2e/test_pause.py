"""A paused sandbox stays so whatever is killed, and goes on where it was."""

from __future__ import annotations

from tests.e2e.stack import Stack, ready, running_sandbox


async def test_a_pause_outlives_the_gateway_ray_and_every_cell(stack: Stack, client) -> None:
    box = (await running_sandbox(client, name="paused"))["id"]
    count = "i=0; while :; do i=$((i+1)); echo $i > m; mv m n; sleep 0.05; done"
    begun = stack.tpp("exec", "--detach", box, count)
    assert begun.returncode == 0, begun.stderr
    assert stack.tpp("sandbox", "pause", box).returncode == 0
    stack.kill(*stack.processes("-m gateway"), *(cell["pid"] for cell in stack.cells()))
    stack.kill(*stack.processes("gcs_server"), *stack.processes("/raylet/raylet"))
    await ready(client)
    refused = stack.tpp("exec", box, "true")
    assert refused.returncode != 0
    assert "is paused" in refused.stderr
    assert (await client.sandbox(box))["paused"] is True
    assert stack.tpp("sandbox", "resume", box).returncode == 0
    grows = "a=$(cat n); sleep 0.5; test $(cat n) -gt $a && echo goes on"
    assert stack.tpp("exec", box, grows).stdout == "goes on\n"


async def test_down_ends_a_pause(stack: Stack, client) -> None:
    box = (await running_sandbox(client, name="paused and down"))["id"]
    assert stack.tpp("sandbox", "pause", box).returncode == 0
    stack.stop()
    stack.start()
    assert stack.tpp("exec", box, "echo on").stdout == "on\n"
