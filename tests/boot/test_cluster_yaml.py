"""ray_cluster.yaml, judged by Ray's own schema (no network, nothing is started)."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from runtime import settings

FILE = Path(__file__).resolve().parents[2] / "ray_cluster.yaml"


@pytest.fixture(scope="module")
def cluster() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_ray_accepts_it(cluster):
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["provider"]["type"] == "local"
    assert prepared["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_ray_would_refuse_a_wrong_one(cluster):
    with pytest.raises(ValidationError, match="worker_typos"):
        validate_config(prepare_config({**copy.deepcopy(cluster), "worker_typos": 3}))


def test_its_commands_name_only_settings_and_files_that_exist(cluster):
    commands = [
        *cluster["setup_commands"],
        *cluster["head_start_ray_commands"],
        *cluster["worker_start_ray_commands"],
    ]
    words = [word for command in commands for word in shlex.split(command)]
    named = {word.split("=")[0] for word in words if word.startswith("TPP_")}
    assert named
    assert named <= {settings.variable(name) for name in settings.Settings.model_fields}
    assert (FILE.parent / "requirements.lock").exists()
