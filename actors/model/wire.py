"""What providers send, seen before litellm sees it: watched, cleaned, and put into OpenAI's own form.

litellm hides what an agent must know. At a cut stream it makes up a finish reason; of calls in odd shapes it
makes one, or none; it ends at any text that holds "[DONE]"; an error inside a stream it may take for an
answer. So a hook on its HTTP clients reads each reply first (`install`), for the request whose `Watch` is
set in the context:

- OpenAI's shape, streamed or as one JSON body, is put together by `Deltas` and handed on in plain form, as a
  stream when one was asked for and else as a body. What that form has no place for stays in `Watch.deltas`.
- Other shapes (Anthropic, Gemini, …) pass event by event, only cleaned of unfit characters.
- Whether the reply came to its end is noted (`ended`), as are an error inside it, a broken connection, and a
  body that is no reply. The stream then ends quietly; `provider` asks the watch and raises.

Error statuses (400 and up) are noted, not touched. Bodies that are no text, or compressed, pass as they are.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator
from contextvars import ContextVar, Token
from typing import Any

import httpx

from actors.model import sse
from actors.model.deltas import Deltas
from actors.model.watch import Watch, refusal
from terminalpp.types.text import clean

WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


def install() -> None:
    """Put the hooks into every HTTP client that litellm makes from now on for providers of other shapes."""
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    made = AsyncHTTPHandler.create_client

    def create_client(self: Any, *args: Any, **options: Any) -> httpx.AsyncClient:
        client = made(self, *args, **options)
        client.event_hooks = {
            "request": [*client.event_hooks["request"], ask_plainly],
            "response": [*client.event_hooks["response"], watch],
        }
        return client

    AsyncHTTPHandler.create_client = create_client


def attend(litellm: Any, seen: Watch) -> Token[Watch | None]:
    """Have `seen` watch the request that this context makes next; the token ends that.

    OpenAI's SDK, which litellm uses for everything compatible too, gets a client of ours. A client belongs to
    the event loop it was made in: another loop (each test has its own) gets another one.
    """
    from litellm.llms.custom_httpx.http_handler import get_ssl_configuration

    loop = asyncio.get_running_loop()
    if getattr(litellm.aclient_session, "loop", None) is not loop:
        litellm.aclient_session = httpx.AsyncClient(
            verify=get_ssl_configuration(),
            follow_redirects=True,
            timeout=None,  # each request brings its own
            event_hooks={"request": [ask_plainly], "response": [watch]},
        )
        litellm.aclient_session.loop = loop
        litellm.in_memory_llm_clients_cache.flush_cache()
    return WATCH.set(seen)


async def ask_plainly(request: httpx.Request) -> None:
    """Ask for a reply that is not compressed: streams gain nothing, and the hook reads bytes."""
    if WATCH.get() is not None:
        request.headers["accept-encoding"] = "identity"


async def watch(response: httpx.Response) -> None:
    """The response hook: lets the watch of this context read the reply."""
    seen = WATCH.get()
    if seen is None or response.is_redirect or isinstance(response.stream, _Read):
        return  # a client may carry the hook twice: read twice, each word would be told twice
    seen.status = response.status_code
    if response.status_code >= 400:
        await response.aread()
        seen.refusal = refusal(response.text)
        return
    kind = response.headers.get("content-type", "text/event-stream").lower()
    readable = any(word in kind for word in ("event-stream", "json", "text/"))
    plain = response.headers.get("content-encoding", "identity") == "identity"
    if not readable or not plain:
        return
    seen.read = True
    content = response.request.content
    streamed = b'"stream": true' in content or b'"stream":true' in content
    streamed = streamed or "stream" in response.request.url.path  # Gemini says it there
    response.stream = _Read(response.stream, seen, streamed, "event-stream" in kind)
    response.headers.pop("content-length", None)
    response.headers["content-type"] = "text/event-stream" if streamed else "application/json"


class _Read(httpx.AsyncByteStream):
    """A response's bytes, rewritten as they pass. `asked`: for a stream; `streamed`: what it says it is."""

    def __init__(self, inner: Any, seen: Watch, asked: bool, streamed: bool) -> None:
        self._inner, self._seen, self._asked, self._streamed = inner, seen, asked, streamed
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: AsyncIterator[bytes] | None = None

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not self._asked and not self._streamed:
            yield self._body("".join([text async for text in self._texts()]))
            return
        begun = ""
        async for text in self._texts():
            begun += text
            if begun.strip("\ufeff \t\r\n"):
                break
        if _opens_a_body(begun.strip("\ufeff \t\r\n")):
            yield self._body(begun + "".join([text async for text in self._texts()]))
            return
        events = sse.Events(self._seen)
        async for out in self._events(events, begun.removeprefix("\ufeff")):
            if self._asked:
                yield out
        if not self._asked and self._seen.deltas is not None:
            yield sse.to_bytes(sse.completion(self._seen.deltas))

    async def _events(self, events: sse.Events, begun: str) -> AsyncIterator[bytes]:
        lines = sse.Lines()
        for line in lines.add(begun):
            for out in events.line(line):
                yield out
        if not self._over(events):
            async for text in self._texts():
                for line in lines.add(text):
                    for out in events.line(line):
                        yield out
                if self._over(events):
                    return
        for line in lines.rest():
            for out in events.line(line):
                yield out
        for out in events.end():
            yield out

    def _over(self, events: sse.Events) -> bool:
        return events.done or self._seen.error is not None

    async def _texts(self) -> AsyncIterator[str]:
        """The body's text as it comes; may be asked again for the rest of it.

        The bytes are iterated once: an iteration that was left would close the connection when it is
        collected, under the hands of the next one.
        """
        if self._pieces is None:
            self._pieces = aiter(self._inner)
        try:
            async for data in self._pieces:
                if text := self._decoder.decode(data):
                    yield text
        except httpx.TransportError as broken:
            # After the end of the reply a broken connection is nobody's loss.
            self._seen.broken = f"{type(broken).__name__}: {broken}"

    def _body(self, body: str) -> bytes:
        """One JSON body: as a stream of events when that was asked for, else cleaned."""
        try:
            event = clean(json.loads(body, strict=False))
        except (ValueError, RecursionError):
            self._seen.foreign = "" if self._seen.broken else body[:sse.LONGEST_FOREIGN]
            return b""
        self._seen.ended = True
        if not isinstance(event, dict):
            self._seen.seen = True
            return body.encode()
        if sse.is_openais(event):
            self._seen.deltas = Deltas()
            self._seen.deltas.add(event)
        self._seen.note(event)
        if self._seen.deltas is None:
            return sse.to_bytes(event)
        if not self._asked:
            return sse.to_bytes(sse.completion(self._seen.deltas))
        return b"".join(sse.whole(self._seen.deltas))


def _opens_a_body(first: str) -> bool:
    """Whether a stream that should hold events holds one JSON body: `{` that is no line of its own."""
    return first.startswith("[") or (
        first.startswith("{") and not first.split("\n", 1)[0].rstrip().endswith("}")
    )
