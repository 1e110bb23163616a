"""The actor system on Ray, settings, embedded services and boot. The only importer of ray.

Authors of entities need what is named here. `Context` and `Runtime` are loaded at first use:
the boot verbs import this package too, and answer without waiting for asyncpg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.decorators import durable, effect, readonly, volatile
from runtime.entity import Action, Entity, Turn, typed

if TYPE_CHECKING:
    from runtime.client import Runtime
    from runtime.context import Context

__all__ = [
    "Action", "Context", "Entity", "Runtime", "Turn", "durable", "effect", "readonly", "typed",
    "volatile",
]
_LATER = {"Context": "runtime.context", "Runtime": "runtime.client"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LATER[name]), name)
