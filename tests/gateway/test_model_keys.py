"""Keys of model providers over HTTP: in, never out, and seen at once."""

from __future__ import annotations

import logging

import pytest

from schema import Database
from tests.gateway.conftest import Served

KEY = "sk-this-is-never-told"


async def test_a_key_goes_in_and_never_out(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with served.http() as http:
        assert (await http.get("/v1/models/keys")).json() == {"items": []}
        before = [model["id"] for model in (await http.get("/v1/models")).json()["data"]]
        put = await http.put("/v1/models/keys/xai", json={"key": KEY})
        assert put.status_code == 200
        assert put.json()["usable"] is True
        told = await http.get("/v1/models/keys")
        assert told.json() == {"items": [put.json()]}
        after = (await http.get("/v1/models")).json()["data"]
        assert [one["id"] for one in after if one["id"] not in before] == ["xai/grok-4.7"]
        assert KEY not in put.text + told.text
        assert (await http.delete("/v1/models/keys/xai")).status_code == 204
        assert (await http.delete("/v1/models/keys/xai")).status_code == 404
        assert [model["id"] for model in (await http.get("/v1/models")).json()["data"]] == before
    assert KEY not in caplog.text


async def test_what_is_refused_does_not_repeat_the_key(served: Served) -> None:
    async with served.http() as http:
        for path, body in (
            ("xai", {"key": f"{KEY} {KEY}"}), ("xai", {"key": KEY * 300}), ("xai", {"key": [KEY]}),
            ("xai", {"key": KEY, "keys": KEY}), ("nobody", {"key": KEY}), ("xai", {}), ("xai", {"key": ""}),
        ):  # fmt: skip
            answer = await http.put(f"/v1/models/keys/{path}", json=body)
            assert answer.status_code == 422, answer.text
            assert KEY not in answer.text
        assert (await http.get("/v1/models/keys")).json() == {"items": []}


async def test_only_administrators_touch_keys(served: Served, database: Database) -> None:
    async with served.http() as http:
        me = (await http.get("/v1/me")).json()["id"]
        await database.execute("UPDATE users SET role = 'user' WHERE id = $1", me)
        for method, body in (("PUT", {"key": KEY}), ("DELETE", None)):
            answer = await http.request(method, "/v1/models/keys/xai", json=body)
            assert answer.status_code == 403
        assert (await http.get("/v1/models/keys")).status_code == 403
