"""`tpp ports` as a person uses it, against a running stack: list, share, take back, forward."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.e2e.stack import ROOT, Stack

PAGE = "mkdir -p site && echo hello > site/index.html && cd site && exec python3 -m http.server 8000"


@pytest.fixture
def box(stack: Stack) -> str:
    made = stack.tpp("sandbox", "create", "--name", "ports", "--json")
    assert made.returncode == 0, made.stderr
    sandbox = json.loads(made.stdout)["id"]
    assert stack.tpp("exec", "--detach", sandbox, PAGE).returncode == 0
    for _ in range(100):
        if found(stack, sandbox)["items"]:
            break
        time.sleep(0.1)
    return sandbox


def found(stack: Stack, sandbox: str) -> dict:
    done = stack.tpp("ports", sandbox, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def get(stack: Stack, url: str) -> tuple[int, str]:
    """As a browser does: `*.localhost` is this machine, and cookies are kept."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    port = host.rpartition(":")[2]
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}/{path}", headers={"Host": host})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_page_is_listed_shared_and_taken_back(stack: Stack, box: str) -> None:
    (one,) = found(stack, box)["items"]
    assert (one["port"], one["listening"], one["reachable"]) == (8000, True, True)
    assert one["argv"][1:] == ["-m", "http.server", "8000"]
    shown = stack.tpp("ports", box)
    assert "8000" in shown.stdout
    assert one["url"] in shown.stdout
    assert get(stack, one["url"])[0] == 401
    shared = stack.tpp("ports", "share", box, "8000", "--for", "15m", "--name", "anna")
    assert shared.returncode == 0, shared.stderr
    url = shared.stdout.strip()
    assert get(stack, url) == (200, "hello\n")
    listed = stack.tpp("ports", box).stdout
    assert "anna" in listed
    id = found(stack, box)["shares"][0]["id"]
    assert stack.tpp("ports", "unshare", box, id[:8]).returncode == 0
    assert get(stack, url)[0] == 404
    assert stack.tpp("ports", "share", box, "8000", "--for", "soon").returncode == 2
    assert stack.tpp("ports", "share", box, "70000").returncode == 2


def test_a_port_is_forwarded(stack: Stack, box: str) -> None:
    environment = stack.environ() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "terminalpp.cli.main", "ports", "forward", box, "8000:0", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        local = json.loads(running.stdout.readline())["local_port"]
        assert get(stack, f"http://127.0.0.1:{local}/") == (200, "hello\n")
        running.send_signal(2)
        assert running.wait(20) == 130
