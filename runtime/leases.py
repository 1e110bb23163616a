"""Pure core of a cell's lease: when it may serve, when to renew, what to drop. No clock, no database.

The database judges expiry by its own clock; the cell judges on a clock that no one sets and that counts
sleep (CLOCK_BOOTTIME). It counts from before the request was sent, so it always gives up first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

RENEWALS_PER_LEASE = 3
MARGIN = 0.9  # the part of a lease in which the cell serves


@dataclass(frozen=True, slots=True)
class Lease:
    """`serve_until`: seconds on the cell's clock."""

    seconds: float
    serve_until: float

    @classmethod
    def begin(cls, seconds: float, now: float) -> Lease:
        """The lease as it is right after it was granted for `seconds`."""
        return cls(seconds, now + seconds * MARGIN)

    def serving(self, now: float) -> bool:
        """Whether a cell may serve at `now`, by its own monotonic clock in seconds."""
        return now < self.serve_until

    def renewed(self, sent_at: float) -> Lease:
        """After a renewal that was sent at `sent_at` and confirmed. A late one moves nothing back."""
        return replace(self, serve_until=max(self.serve_until, sent_at + self.seconds * MARGIN))

    @property
    def renew_every(self) -> float:
        """How often to renew, in seconds."""
        return self.seconds / RENEWALS_PER_LEASE


Key = tuple[str, str, int]  # kind, id, epoch


def lost(held: set[Key], confirmed: set[Key]) -> set[Key]:
    """What to drop after a renewal: held when the request was sent, and not confirmed by its answer."""
    return held - confirmed
