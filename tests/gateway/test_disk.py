"""While the disk is nearly full: every route that would create data says so, every other one works."""

from __future__ import annotations

import re
from pathlib import Path

from schema import Database, Live
from terminalpp.types.ids import new_id
from tests.gateway.conftest import serving

# What these do frees something, changes nothing, or is an operator's way out of trouble.
GO_ON = {"stop", "cancel", "signal", "kill", "wait", "stdin", "release", "replay"}
CREATE = {"post", "put", "patch"}


async def test_what_creates_is_refused_with_507_and_the_rest_is_not(
    tmp_path: Path, database: Database, database_url: str, live: Live
) -> None:
    options = {"database_url": database_url, "disk_reserve_bytes": 2**62}  # no disk has that
    async with serving(tmp_path, database, live, **options) as served, served.http() as http:
        seen = set()
        for path, methods in served.app.openapi()["paths"].items():
            for method in {"get", "post", "put", "patch", "delete"} & set(methods):
                answer = await http.request(method, re.sub(r"\{[a-z_]+\}", new_id(), path), content=b"{}")
                creates = path.startswith("/v1/") and method in CREATE and path.split("/")[-1] not in GO_ON
                assert (answer.status_code == 507) == creates, (method, path, answer.text)
                if creates:
                    problem = answer.json()
                    assert (problem["code"], problem["retryable"]) == ("disk-full", True)
                    assert int(answer.headers["retry-after"]) > 0
                    assert "TPP_DISK_RESERVE_BYTES" in problem["detail"]
                seen.add(creates)
        assert seen == {True, False}
        text = (await http.get("/metrics")).text
        assert f"tpp_disk_reserve_bytes {float(2**62)}" in text
        free = float(re.search(r"^tpp_disk_free_bytes (\S+)$", text, re.M)[1])
        assert free > 0
        other = await http.post("/v1/sandboxes", headers={"authorization": "Bearer wrong"}, json={})
        assert other.status_code == 401  # strangers are not told
