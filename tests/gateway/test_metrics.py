"""What /metrics tells, read by Prometheus' own parser: all that the documentation names, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.database_metrics import MODELS_MAX, Figures
from gateway.metrics import Metrics
from schema import Database, events
from terminalpp.client import Client
from tests.eventually import eventually
from tests.gateway.conftest import Served, Talk

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
Families = dict[str, Any]


async def read(served: Served) -> Families:
    async with served.http() as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: Families, name: str, **labels: str) -> float:
    base = re.sub("_(total|count|sum|bucket)$", "", name)
    found = families.get(base) or families[name]
    return sum(s.value for s in found.samples if s.name == name and labels.items() <= s.labels.items())


async def test_every_metric_is_well_formed_and_documented(served: Served, talk: Talk) -> None:
    async with served.http() as http:
        await http.get("/v1/sandboxes")
        await http.get("/v1/nothing")
    families = await read(served)
    for name, family in families.items():
        assert family.documentation, name
        assert family.type in ("counter", "gauge", "histogram"), name
        assert re.fullmatch(r"(tpp|process)_[a-z0-9_]+", name)
        assert not name.endswith(("_created", "_ms", "_kb")), name
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total"), sample
            assert not sample.name.endswith("_created"), sample
            assert talk.id[:8] not in str(sample.labels)
    named = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(), re.M))
    told = {name + "_total" if family.type == "counter" else name for name, family in families.items()}
    assert named == told


async def test_metrics_have_few_series(served: Served, talk: Talk) -> None:
    async with served.http() as http:
        for n in range(30):
            await http.get(f"/v1/conversations/{talk.id[:-2]}{n:02d}")
            await http.get(f"/nothing/{n}")
            await http.request(f"ODD{n}", "/version")
        text = (await http.get("/metrics")).text
    series = [line for line in text.splitlines() if line.startswith("tpp_http_requests_total")]
    assert len(series) < 12, series
    assert any('route="/v1/conversations/{id}"' in line for line in series)
    assert talk.id[:8] not in text
    assert "tpp_loop_lag_seconds" in text


async def test_latency_counts_at_the_end_of_the_answer(served: Served, talk: Talk) -> None:
    async with served.http() as http:
        await http.get("/v1/sandboxes")
        await http.get(f"/v1/conversations/{talk.id}/events?follow=false")
        await http.get("/v1/conversations/nonsense")
    families = await read(served)
    route = "/v1/sandboxes"
    labels = {"method": "GET", "route": route, "status": "2xx"}
    assert value(families, "tpp_http_request_seconds_count", **labels) == 1
    stream = {"route": "/v1/conversations/{id}/events", "status": "200"}
    assert value(families, "tpp_http_requests_total", **stream) == 1
    assert value(families, "tpp_refusals_total", code="invalid-input") == 1


async def test_what_ends_is_counted_once_and_stays_counted(
    stack: Served, api: Client, box: str, database: Database, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gateway.database_metrics.FRESH_S", 0.0)
    ok = await api.run_command(box, "true", wait_ms=5000)
    await api.run_command(box, "exit 3", wait_ms=5000)
    running = await api.run_command(box, "sleep 60")

    async def counted() -> bool:
        return value(await read(stack), "tpp_commands_finished_total") == 2

    await eventually(counted)
    families = await read(stack)
    assert value(families, "tpp_commands_finished_total", outcome="success") == 1
    assert value(families, "tpp_commands_finished_total", outcome="nonzero") == 1
    assert value(families, "tpp_command_seconds_count") == 2
    assert value(families, "tpp_commands", state="running") == 1
    assert value(families, "tpp_sandboxes", state="running") == 1
    assert value(families, "tpp_cells") == 1
    assert value(families, "tpp_entities_active", kind="sandbox") == 1
    assert value(families, "tpp_database_figures_up") == 1
    await database.execute("DELETE FROM command_executions WHERE id = $1", ok["id"])
    await api.signal(box, running["id"], "KILL")
    await eventually(lambda: _killed(stack))
    assert value(await read(stack), "tpp_commands_finished_total", outcome="success") == 1


async def _killed(stack: Served) -> bool:
    return value(await read(stack), "tpp_commands_finished_total", outcome="killed") == 1


async def test_turns_and_model_calls_are_counted(served: Served, talk: Talk, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.database_metrics.FRESH_S", 0.0)
    usage = {"input_tokens": 100, "output_tokens": 7, "cached_tokens": 0}
    call = {"model": "openai/x", "usage": usage, "cost_usd": 0.25, "duration_ms": 1500}
    batch = [("model.finished", "coder", call), ("model.finished", "coder", {**call, "cost_usd": None}),
             ("turn.finished", "system", {"outcome": "passed"})]  # fmt: skip
    async with talk.database.fenced(talk.fence) as connection:
        await events.append(connection, talk.id, batch)
    for _ in range(2):  # what was counted is not counted again
        families = await read(served)
        assert value(families, "tpp_turns_finished_total", outcome="passed") == 1
        assert value(families, "tpp_model_calls_total", model="openai/x") == 2
        assert value(families, "tpp_model_tokens_total", direction="in") == 200
        assert value(families, "tpp_model_cost_dollars_total") == 0.25
        assert value(families, "tpp_model_call_seconds_sum") == 3.0


async def test_more_in_a_minute_than_one_reading_holds(
    database: Database, talk: Talk, monkeypatch: Any
) -> None:
    """The overlap alone filled a reading: nothing newer was counted until it was a minute old."""
    monkeypatch.setattr("gateway.database_metrics.BATCH", 3)
    monkeypatch.setattr("gateway.database_metrics.FRESH_S", 0.0)
    metrics = Metrics()
    figures = Figures(metrics.registry, database, datetime.now(UTC))
    for total in (10, 20):
        await database.execute(
            "INSERT INTO command_executions (sandbox_id, user_id, command, status, exit_code, completed_at)"
            " SELECT id, user_id, 'true', 'completed', 0, now() FROM sandboxes, generate_series(1, 10)"
            " WHERE id = $1", talk.sandbox_id,
        )  # fmt: skip
        for _ in range(2):
            await figures.refresh()
            families = {f.name: f for f in text_string_to_metric_families(metrics.text().decode())}
            assert value(families, "tpp_database_figures_up") == 1
            assert value(families, "tpp_commands_finished_total", outcome="success") == total


async def test_names_of_models_are_bounded(database: Database) -> None:
    figures = Figures(Metrics().registry, database, datetime.now(UTC))
    nothing = dict.fromkeys(("outcome", "duration_ms", "input_tokens", "output_tokens", "cost_usd"))
    row = {"type": "model.finished", **nothing}
    for n in range(MODELS_MAX * 2):
        figures._event({**row, "model": f"m{n}"})
    samples = next(iter(figures._calls.collect())).samples
    assert len(samples) == MODELS_MAX + 1
    assert next(s.value for s in samples if s.labels["model"] == "other") == MODELS_MAX


async def test_without_a_database_the_rest_is_served(served: Served, database: Database) -> None:
    assert value(await read(served), "tpp_database_figures_up") == 1
    served.app.gateway.figures._at = None
    await database.close()
    families = await read(served)
    assert value(families, "tpp_database_figures_up") == 0
    assert families["tpp_sandboxes"].samples == []
    assert value(families, "tpp_build_info") == 1
