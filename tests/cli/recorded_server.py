"""A gateway that plays a recording: enough of the API for the command line to run end to end.

It answers over real HTTP, keeps what was uploaded, makes the "team's" change in it and answers with
the diff that git makes. `hold` keeps the turn open until the client cancels it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtime.framing import short_name
from tests.cli.repositories import git

ID = "11111111-2222-4333-8444-555555555555"
SANDBOX = "99999999-2222-4333-8444-555555555555"
EXEC = "77777777-2222-4333-8444-555555555555"
CONVERSATION = {
    "id": ID, "sandbox_id": SANDBOX, "title": "t", "model": "m", "mode": "team", "workspace": "/home/user/r",
    "status": "active", "settings": {}, "total_tokens": 7, "cost_usd": 0, "last_seq": 0,
    "created_at": "2026-01-01T00:00:00+00:00", "updated_at": None,
}
ROW = {"id": SANDBOX, "name": "r", "status": "running", "status_detail": None, "driver": "bubblewrap",
       "isolation": "bwrap", "network": "none", "created_at": None}

PROCESS = {"pid": 17, "parent_pid": 16, "command_id": EXEC, "name": "sleep", "argv": ["sleep", "\x1b[31m983"],
           "state": "sleeping", "cpu_ms": 1500, "memory_bytes": 1_572_864, "started_at": None}


class RecordedServer:
    """`edit`: file contents that the team writes; `outcome`: how its turn ends."""

    def __init__(self, folder: Path, edit: dict[str, bytes]) -> None:
        self.folder = folder
        self.edit = edit
        self.outcome = "passed"
        self.output = b"hello \x1b[31mworld\n"
        self.said = ""
        self.hold = False
        self.left: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.messages: list[str] = []
        self.cancelled = asyncio.Event()
        self.watched = asyncio.Event()
        self.copied: set[str] = set()

    async def start(self, home: Path) -> None:
        """Listen, and write what `up` would have written into the home."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        (home / "run").mkdir(parents=True)
        listener = socket.socket(socket.AF_UNIX)
        with short_name(home / "run") as short:
            listener.bind(f"{short}/gateway.sock")
        self.local = await asyncio.start_unix_server(self._serve, sock=listener)
        (home / "secrets").mkdir()
        (home / "run" / "state.json").write_text(json.dumps({"url": f"http://127.0.0.1:{port}", "pid": 1}))
        (home / "secrets" / "owner.token").write_text("secret\n")

    async def stop(self) -> None:
        self.server.close()
        self.local.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                headers = {}
                while (field := (await reader.readline()).decode().strip()):
                    name, _, value = field.partition(":")
                    headers[name.lower()] = value.strip()
                body = await self._body(reader, headers)
                await self._answer(method, target, body, headers, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(await reader.readline(), 16):
                pieces.append(await reader.readexactly(size))
                await reader.readline()
            await reader.readline()
            return b"".join(pieces)
        return await reader.readexactly(int(headers.get("content-length", 0)))

    async def _answer(
        self, method: str, target: str, body: bytes, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> None:
        parts = urlsplit(target)
        self.requests.append((method, parts.path, body[:2000]))
        if parts.path != "/livez" and headers.get("authorization") != "Bearer secret":
            problem = {"code": "unauthorized", "detail": "the token is not known", "hint": "Look for it."}
            self._reply(writer, 401, problem)
        elif parts.path.endswith("/events"):
            await self._events(writer, headers, parse_qs(parts.query))
        elif parts.path.endswith("/output"):
            offset = int(parse_qs(parts.query)["offset"][0])
            data = self.output[offset:]
            extra = {"x-offset": offset, "x-next-offset": len(self.output), "x-gap-bytes": 0,
                     "x-exited": "true", "x-ended": "true"}
            self._reply(writer, 200, data, extra)
        else:
            self._reply(writer, 200, await self._json(method, parts.path, body))
        await writer.drain()

    async def _json(self, method: str, path: str, body: bytes) -> Any:
        match method, path.removeprefix("/v1"):
            case "PUT", p if p.startswith("/models/keys/"):
                return {"provider": p.rpartition("/")[2], "added_at": "2026-01-01T00:00:00Z", "usable": True}
            case "GET", "/models/keys":
                row = {"provider": "openai", "added_at": "2026-01-01T00:00:00Z", "usable": False}
                return {"items": [row]}
            case "GET", "/models":
                return {"object": "list", "data": [{"id": "openai/m", "default": True}]}
            case "POST", p if p == "/sandboxes" or p.endswith(
                ("/start", "/stop", "/restart", "/pause", "/resume")
            ):
                return ROW
            case "PUT", _:
                self._unpack(body)
                return {"files": len(self.copied), "directories": 0, "symlinks": 0, "bytes": len(body)}
            case "POST", "/conversations":
                return CONVERSATION
            case "POST", p if p.endswith("/messages"):
                self.messages.append(json.loads(body)["text"])
                return {"message_id": "m"}
            case "POST", p if p.endswith("/cancel"):
                self.cancelled.set()
                return {}
            case "GET", p if p.endswith("/diff"):
                return {"patch": base64.b64encode(self._diff()).decode(), "files": [], "left": self.left}
            case "GET", "/conversations":
                return {"items": [CONVERSATION], "next_cursor": None}
            case "GET", "/sandboxes" | "/agents":
                return {"items": [ROW] if path.endswith("sandboxes") else [], "next_cursor": None}
            case "GET", p if p.endswith("/processes"):
                return {"items": [PROCESS]}
            case "POST", p if p.endswith("/processes/kill"):
                return {"killed": 2}
            case "GET", p if p.startswith("/sandboxes/"):
                return ROW
        return {"version": "0.1.0", **CONVERSATION}

    def _unpack(self, body: bytes) -> None:
        self.folder.mkdir()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            self.copied = set(tar.getnames())
        subprocess.run(["tar", "-x", "-C", str(self.folder)], input=body, check=True)
        self._git("init", "-q", "--bare", str(self.folder.with_suffix(".snap")), tree=False)
        self._git("add", "-A", "-f", ".", ":!.git")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "base", "--allow-empty")
        for name, data in self.edit.items():
            (self.folder / name).write_bytes(data)

    def _git(self, *args: str, tree: bool = True) -> bytes:
        where = (f"--git-dir={self.folder.with_suffix('.snap')}", f"--work-tree={self.folder}",
                 "-c", "core.bare=false")
        return git(self.folder, *(where if tree else ()), *args)

    def _diff(self) -> bytes:
        self._git("add", "-A", "-f", ".", ":!.git")
        return self._git("diff", "--cached", "--binary", "HEAD")

    async def _events(
        self, writer: asyncio.StreamWriter, headers: dict[str, str], query: dict[str, Any]
    ) -> None:
        head = b"content-type: text/event-stream\r\nx-request-id: 1\r\nconnection: close"
        writer.write(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % head)
        after = int(headers.get("last-event-id", 0))
        story: list[tuple[str, dict[str, Any]]] = []
        for text in self.messages:
            story += [("message.accepted", {"message_id": "m", "text": text}),
                      ("turn.started", {"mode": "team", "model": "m", "scripted": False, "message_id": "m"}),
                      ("command.started", {"exec_id": EXEC, "command": "greet", "agent": "coder"}),
                      ("command.finished", {"exec_id": EXEC, "status": "completed", "exit_code": 0,
                                            "duration_ms": 3, "output_bytes": 17})]
            if self.said:
                story.append(("model.finished", {"call_id": "c", "agent": "coder", "content": self.said,
                                                 "usage": {"input_tokens": 1200}, "cost_usd": 0.25}))
            end = {"outcome": "cancelled" if self.hold else self.outcome, "reason": "", "summary": "Done."}
            story.append(("turn.finished", end))
        for seq, (kind, payload) in enumerate(story, 1):
            if kind == "turn.finished" and self.hold:
                self.watched.set()
                await self.cancelled.wait()
            if seq > after:
                event = {"seq": seq, "type": kind, "actor": "coder", "payload": payload, "created_at": "2026"}
                writer.write(f"id: {seq}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode())
                await writer.drain()
        if query.get("follow") == ["false"]:
            writer.write(b": end\n\n")
        await writer.drain()
        writer.close()

    def _reply(
        self, writer: asyncio.StreamWriter, status: int, body: Any, extra: dict[str, Any] | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"content-length": len(data), "content-type": "application/json", "x-request-id": "1",
                  **(extra or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + data)
