"""The terminal entity: one program on a pseudo-terminal, its screen, and who looks and types.

Who holds what. The pseudo-terminal is tppd's, in the sandbox; every byte it prints is in the journal before
anybody here sees it. The entity reads the journal, keeps the painted screen (`screen.py`), answers what
programs ask their terminal, decides who types (`core.py`) and records the end. Viewers get bytes from the
journal, by offset, past the entity.

What a crash costs. Nothing printed: the journal goes on; the next activation feeds the screen from its
beginning, with the sizes it had, and answers none of the old questions. Nothing typed: what was taken is
known to tppd by writer and offset, so whoever does not know sends it again and it is typed once. Its epoch
goes with everything that is typed: an entity that was frozen and replaced cannot type. Viewers come again by
themselves.

A terminal whose sandbox ends is `lost`: its program is gone and is not started anew.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from actors.terminal import core
from actors.terminal.audience import viewer_of
from actors.terminal.life import TerminalLife
from actors.terminal.screen import find
from runtime import readonly, volatile
from terminalpp.types import errors
from terminalpp.types.commands import whole
from terminalpp.types.states import TerminalState
from terminalpp.types.terminals import INPUT_MAX, Policy, side

SETTLE_SECONDS = 60.0
SEARCH_MAX = 500


class Terminal(TerminalLife):
    """See the head of this file."""

    kind = "terminal"
    in_quarantine = frozenset({"end", "halt", "describe"})

    # ---- looking and typing: volatile -----------------------------------------------------------

    @volatile
    async def watch(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Be a viewer, and wait for news: the state once its version is not `version`, or after `timeout_ms`.

        Payload: viewer, user_id, name, role, and optionally agent (true), cols, rows, control (it was in
        control), version, timeout_ms. To be called again and again: who is silent for 30 s has left. Raises
        NotFound, InvalidInput, Overloaded (too many viewers).
        """
        self._exists(self.state)
        viewer = viewer_of(payload)
        await self._apply(core.See(viewer, bool(payload.get("control"))))
        if viewer.id not in self._stage.viewers:
            raise errors.Overloaded(f"{core.VIEWERS_MAX} viewers look at this terminal")
        known, wait_s = payload.get("version"), whole(payload, "timeout_ms", 0, 60_000) / 1000
        if self._audience.version == known:
            await self._audience.wait(lambda: self._audience.version != known, wait_s)
        return self._told(self.state)

    @volatile
    async def leave(self, payload: dict[str, Any]) -> None:
        """A viewer goes; control that was his is free."""
        await self._apply(core.Leave(str(payload.get("viewer"))))

    @volatile
    async def control(self, payload: dict[str, Any]) -> dict[str, Any]:
        """`do` one of take, ask, release (to another where `to` names him), for `viewer`. Returns the state.

        Raises NotFound, InvalidInput, NotInControl (he may not have it)."""
        self._exists(self.state)
        viewer = str(payload.get("viewer"))
        match payload.get("do"):
            case "take":
                if not core.may_take(self._stage, viewer):
                    raise self._audience.refusal(viewer)
                await self._apply(core.Take(viewer))
            case "ask":
                await self._apply(core.Ask(viewer))
            case "release":
                await self._apply(core.Release(viewer, payload.get("to")))
            case other:
                raise errors.InvalidInput(f"do: {other!r} is none of take, ask and release")
        return self._told(self.state)

    @volatile
    async def resize(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A viewer's size (`viewer`, cols, rows); the terminal's own with `fix`; or another `policy`.

        Returns the state. Raises NotFound, InvalidInput."""
        self._exists(self.state)
        if payload.get("policy") is not None:
            try:
                await self._apply(core.SetPolicy(Policy(payload["policy"])))
            except ValueError:
                raise errors.InvalidInput("policy: latest, smallest or fixed") from None
        if payload.get("cols") is not None or payload.get("rows") is not None:
            cols = side(payload.get("cols"), "cols", self._stage.cols)
            rows = side(payload.get("rows"), "rows", self._stage.rows)
            await self._apply(core.Resize(str(payload.get("viewer")), cols, rows, bool(payload.get("fix"))))
        return self._told(self.state)

    @volatile
    async def type(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Type `data` (base64) at `offset` of what `viewer` typed (or `writer`, for who counts anew each
        time); who types where nobody is in control takes it.

        Returns `offset`, up to which all was taken: the same bytes again are recognised. Raises NotFound,
        InvalidInput, NotInControl, OffsetMismatch, CommandFinished (it has ended), DeadlineExceeded."""
        self._exists(self.state)
        viewer, data = str(payload.get("viewer")), decoded(payload)
        if viewer not in self._stage.viewers:
            await self._apply(core.See(viewer_of(payload)))
        if self._stage.controller != viewer:
            if self._stage.controller is not None or not core.may_take(self._stage, viewer):
                raise self._audience.refusal(viewer)
            await self._apply(core.Take(viewer))
        self._runs()
        offset = whole(payload, "offset", 0, 2**62)
        writer = str(payload.get("writer") or viewer)[:64]
        return {"offset": await self._program.type(writer, offset, data)}

    @volatile
    async def mark(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Note `label` at this place of the recording. Raises NotFound, CommandFinished."""
        self._exists(self.state)
        self._runs()
        return {"offset": await self._program.mark(str(payload.get("label") or ""))}

    @readonly
    async def describe(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """Its state: status, size, title, viewers, who is in control, how it ended. Raises NotFound."""
        self._exists(self.state)
        return self._told(self.state)

    @readonly
    async def settled(self, payload: dict[str, Any]) -> dict[str, Any]:
        """`describe` once it is not starting (with `ended`: once it has ended), or after `timeout_ms`."""
        self._exists(self.state)
        wait_s = whole(payload, "timeout_ms", 0, 600_000, int(SETTLE_SECONDS * 1000)) / 1000
        ended = bool(payload.get("ended"))

        def done() -> bool:
            return self._status.final or not (ended or self._status is TerminalState.STARTING)

        await self._audience.wait(done, wait_s)
        return self._told(self.state)

    @readonly
    async def paint(self, _payload: dict[str, Any]) -> dict[str, Any]:
        """The painted screen: `data` (base64) for a terminal of `cols` × `rows` that was reset, and the
        `offset` of the next byte of output. Raises NotFound."""
        screen = await self._painted()
        text = screen.text()
        return {"data": base64.b64encode(screen.paint()).decode(), "offset": screen.offset,
                "cols": text.cols, "rows": text.rows}

    @readonly
    async def text(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What stands on the screen, as `screen.Text` in JSON, with `offset`; with `history` (a number) also
        so many of the last lines that were scrolled away or stand there. Raises NotFound."""
        screen = await self._painted()
        told = {**screen.text().to_json(), "offset": screen.offset, "status": str(self._status)}
        if wanted := whole(payload, "history", 0, 100_000):
            told["history"] = screen.history()[-wanted:]
        return told

    @readonly
    async def search(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Lines that hold the text `q`, scrolled away or not, the newest first. Raises NotFound,
        InvalidInput."""
        wanted = payload.get("q")
        if not isinstance(wanted, str) or not wanted:
            raise errors.InvalidInput("q: the text to look for")
        screen = await self._painted()
        limit = whole(payload, "limit", 1, SEARCH_MAX, 100)
        hits = find(screen.history(), wanted, ignore_case=bool(payload.get("ignore_case")), limit=limit)
        return {"items": hits}


def decoded(payload: dict[str, Any]) -> bytes:
    """The bytes in `data`, base64, at most INPUT_MAX. Raises InvalidInput, TooLarge."""
    try:
        data = base64.b64decode(payload.get("data") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise errors.InvalidInput("data: not base64") from None
    if len(data) > INPUT_MAX:
        raise errors.TooLarge(f"data: more than {INPUT_MAX} bytes at once", "Type it in parts.")
    return data
