"""Conversations as they are followed: each event is read and encoded once, and its bytes are shared.

A `Feed` is there while somebody follows its conversation. It only knows the number of the last event: Redis
says it at once, Postgres is asked every `POLL_S`. Events are handed out as pages, read when the first one
asks and shared with all who ask for the same page meanwhile and soon after. As all who have caught up stand
at the same number, they ask for the same page.

Slow consumers: nobody is waited for and nothing is queued for anybody. The last pages of all feeds are kept,
up to `KEPT` pages and `KEPT_BYTES` together; who is further behind has his own read from Postgres. At most
`READS` pages are read at once, in the order in which they were asked for, so that many who replay leave the
loop to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from schema import Database, Live, events
from terminalpp.types import errors

log = logging.getLogger("gateway")

PAGE = 500
PAGE_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024
KEPT_BYTES = 16 * 1024 * 1024
KEPT = 1000  # most hold one short event: of thousands, memory is left in pieces that nothing else fits into
POLL_S = 1.0
READS = 4


def encode(event: events.Line) -> bytes:
    """One event as lines: the number as `id`, the type as `event`, all of it as one line of JSON."""
    type = json.dumps(event.type)
    created_at = event.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # asyncpg gives UTC
    return (
        f"id: {event.seq}\nevent: {event.type}\ndata: "
        f'{{"seq":{event.seq},"type":{type},"actor":{json.dumps(event.actor)},'
        f'"created_at":"{created_at}","payload":{event.payload}}}\n\n'
    ).encode()


def _pieces(lines: Sequence[events.Line]) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += encode(line)
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


@dataclass(frozen=True, slots=True)
class Page:
    """Whole events behind a number, up to `last`, joined into pieces of about PIECE_BYTES."""

    last: int
    count: int
    pieces: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(map(len, self.pieces))


class Feed:
    """One conversation. `head` is the number of the last event that is known of."""

    def __init__(self, feeds: Feeds, conversation_id: str, head: int) -> None:
        self._feeds = feeds
        self.conversation_id = conversation_id
        self.head = head
        self.followers = 0
        self._news = asyncio.Event()
        self._reading: dict[int, asyncio.Task[Page]] = {}
        self._watching: list[asyncio.Task[None]] = []

    def advance(self, head: int) -> None:
        """There are events up to `head`."""
        if head > self.head:
            self.head = head
            self.wake()

    def wake(self) -> None:
        """Everyone who waits looks around."""
        waiting, self._news = self._news, asyncio.Event()
        waiting.set()

    async def beyond(self, after: int, wait_s: float) -> bool:
        """Whether there is more than `after`; waits for it, or for `wake`, up to `wait_s`. Raises NotFound
        when the conversation is gone."""
        if self.head > after:
            return True
        self._watch()
        news = self._news
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await news.wait()
        return self.head > after

    async def page(self, after: int) -> Page:
        """Events behind `after`, none when there are none yet. Raises Unavailable."""
        kept = self._feeds.kept(self.conversation_id, after)
        if kept is not None:
            return kept
        reading = self._reading.get(after)
        if reading is None:
            reading = self._reading[after] = asyncio.create_task(self._read(after))
            reading.add_done_callback(lambda done: self._was_read(after, done))
        # Shielded: who leaves does not take the page away from the others.
        return await asyncio.shield(reading)

    async def _read(self, after: int) -> Page:
        async with self._feeds.reads:
            # Up to the head and no further, so that all who have caught up stand at the same number.
            lines = await events.page(
                self._feeds.database, self.conversation_id, after, self.head, PAGE, PAGE_BYTES
            )
            page = Page(lines[-1].seq if lines else after, len(lines), tuple(_pieces(lines)))
        if not lines:
            self.head = after  # what was announced is not there (yet): the next look tells
        self._feeds.keep(self.conversation_id, after, page)
        return page

    def _was_read(self, after: int, reading: asyncio.Task[Page]) -> None:
        del self._reading[after]
        if not reading.cancelled():
            reading.exception()  # all who wanted it may have left

    # ---- the head --------------------------------------------------------------------------------

    def _watch(self) -> None:
        for task in self._watching:
            if task.done():
                task.result()  # it never ends by itself: what ended it ends the followers
        if not self._watching:
            self._watching = [asyncio.create_task(work()) for work in (self._listen, self._poll)]
            for task in self._watching:
                task.add_done_callback(lambda _: self.wake())

    async def _listen(self) -> None:
        async for seq in self._feeds.live.subscribe(self.conversation_id):
            self.advance(seq)

    async def _poll(self) -> None:
        while True:
            try:
                self.advance(await events.last_seq(self._feeds.database, self.conversation_id))
            except errors.Unavailable as error:
                log.info("conversation %s: %s", self.conversation_id, error)
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """End its tasks."""
        tasks = [*self._watching, *self._reading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Feeds:
    """The feeds of one process, and the pages that are kept."""

    def __init__(self, database: Database, live: Live) -> None:
        self.database = database
        self.live = live
        self.reads = asyncio.Semaphore(READS)
        self._open: dict[str, Feed] = {}
        self._kept: OrderedDict[tuple[str, int], Page] = OrderedDict()
        self._kept_bytes = 0

    @contextlib.asynccontextmanager
    async def following(self, conversation_id: str, head: int) -> AsyncIterator[Feed]:
        """The conversation's feed, which ends with its last follower. `head`: as the caller knows it."""
        feed = self._open.get(conversation_id)
        if feed is None:
            feed = self._open[conversation_id] = Feed(self, conversation_id, head)
        feed.advance(head)
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                del self._open[conversation_id]
                await feed.close()

    def wake(self) -> None:
        """All followers look around (the process is asked to stop)."""
        for feed in self._open.values():
            feed.wake()

    def kept(self, conversation_id: str, after: int) -> Page | None:
        """The page behind event `after`, if it is kept."""
        page = self._kept.get((conversation_id, after))
        if page is not None:
            self._kept.move_to_end((conversation_id, after))
        return page

    def keep(self, conversation_id: str, after: int, page: Page) -> None:
        """For who comes a little later; what was used longest ago goes. Events never change."""
        if page.count and (conversation_id, after) not in self._kept:
            self._kept[conversation_id, after] = page
            self._kept_bytes += page.size
            while self._kept_bytes > KEPT_BYTES or len(self._kept) > KEPT:
                self._kept_bytes -= self._kept.popitem(last=False)[1].size
