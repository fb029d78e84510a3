"""``openapi.yaml`` is the contract: the committed file is what the app says, and it is valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from service.openapi import main
from tests.service.serving import Service

FILE = Path(__file__).parents[2] / "openapi.yaml"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text()))


def operations(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in described["paths"].values() for operation in path.values()]


def test_the_committed_file_is_what_the_app_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(FILE)]) == 0, capsys.readouterr().err


def test_a_stale_file_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = tmp_path / "openapi.yaml"
    assert main(["--check", str(stale)]) == 1
    stale.write_text(FILE.read_text() + "\n")
    assert main(["--check", str(stale)]) == 1
    assert "make openapi" in capsys.readouterr().err


def test_the_document_is_valid(described: dict[str, Any]) -> None:
    validate(described)


def test_every_operation_is_described_and_names_its_errors(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(described)]
    assert len(names) == len(set(names))
    for operation in operations(described):
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        problem = operation["responses"]["default"]["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert all(parameter["description"] for parameter in operation.get("parameters", []))


def test_the_promised_paths_are_there(described: dict[str, Any]) -> None:
    assert {"/v1/verify", "/v1/networks", "/v1/jobs/{job_id}", "/healthz", "/readyz"} <= described["paths"].keys()


def test_the_service_hands_it_out(web: Service, described: dict[str, Any]) -> None:
    assert yaml.safe_load(web.http.get("/openapi.yaml").text) == described
    assert web.http.get("/openapi.json").json() == described
