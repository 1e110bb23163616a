"""A small honest OpenAI-compatible server that replays recorded replies.

It speaks `POST /v1/chat/completions` (streamed or whole) and `GET /v1/models` on loopback. Which
reply comes next follows from the request alone: the first scene whose `system` and `user` patterns
match the messages, at the position given by how many assistant messages they already hold. A
request that no scene answers is recorded in `unmatched` and gets a 400, so that a test cannot pass
on a reply nobody recorded.

A reply may be a fault: `{"status": 429, "headers": {...}, "times": 2}` is served that often before
the next entry of its scene; `{"raw": "..."}` sends those bytes as the body; `{"hang_s": 5}` waits;
`{"cut_after": 3}` breaks the stream off after three pieces.

Run by hand: `python -m tests.model_server.server SCENARIO.json [--port N] [--key KEY]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class ModelServer:
    """`scenario`: {"model": name, "scenes": [{"system": regex, "user": regex, "replies": [...]}]}."""

    scenario: dict[str, Any]
    key: str | None = None
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    unmatched: list[dict[str, Any]] = field(default_factory=list)
    _faults: dict[tuple[int, int], int] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> ModelServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = head[0].split(" ", 2)
                if not await self._answer(method, path, headers, body, writer):
                    break
        writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; False when the connection must be closed."""
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return await _json(writer, 401, _error("Incorrect API key provided", "invalid_api_key"))
        if path == "/v1/models":
            return await _json(writer, 200, {"data": [{"id": self.scenario["model"], "object": "model"}]})
        if (method, path) != ("POST", "/v1/chat/completions"):
            return await _json(writer, 404, _error(f"no route {path}", "not_found"))
        request = json.loads(body)
        self.requests.append(request)
        if request["model"] != self.scenario["model"]:
            return await _json(
                writer, 404, _error(f"The model `{request['model']}` does not exist", "model_not_found")
            )
        reply = self._next(request)
        if reply is None:
            self.unmatched.append(request)
            return await _json(writer, 400, _error("no recorded reply for this request", "unmatched"))
        await asyncio.sleep(reply.get("hang_s", 0))
        if "raw" in reply:
            return await _respond(writer, 200, reply["raw"].encode(), reply.get("type", "application/json"))
        if "status" in reply:
            return await _json(
                writer, reply["status"], _error("recorded fault", "fault"), reply.get("headers")
            )
        if request.get("stream"):
            return await self._stream(writer, request, reply)
        return await _json(writer, 200, _whole(request["model"], reply))

    def _next(self, request: dict[str, Any]) -> dict[str, Any] | None:
        messages = request["messages"]
        said = {role: _text(messages, role) for role in ("system", "user")}
        answered = sum(1 for message in messages if message["role"] == "assistant")
        for number, scene in enumerate(self.scenario["scenes"]):
            if not all(re.search(scene.get(role, ""), said[role]) for role in said):
                continue
            position = answered
            for index, reply in enumerate(scene["replies"]):
                if "times" in reply:  # a fault: used up first, and not counted as an answer
                    served = self._faults.get((number, index), 0)
                    if index <= position and served < reply["times"]:
                        self._faults[number, index] = served + 1
                        return reply
                    if index <= position:
                        position += 1
                elif index == position:
                    return reply
            return scene["replies"][-1] if scene.get("then") == "last" else None
        return None

    async def _stream(
        self, writer: asyncio.StreamWriter, request: dict[str, Any], reply: dict[str, Any]
    ) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for sent, piece in enumerate(_pieces(request["model"], reply)):
            if sent == reply.get("cut_after"):
                writer.transport.abort()
                return False
            writer.write(_chunked(b"data: " + json.dumps(piece).encode() + b"\n\n"))
            await writer.drain()
            await asyncio.sleep(reply.get("delay_s", 0))
        writer.write(_chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        return True


def _text(messages: list[dict[str, Any]], role: str) -> str:
    return "\n".join(str(message.get("content") or "") for message in messages if message["role"] == role)


def _tool_calls(reply: dict[str, Any]) -> list[dict[str, Any]]:
    calls = []
    for index, call in enumerate(reply.get("tool_calls", [])):
        arguments = call["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        calls.append(
            {
                "index": index,
                "id": call.get("id", f"call_{index}"),
                "type": "function",
                "function": {"name": call["name"], "arguments": text},
            }
        )
    return calls


def _finish(reply: dict[str, Any]) -> str:
    return reply.get("finish_reason") or ("tool_calls" if reply.get("tool_calls") else "stop")


def _usage(reply: dict[str, Any]) -> dict[str, Any]:
    return reply.get("usage") or {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def _whole(model: str, reply: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.get("content"), "tool_calls": _tool_calls(reply) or None}
    return {
        "id": "chatcmpl-recorded",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(reply)}],
        "usage": _usage(reply),
    }


def _pieces(model: str, reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a streamed reply, as OpenAI sends them: role, text, tool calls, finish, usage."""

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        return {
            "id": "chatcmpl-recorded",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **more,
        }

    content = reply.get("content") or ""
    pieces = [chunk({"role": "assistant", "content": ""})]
    pieces += [chunk({"content": content[start : start + 20]}) for start in range(0, len(content), 20)]
    pieces += [chunk({"tool_calls": [call]}) for call in _tool_calls(reply)]
    pieces.append(chunk({}, _finish(reply)))
    usage = chunk({}, None, usage=_usage(reply))
    usage["choices"] = []
    return [*pieces, usage]


def _chunked(data: bytes) -> bytes:
    """Chunked transfer coding: the only way a client can tell a stream that ended from one that broke."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _error(message: str, code: str) -> dict[str, Any]:
    return {
        "error": {
            "message": message,
            "type": "server_error" if code == "fault" else "invalid_request_error",
            "code": code,
        }
    }


async def _json(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
) -> bool:
    return await _respond(writer, status, json.dumps(body).encode(), "application/json", headers)


async def _respond(
    writer: asyncio.StreamWriter, status: int, body: bytes, type: str, headers: dict[str, str] | None = None
) -> bool:
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    writer.write(head.encode("latin-1") + body)
    await writer.drain()
    return True


async def _main(arguments: argparse.Namespace) -> None:
    scenario = json.loads(Path(arguments.scenario).read_text())
    server = await ModelServer(scenario, arguments.key, arguments.port).start()
    sys.stdout.write(f"{server.base_url}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
