"""Resource limits as people write them (`"1"`, `"500m"`, `"1GB"`) to numbers, checked and capped.

Memory units as on a container command line: K, M, G and T are powers of 1024, with or without B or iB.
More than the machine has is lowered to what it has; what cannot work at all is refused with the reason.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from terminalpp.types.errors import InvalidInput

MIB = 1024**2
_UNITS = {"": 1, "K": 1024, "M": MIB, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])I?)?B?", re.IGNORECASE)
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a sandbox: CPUs, bytes, processes, open files of one process."""

    cpu: float
    memory_bytes: int
    disk_bytes: int
    pids: int
    nofile: int

    def to_json(self) -> dict[str, Any]:
        """The limits as JSON."""
        return asdict(self)


# Least values: below them tppd and a shell do not start; most: what kernels and Docker accept.
_LEAST = Limits(cpu=0.01, memory_bytes=16 * MIB, disk_bytes=16 * MIB, pids=16, nofile=64)
_MOST = Limits(cpu=1024, memory_bytes=16 * 1024**4, disk_bytes=1024**5, pids=4_194_304, nofile=1_048_576)
_FIELDS = {"cpu": "cpu", "memory": "memory_bytes", "disk": "disk_bytes", "pids": "pids", "nofile": "nofile"}


def parse_cpu(value: Any) -> float:
    """`1`, `"0.5"` or `"500m"` (thousandths) as CPUs. Raises InvalidInput."""
    found = _CPU.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if found is None:
        raise InvalidInput(f"resource_limits.cpu: {value!r} is no number of CPUs",
                           'Write it as "1", "0.5" or "500m".')
    return float(found[1]) / (1000 if found[2] else 1)


def parse_bytes(name: str, value: Any) -> int:
    """`1073741824`, `"1GB"` or `"512Mi"` as bytes. Raises InvalidInput naming `name`."""
    found = _SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if found is None:
        raise InvalidInput(f"resource_limits.{name}: {value!r} is no size", 'Write it as "512MB" or "2GB".')
    return int(float(found[1]) * _UNITS[(found[2] or "").upper()])


def parse_count(name: str, value: Any) -> int:
    """A whole number. Raises InvalidInput naming `name`."""
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value).strip()):
        raise InvalidInput(f"resource_limits.{name}: {value!r} is no whole number", 'Write it as "512".')
    return int(str(value).strip())


def parse(given: dict[str, Any] | None, defaults: Limits, machine: Limits | None = None) -> Limits:
    """The limits that `given` names over `defaults`, none above `machine`.

    Raises InvalidInput for an unknown name, an unreadable value or one outside of what can work.
    """
    values = defaults.to_json()
    for name, value in (given or {}).items():
        if name not in _FIELDS:
            raise InvalidInput(f"resource_limits.{name}: there is no such limit",
                               f"The limits are {', '.join(_FIELDS)}.")
        read = parse_cpu(value) if name == "cpu" else (
            parse_bytes(name, value) if name in ("memory", "disk") else parse_count(name, value))
        field = _FIELDS[name]
        least, most = getattr(_LEAST, field), getattr(_MOST, field)
        if not least <= read <= most:
            raise InvalidInput(f"resource_limits.{name}: {value!r} is not between {least} and {most}")
        values[field] = read
    if machine is not None:
        values = {field: min(value, getattr(machine, field)) for field, value in values.items()}
    return Limits(**values)
