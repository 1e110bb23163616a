"""How much runs at once: a bound in all and one per account; the rest waits shortly, then gets 429.

Three pools, so that none can take the others' room:
- `commands`: starting a command.
- `long`: event streams, long polls, archives, whatever is asked to wait.
- `requests`: everything else.
What is still under way after `SETTLED_S` moves on to `long`, where there is room: it waits for a program, or
for a client that sends or reads slowly, and costs the server next to nothing. Health needs no token, passes
no pool and always answers.

Who must wait stands in the line of his account, and accounts take turns: one with a thousand requests waiting
delays another by one request. All lines of a pool together are bounded, and nobody waits longer than
`WAIT_S`: what is refused was not begun, so the request may be repeated.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from runtime.settings import Settings
from terminalpp.types import errors

WAIT_S = 1.0
SETTLED_S = 0.25
_COMMANDS = re.compile(r"/v1/sandboxes/[^/]+/commands/?")
_LONG = re.compile(r"/(?:events|archive|wait|diff|output|stream)/?$")


@dataclass(eq=False)
class Pool:
    """`limit` and `share` (of one account) are running at most, `queue` waiting."""

    name: str
    limit: int
    share: int
    queue: int
    running: int = 0
    waiting: int = 0
    _of: dict[str, int] = field(default_factory=dict)
    _lines: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)

    def room(self, account: str) -> bool:
        """Whether the account may enter now."""
        return self.running < self.limit and self._of.get(account, 0) < self.share

    def lined(self, account: str) -> bool:
        """Whether others of the account wait already."""
        return account in self._lines

    def enter(self, account: str) -> None:
        """Take a place; `room` must have said yes."""
        self.running += 1
        self._of[account] = self._of.get(account, 0) + 1

    def leave(self, account: str) -> None:
        """Give a place back, and let in who waits."""
        self.running -= 1
        left = self._of[account] - 1
        if left:
            self._of[account] = left
        else:
            del self._of[account]
        self._next()

    async def take(self, account: str) -> None:
        """Enter now, or from the line. Raises Overloaded."""
        if self.room(account) and not self.lined(account):
            self.enter(account)
        else:
            await self.line(account)

    async def line(self, account: str) -> None:
        """Returns when the account has entered. Raises Overloaded."""
        if self.waiting >= self.queue:
            raise self._full(account)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(account, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(account)  # it was let in at the very moment
            else:
                self._give_up(account, turn)
            if isinstance(error, TimeoutError):
                raise self._full(account) from None
            raise
        finally:
            self.waiting -= 1

    def _give_up(self, account: str, turn: asyncio.Future[None]) -> None:
        line = self._lines[account]
        line.remove(turn)
        if not line:
            del self._lines[account]

    def _next(self) -> None:
        """Let in whoever may enter now, one of each account in turn."""
        for account in list(self._lines):
            if self.running >= self.limit:
                return
            line = self._lines[account]
            # One that is done gives up just now, and leaves the line by itself.
            turn = next((turn for turn in line if not turn.done()), None)
            if turn is not None and self.room(account):
                line.remove(turn)
                self.enter(account)
                turn.set_result(None)
                self._lines.move_to_end(account)
                if not line:
                    del self._lines[account]

    def _full(self, account: str) -> errors.Overloaded:
        whose = "of this account " if self._of.get(account, 0) >= self.share else ""
        hint = "Wait as long as Retry-After says and send it again."
        return errors.Overloaded(f"too many {self.name} {whose}are under way", hint)


class Ticket:
    """A place in a pool, given back once by `end`."""

    __slots__ = ("_account", "_pool", "ended", "since")

    def __init__(self, pool: Pool, account: str, since: float) -> None:
        self._pool = pool
        self._account = account
        self.since = since
        self.ended = False

    def settle(self, long: Pool) -> None:
        """Move to `long`, unless it has ended or there is no room."""
        if not self.ended and long.room(self._account):
            long.enter(self._account)
            self._pool.leave(self._account)
            self._pool = long

    def end(self) -> None:
        """Give the place back."""
        self.ended = True
        self._pool.leave(self._account)


class Admission:
    """The places of a process: for short requests, for commands, and for what takes long."""

    def __init__(self, settings: Settings) -> None:
        short = (settings.requests_max, settings.requests_per_account, settings.requests_queue)
        self.requests = Pool("requests", *short)
        self.commands = Pool("commands", *short)
        self.long = Pool("long requests", settings.long_requests_max, settings.long_requests_per_account, 0)
        self._young: deque[Ticket] = deque()  # not yet in `long`, the oldest first; one timer serves them all
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, account: str, method: str, path: str, query: bytes) -> Ticket:
        """A place for a request. Raises Overloaded."""
        if method == "POST" and _COMMANDS.fullmatch(path):
            pool = self.commands
        elif _LONG.search(path) or b"wait=true" in query:
            pool = self.long
        else:
            pool = self.requests
        await pool.take(account)
        loop = asyncio.get_running_loop()
        ticket = Ticket(pool, account, loop.time())
        if pool is not self.long:
            self._young.append(ticket)
            if self._timer is None:
                self._timer = loop.call_later(SETTLED_S, self._settle)
        return ticket

    async def enter_long(self, account: str) -> Ticket:
        """A place for a connection that stays. Raises Overloaded."""
        await self.long.take(account)
        return Ticket(self.long, account, asyncio.get_running_loop().time())

    def _settle(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        settled = loop.time() - SETTLED_S
        while self._young and (self._young[0].ended or self._young[0].since <= settled):
            self._young.popleft().settle(self.long)
        if self._young:
            self._timer = loop.call_at(self._young[0].since + SETTLED_S, self._settle)
