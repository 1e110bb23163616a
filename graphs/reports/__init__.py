"""Machine-readable reports of test runs, read by what they are and not by their file's name."""

from __future__ import annotations

from graphs.reports import documents, junit
from graphs.reports.tally import LARGEST_BYTES, Tally
from graphs.runners import tap


def read(data: bytes) -> Tally | None:
    """JUnit XML, TRX, NUnit, the JSON reports, or TAP; None for anything else."""
    if len(data) > LARGEST_BYTES:
        return None
    return junit.read(data) or documents.read(data) or _tap(data)


def _tap(data: bytes) -> Tally | None:
    said = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    tally, seen = Tally(), False
    for stream in tap.streams(said):
        summary = stream.summary()
        if summary is None or not (stream.versioned or stream.planned is not None):
            continue
        seen = True
        for number, (name, result) in enumerate(zip(stream.names, stream.points, strict=True), 1):
            tally.add(name or f"point {number}", result)
        for kind in ("failed", "errors"):
            tally.beside(kind, summary.counts.get(kind, 0) - stream.points.count(kind))
    return tally if seen else None
