"""The figures of /metrics about the whole server, read from the database when it is asked for.

How much there is (gauges) is counted by one query. What has ended (counters, histograms) since this process
began is read on from where the last reading stopped, and counted here: a counter begins at 0 with the
process, as Prometheus expects, and does not fall when rows are deleted. A row may be committed later than its
time says, so each reading begins `OVERLAP` earlier and leaves out what it has seen.

At most every `FRESH_S`, and for at most `READ_S`: with a frozen database the gauges are left out and
`tpp_database_figures_up` is 0, and everything else is served. What was not read in time is read later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schema import Database, figures
from terminalpp.types.errors import TerminalError

log = logging.getLogger("gateway")

FRESH_S = 5.0
READ_S = 2.0
OVERLAP = timedelta(seconds=60)
BATCH = 5000
SEEN_MAX = 100_000
MODELS_MAX = 50  # labels; further models count as `other`
_COMMAND_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
_MODEL_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300)
_OF_REASON = ("lost", "timeout", "out-of-memory")  # else how it ended tells


class Figures:
    """`refresh` before the registry is read. What ends after `began` (the database's time) is counted."""

    def __init__(self, registry: CollectorRegistry, database: Database, began: datetime) -> None:
        self._database = database
        self._at: float | None = None
        self._began = began
        self._read_to = {"commands": began, "events": began}
        self._seen: OrderedDict[figures.After, None] = OrderedDict()
        self._models: set[str] = set()
        self._reading = asyncio.Lock()

        def gauge(name: str, about: str, label: str | None = None) -> Gauge:
            return Gauge(name, about, [label] if label else [], registry=registry)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, labels, registry=registry)

        self._up = gauge("tpp_database_figures_up", "1 when the figures below could be read.")
        self._present = {
            "sandboxes": gauge("tpp_sandboxes", "Sandboxes, by state.", "state"),
            "commands": gauge("tpp_commands", "Commands that have not ended, by state.", "state"),
            "entities": gauge("tpp_entities_active", "Entities that a cell owns, by kind.", "kind"),
            "cells": gauge("tpp_cells", "Cells that own entities.", "state"),
            "quarantined": gauge("tpp_entities_quarantined", "Entities in quarantine, by kind.", "kind"),
            "mailbox": gauge("tpp_mailbox_depth", "Messages that wait, by kind of entity.", "kind"),
            "dead_letters": gauge("tpp_dead_letters", "Dead letters that nobody replayed.", "source"),
        }
        self._commands = counter("tpp_commands_finished", "Commands that ended, by outcome.", "outcome")
        self._command_s = Histogram(
            "tpp_command_seconds", "From start to end of a command.", buckets=_COMMAND_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._turns = counter("tpp_turns_finished", "Turns of teams that ended, by outcome.", "outcome")
        self._calls = counter("tpp_model_calls", "Model calls that were answered, by model.", "model")
        self._tokens = counter("tpp_model_tokens", "Tokens, by model and direction.", "model", "direction")
        self._dollars = counter("tpp_model_cost_dollars", "Cost where prices are known, by model.", "model")
        self._call_s = Histogram(
            "tpp_model_call_seconds", "From asking a model to its whole reply.", buckets=_MODEL_BUCKETS,
            registry=registry,
        )  # fmt: skip

    async def refresh(self) -> None:
        """Never raises; returns within READ_S."""
        try:
            async with asyncio.timeout(READ_S), self._reading:
                if self._at is None or time.monotonic() - self._at >= FRESH_S:
                    await self._read()
                    self._at = time.monotonic()
                    self._up.set(1)
        except (TimeoutError, TerminalError, OSError) as error:
            log.warning("figures for /metrics could not be read: %s", type(error).__name__)
            self._at = None
            self._up.set(0)
            for gauge in self._present.values():
                gauge.clear()

    async def _read(self) -> None:
        database = self._database.within(READ_S)
        found = await figures.present(database)
        for gauge in self._present.values():
            gauge.clear()
        for figure, word, n in found:
            self._present[figure].labels(word).set(n)
        for what, ended, count in (
            ("commands", figures.commands, self._command), ("events", figures.events, self._event)
        ):  # fmt: skip
            after, more = figures.After(max(self._began, self._read_to[what] - OVERLAP)), True
            while more:
                rows = await ended(database, after, BATCH)
                for after, row in rows:
                    if after not in self._seen:
                        self._seen[after] = None
                        count(row)
                self._read_to[what] = max(self._read_to[what], after.at)
                more = len(rows) == BATCH
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def _command(self, row: Any) -> None:
        reason = row["reason"] or ""
        if reason in _OF_REASON:
            outcome = reason
        elif row["status"] == "completed":
            outcome = "success" if row["exit_code"] == 0 else "nonzero"
        else:
            outcome = "not-started" if row["status"] == "failed" else "killed"
        self._commands.labels(outcome).inc()
        if row["execution_time_ms"] is not None:
            self._command_s.observe(row["execution_time_ms"] / 1000)

    def _event(self, row: Any) -> None:
        if row["type"] == "turn.finished":
            self._turns.labels(row["outcome"] or "unknown").inc()
            return
        model = row["model"] or "unknown"
        if model not in self._models and len(self._models) >= MODELS_MAX:
            model = "other"
        self._models.add(model)
        self._calls.labels(model).inc()
        self._tokens.labels(model, "in").inc(row["input_tokens"] or 0)
        self._tokens.labels(model, "out").inc(row["output_tokens"] or 0)
        self._dollars.labels(model).inc(row["cost_usd"] or 0.0)
        if row["duration_ms"] is not None:
            self._call_s.observe(row["duration_ms"] / 1000)
