"""An agent whose command was refused a host is told so, and so is the person."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from terminalpp.types.network import PROXY_PORT
from tests.agents.test_turns import FIX, call, team

ROOT = Path(__file__).resolve().parents[2]
REQUEST = r"CONNECT evil.test:443 HTTP/1.1\r\nHost: a\r\n\r\n"
ASK = f"exec 3<>/dev/tcp/127.0.0.1/{PROXY_PORT}; printf '{REQUEST}' >&3; cat <&3"


async def test_a_refused_host_is_in_the_log_and_in_what_the_agent_sees(talk, script, settings):
    environment = {**os.environ, **settings.to_environ()}
    proxy = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors.egress", cwd=ROOT, env=environment
    )
    try:
        chat = await talk(script(team([call("bash", command=ASK), *FIX])))
        await chat.cell.send(chat.sandbox_id, "set_network", allow=["pypi"])
        await chat.cell.call(chat.sandbox_id, "network_applied")
        await chat.post("Fix the failing test")
        assert (await chat.finished())["outcome"] == "passed"
    finally:
        proxy.terminate()
        await proxy.wait()
    (refused,) = await chat.events("connection.refused")
    assert refused.payload["targets"] == [{"host": "evil.test", "port": 443, "reason": "not-allowed"}]
    seen = [e.payload["output"] for e in await chat.events("tool.finished") if "refused" in str(e.payload)]
    assert f"./tpp sandbox network {chat.sandbox_id[:8]} --allow evil.test" in seen[0]
    assert "the network policy refused evil.test:443" in seen[0]
