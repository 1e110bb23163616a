"""An entity whose module is preloaded by cells of another group."""

from __future__ import annotations

import os
from typing import Any

from runtime import Entity, readonly


class Talker(Entity):
    kind = "talker"
    group = "conversation"

    @readonly
    async def get(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}
