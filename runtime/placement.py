"""Pure core of placement: which cell takes an entity, and how many spare cells to keep.

One rule: prefer an empty cell; when the node's budget of cells is used up, take the least loaded one.
A group of cells (general, conversation, model, node) takes only its own kinds, because of what it imports.
"""

from __future__ import annotations

from dataclasses import dataclass

CELL_BYTES = 160 * 1024**2   # resident size of a cell with the server's packages, measured 90–170 MB
MEMORY_SHARE = 0.4           # of the machine, for cells
CELLS_PER_CPU = 12           # an idle Ray actor wakes 100 times a second: 1.6 % of a CPU, measured with 60
CELLS_MIN, CELLS_MAX = 8, 64

# Cells of these groups kept warm and empty. The node's entities live in cell 0, the model's in one cell.
SPARES = {"general": 1, "conversation": 1, "model": 1}
SINGLE = frozenset({"model", "node"})


@dataclass(frozen=True, slots=True)
class CellInfo:
    """A cell as the steward knows it. `entities` counts those hosted and those on their way."""

    name: str
    group: str
    entities: int = 0
    ready: bool = True        # has imported its group's modules
    reachable: bool = True    # answered the last ping, and can prove its lease
    idle_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Use:
    """Take the cell of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a cell of this group."""

    group: str


def default_budget(memory_bytes: int, cpus: int) -> int:
    """Cells of a node with that much memory and so many CPUs."""
    fitting = int(memory_bytes * MEMORY_SHARE) // CELL_BYTES
    return max(CELLS_MIN, min(CELLS_MAX, CELLS_PER_CPU * cpus, fitting))


def choose(cells: list[CellInfo], group: str, budget: int) -> Use | Start:
    """The cell for one more entity of `group`. Ties go to the lower cell number (names sort so)."""
    mine = [cell for cell in cells if cell.group == group and cell.reachable]
    order = sorted(mine, key=lambda cell: (cell.entities, not cell.ready, number(cell.name)))
    if order and (order[0].entities == 0 or group in SINGLE or len(cells) >= budget):
        return Use(order[0].name)
    return Start(group)  # over the budget too when the group has no cell at all: it needs one


def missing_spares(cells: list[CellInfo], budget: int) -> list[str]:
    """Groups of which a cell should be started now. A spare never exceeds the budget, a first cell may."""
    wanted: list[str] = []
    count = len(cells)
    for group, spares in SPARES.items():
        mine = [cell for cell in cells if cell.group == group]
        empty = sum(1 for cell in mine if cell.entities == 0 and cell.reachable)
        need = (0 if mine else spares) if group in SINGLE else max(0, spares - empty)
        for _ in range(need):
            if count < budget or not mine:
                wanted.append(group)
                count += 1
    return wanted


def superfluous(cells: list[CellInfo], idle_seconds: float = 60.0) -> list[str]:
    """Empty cells beyond the spares that nobody has used for a while."""
    gone: list[str] = []
    for group, spares in SPARES.items():
        empty = [cell for cell in cells if cell.group == group and cell.entities == 0 and cell.reachable]
        empty.sort(key=lambda cell: number(cell.name))
        gone += [cell.name for cell in empty[spares:] if cell.idle_seconds >= idle_seconds]
    return gone


def number(name: str) -> int:
    """`cell/<node>/<n>` → n."""
    return int(name.rpartition("/")[2])


def free_number(names: set[str]) -> int:
    """The lowest number from 1 that no name has."""
    taken = {number(name) for name in names}
    return next(n for n in range(1, len(taken) + 2) if n not in taken)
