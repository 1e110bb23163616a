"""Finds entity classes by kind. The table is data (`settings.entity_registry`), so that this floor never
imports the floor above it, and a cell imports only what it hosts."""

from __future__ import annotations

import importlib
from typing import Any

from runtime.entity import Entity
from terminalpp.types.errors import InvalidInput, NotFound


def resolve(path: str) -> Any:
    """`module:name` → the object. Raises InvalidInput when there is none."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"{path} cannot be imported: {error}") from error


class Registry:
    """`entities`: kind → "module:Class". `preload`: group of cells → what it loads ahead: modules,
    or "module:function" for a function to call (a library that is imported lazily)."""

    def __init__(self, entities: dict[str, str], preload: dict[str, list[str]]) -> None:
        self._entities = entities
        self._preload = preload

    @classmethod
    def load(cls, entity_registry: str, preload_registry: str) -> Registry:
        """The registry of two tables, each named as "module:name". Raises InvalidInput."""
        return cls(resolve(entity_registry), resolve(preload_registry))

    def group_of(self, kind: str) -> str:
        """The group whose cells import this kind's module; `general` if none does. Raises NotFound.

        Told from the tables alone: the steward must not import litellm to place a model.
        """
        module = self._path(kind).partition(":")[0]
        return next((group for group, modules in self._preload.items() if module in modules), "general")

    def class_of(self, kind: str) -> type[Entity]:
        """Imports the class: call it in a thread. Raises NotFound, InvalidInput."""
        found = resolve(self._path(kind))
        if not (isinstance(found, type) and issubclass(found, Entity)):
            raise InvalidInput(f"{self._path(kind)} is not an Entity")
        return found

    def preload(self, group: str) -> list[str]:
        """The modules that cells of the group load ahead."""
        return list(self._preload.get(group, []))

    def _path(self, kind: str) -> str:
        try:
            return self._entities[kind]
        except KeyError:
            raise NotFound(f"there is no kind of entity called {kind!r}") from None
