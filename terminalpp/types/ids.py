"""Identities: what an entity is called, and ids that stay the same when work is repeated."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

_NAMESPACE = uuid.UUID("6f1d3f0e-1f0c-5c1e-9a55-7e2b60a0c0de")


@dataclass(frozen=True, slots=True)
class Ref:
    """The address of an entity: `kind` is the entity's class name tag, `id` its durable id."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """`kind/id` back to a Ref. Raises ValueError when there is no slash."""
        kind, slash, id = text.partition("/")
        if not (kind and slash and id):
            raise ValueError(f"not a ref: {text!r}")
        return cls(kind, id)


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of ownership: entity `ref` was claimed at `epoch`. A write under an older epoch is refused."""

    kind: str
    id: str
    epoch: int

    def to_json(self) -> dict[str, object]:
        """As `from_json` reads it."""
        return {"kind": self.kind, "id": self.id, "epoch": self.epoch}

    @classmethod
    def from_json(cls, value: dict) -> Fence:
        """What `to_json` wrote."""
        return cls(str(value["kind"]), str(value["id"]), int(value["epoch"]))


def new_id() -> str:
    """A fresh random id (UUID version 4, as the seed's `gen_random_uuid()`)."""
    return str(uuid.uuid4())


def derived_id(*parts: object) -> str:
    """The same parts give the same id, on every machine and after every crash (UUID version 5).

    This is what makes repeated work harmless: a step that runs again names its commands, model
    calls and messages by the same ids, and whoever receives them recognises the repetition.
    """
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts)))
