"""A command as its caller is told of it (`told`), and its end as its row keeps it.

Both are read from the journal of the run directory, which any process of the host may do at any time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.journal import ExitRecord
from schema.executions import End, ExecutionRow
from terminalpp.types.commands import Execution
from terminalpp.types.errors import NotFound, TerminalError
from terminalpp.types.states import ExecutionState
from terminalpp.types.times import moment_of, time_of

HEAD_BYTES = 64 * 1024        # of each stream in an answer, unless asked otherwise
ROW_BYTES = 64 * 1024         # of each stream in a row: half from its beginning, half from its end
STREAMS: tuple[journal.Stream, ...] = ("stdout", "stderr")
TIMEOUT_CODE = 124            # as timeout(1) has it


def told(run_dir: str, row: ExecutionRow, record: ExitRecord | None, head: int) -> Execution:
    """The command by its `record`, or by its journal while it has none; `head` bytes of each stream.

    One that has not ended is `running` once its program runs. One that has ended and has no journal any more
    is told as its row has it.
    """
    known = row.told()
    if record is not None:
        return replace(
            known, status=str(record.state), exit_code=exit_code(record), reason=reason(record),
            duration_ms=round(record.duration_ms), started_at=moment_of(record.started_at_ms),
            completed_at=moment_of(record.ended_at_ms),
            **_output(run_dir, row.id, record.out_bytes, record.err_bytes, head),
        )
    if ExecutionState(row.status).final or journal.start_record(run_dir, row.id) is None:
        return known
    out, err = (journal.end(run_dir, row.id, stream) for stream in STREAMS)
    return replace(known, status=str(ExecutionState.RUNNING), **_output(run_dir, row.id, out, err, head))


def end_for_row(run_dir: str, record: ExitRecord, *, output: bool = True) -> End:
    """The end as its row keeps it; without `output` its extracts are left out (None)."""
    return End(
        record.exec_id, str(record.state), exit_code(record),
        extract(run_dir, record.exec_id, "stdout", record.out_bytes) if output else None,
        extract(run_dir, record.exec_id, "stderr", record.err_bytes) if output else None,
        record.out_bytes, record.err_bytes,
        max(record.out_bytes, record.err_bytes) > ROW_BYTES, reason(record), round(record.duration_ms),
        record.streams_open,
    )


def row_with_end(run_dir: str, row: ExecutionRow, *, output: bool = True) -> ExecutionRow:
    """The row as it will be: a command that has ended gets its end from the journal.

    Rows follow the journal by some milliseconds, or by as long as Postgres is away.
    """
    if ExecutionState(row.status).final or (record := journal.exit_record(run_dir, row.id)) is None:
        return row
    end = end_for_row(run_dir, record, output=output)
    return replace(
        row, status=end.status, exit_code=end.exit_code, stdout=end.stdout, stderr=end.stderr,
        stdout_bytes=end.stdout_bytes, stderr_bytes=end.stderr_bytes, truncated=end.truncated,
        reason=end.reason, execution_time_ms=end.ms, started_at=time_of(record.started_at_ms),
        completed_at=time_of(record.ended_at_ms),
    )


def extract(run_dir: str, exec_id: str, stream: journal.Stream, size: int) -> str:
    """The stream as its row keeps it: whole, or its two ends with the number of bytes left out."""
    if size <= ROW_BYTES:
        return read(run_dir, exec_id, stream, 0, size).decode("utf-8", "replace")
    half = ROW_BYTES // 2
    head = read(run_dir, exec_id, stream, 0, half)
    tail = read(run_dir, exec_id, stream, size - half, half)
    left_out = f"\n… {size - len(head) - len(tail)} bytes left out; the journal has them …\n"
    return head.decode("utf-8", "replace") + left_out + tail.decode("utf-8", "replace")


def read(run_dir: str, exec_id: str, stream: journal.Stream, offset: int, limit: int) -> bytes:
    """Up to `limit` bytes across segments; what the journal dropped, or never had, is left out."""
    parts: list[bytes] = []
    left = limit
    while left > 0:
        try:
            chunk = journal.read(run_dir, exec_id, stream, offset, left)
        except NotFound:
            break
        if not chunk.data:
            break
        parts.append(chunk.data)
        left -= len(chunk.data) + chunk.gap_bytes
        offset = chunk.next_offset
    return b"".join(parts)


def _output(run_dir: str, exec_id: str, out_bytes: int, err_bytes: int, head: int) -> dict[str, Any]:
    """The fields of an `Execution` about its output."""
    out, out_cut = _head(run_dir, exec_id, "stdout", out_bytes, head)
    err, err_cut = _head(run_dir, exec_id, "stderr", err_bytes, head)
    return {"stdout": out, "stderr": err, "stdout_bytes": out_bytes, "stderr_bytes": err_bytes,
            "truncated": out_cut or err_cut}


def _head(
    run_dir: str, exec_id: str, stream: journal.Stream, size: int, limit: int
) -> tuple[str, bool]:
    """The stream's first `limit` bytes as text, and whether there is more than that."""
    if size == 0:
        return "", False  # the most common case costs no look at the disk
    data = read(run_dir, exec_id, stream, 0, min(size, limit))
    return data.decode("utf-8", "replace"), size > len(data)


def exit_code(record: ExitRecord) -> int | None:
    """As a shell says it: the code, 128 plus the signal's number, 127 for what could not be started, 124 for
    what ran out of time (whatever it made of the signal).
    """
    if record.reason == "timeout":
        return TIMEOUT_CODE
    if record.signal is not None:
        return 128 + record.signal
    return 127 if record.reason == "not-started" else record.exit_code


def reason(record: ExitRecord) -> str | None:
    """What the status does not say: the signal, why it was not started, or that it was lost."""
    match record.reason:
        case "exited":
            return None
        case "signalled":
            return f"signal {record.signal}"
        case "not-started":
            return f"not-started: {record.error}"
        case other:
            return other


def end_of(run_dir: str, exec_id: str) -> ExitRecord:
    """The record of a command whose sandbox is dead: its own if it ended before, else a `lost` one."""
    if record := journal.exit_record(run_dir, exec_id):
        return record
    if start := journal.start_record(run_dir, exec_id):
        return journal.lost_record(run_dir, start)
    return ExitRecord(exec_id, "lost", None, None, "the sandbox died before it was started", 0, 0, 0, 0.0,
                      0, 0, False, 0.0, 0)


def not_started(exec_id: str, error: Exception) -> ExitRecord:
    """The record of a command that tppd refused, or could not be asked for, and keeps no record of."""
    why = error.detail if isinstance(error, TerminalError) else f"{type(error).__name__}: {error}"
    return ExitRecord(exec_id, "not-started", None, None, why, 0, 0, 0, 0.0, 0, 0, False, 0.0, 0)
