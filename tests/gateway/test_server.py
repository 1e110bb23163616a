"""The server as a whole: health, metrics, the interface's document, start and end of the process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway import requests, responses
from gateway.__main__ import listen
from schema import Database
from terminalpp.client import Client, shapes
from terminalpp.types.commands import Execution
from terminalpp.types.errors import PortInUse
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk

ROOT = Path(__file__).resolve().parents[2]


# ---- health -------------------------------------------------------------------------------------


async def test_livez_and_version(served: Served) -> None:
    async with served.client() as client, served.http() as http:
        alive = await client.livez()
        assert alive["alive"] is True
        assert alive["lag_ms"] >= 0
        assert re.match(r"(ok|slow) loop lag [\d.]+ ms\n$", (await http.get("/livez")).text)
        assert (await client.version())["api"] == "v1"


async def test_readyz_names_the_part_that_is_missing(served: Served) -> None:
    async with served.client() as client, served.http() as http:
        found = await client.readyz()
        answer = await http.get("/readyz")
    assert found["ready"] is False
    assert {check["name"]: check["ok"] for check in found["checks"]} == {
        "postgres": True, "migrations": True, "redis": True, "ray": False, "disk": True,
    }  # fmt: skip
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    lines = answer.text.splitlines()
    assert len(lines) == 5
    assert [line.split()[:2] for line in lines if line.startswith("FAIL")] == [["FAIL", "ray"]]


async def test_readyz_with_everything_there(stack: Served, api: Client) -> None:
    found = await api.readyz()
    assert found["ready"] is True, found


async def test_a_pool_that_is_gone_is_a_503(served: Served, database: Database, talk: Talk) -> None:
    async with served.http() as http:
        await http.get("/v1/sandboxes")  # the token is known from here on
        await database.close()
        answer = await http.get("/v1/sandboxes")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


# ---- the document -------------------------------------------------------------------------------


def test_committed_document_is_the_present_one(document: dict) -> None:
    kept = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert kept == document, "run: python -m gateway.export_openapi > docs/openapi.json"


@pytest.fixture
def document(tmp_path: Path) -> dict:
    from gateway.app import create_app
    from runtime.settings import Settings

    return json.loads(json.dumps(create_app(Settings(home=tmp_path)).openapi()))


def operations(document: dict) -> list[tuple[str, str, dict]]:
    return [(m, p, o) for p, found in document["paths"].items() for m, o in found.items()]


def test_every_operation_is_described(document: dict) -> None:
    ids = [o["operationId"] for _, _, o in operations(document)]
    assert len(ids) == len(set(ids))
    for method, path, operation in operations(document):
        assert re.fullmatch(r"[a-z][A-Za-z]+", operation["operationId"])
        assert {"403", "422", "429", "431", "500", "503"} <= operation["responses"].keys(), path
        if path.startswith("/v1/"):
            assert {"401", "404", "409", "504", "507"} <= operation["responses"].keys(), path
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= operation["responses"].keys(), path
        if "201" in operation["responses"]:
            assert operation["responses"]["201"]["headers"]["Location"]["required"], path
        assert (operation.get("security") == [{"token": []}]) == path.startswith("/v1/"), path
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in names) == (method == "post"), path


def test_every_body_has_an_example_that_is_valid() -> None:
    for name, body in vars(requests).items():
        if isinstance(body, type) and issubclass(body, requests.Body) and body is not requests.Body:
            (example,) = body.model_config["json_schema_extra"]["examples"]
            body.model_validate(example)
            with pytest.raises(ValueError, match="colour"):
                body.model_validate({**example, "colour": "red"})
            assert name in str(body)


def test_answers_have_examples_and_the_client_knows_their_fields() -> None:
    for name, shape in vars(responses).items():
        if not (isinstance(shape, type) and issubclass(shape, BaseModel)) or name in ("Answer", "BaseModel"):
            continue
        known = getattr(shapes, name, None)
        if known is not None and hasattr(known, "__required_keys__"):
            assert set(shape.model_fields) == set(known.__annotations__), name
        for example in (shape.model_config.get("json_schema_extra") or {}).get("examples", []):
            shape.model_validate(example)


def test_a_command_has_the_same_fields_wherever_it_is_told() -> None:
    assert set(Execution.__slots__) == set(responses.Execution.model_fields)


def test_docs_name_every_route() -> None:
    from gateway.app import create_app
    from runtime.settings import Settings

    words = (ROOT / "docs" / "api.md").read_text()
    for method, path, operation in operations(create_app(Settings(home=ROOT)).openapi()):
        assert f"`{method.upper()} {path}`" in words, (method, path, operation["operationId"])


async def test_docs_page_needs_nothing_from_elsewhere(served: Served) -> None:
    async with served.http() as http:
        page = (await http.get("/docs")).text
    assert "createSandbox" in page
    assert "<script" not in page
    assert "://" not in page


async def test_answers_have_the_documented_fields(served: Served, talk: Talk) -> None:
    async with served.http() as http:
        responses.Sandbox.model_validate((await http.get(f"/v1/sandboxes/{talk.sandbox_id}")).json())
        responses.Conversation.model_validate((await http.get(f"/v1/conversations/{talk.id}")).json())


# ---- the process --------------------------------------------------------------------------------


async def test_listening_is_announced_whole(served: Served) -> None:
    found = json.loads((served.home / "run" / "gateway.json").read_text())
    assert found == {"pid": os.getpid(), "port": int(served.url.rpartition(":")[2]), "url": served.url}


async def test_only_loopback_listens(served: Served) -> None:
    (server,) = served.server.servers
    assert [socket.getsockname()[0] for socket in server.sockets] == ["127.0.0.1"]


def test_port_in_use_says_so(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    with pytest.raises(PortInUse, match=str(port)):
        listen(port)


async def start(home: Path, **variables: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "TPP_HOME": str(home), **variables}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", cwd=ROOT, env=environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_process_without_its_services_says_what_is_missing(tmp_path: Path) -> None:
    process = await start(tmp_path)
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode not in (0, None)
    assert b"TPP_DATABASE_URL is not set" in said


async def test_process_on_a_taken_port_says_so(tmp_path: Path, served: Served) -> None:
    process = await start(tmp_path, TPP_PORT=served.url.rpartition(":")[2])
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"cannot be had" in said
    assert b"Traceback" not in said


async def test_what_is_cut_by_the_end_is_told_to_come_again(stack: Served, api: Client, box: str) -> None:
    async with stack.http() as http:
        path, body = f"/v1/sandboxes/{box}/commands", {"command": "sleep 30", "wait_ms": 30_000}
        waiting = asyncio.create_task(http.post(path, json=body))
        await eventually(lambda: api.commands(box), timeout_s=10)
        await stack.stop()
        answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
