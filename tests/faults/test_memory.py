"""A network that needs more memory than a job may have."""

from __future__ import annotations

from pathlib import Path

from service.states import JobState
from tests.faults.deployment import Deployment, ball, ended
from tests.random_networks import dense_model


def test_exhausted_memory_fails_the_job_with_a_reason_and_the_worker_lives(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, memory_limit_mb=512)
    try:
        worker = deployment.start_worker()
        large = deployment.submit(dense_model(0, (8, 4000, 4000, 2)), ball(8))
        small = deployment.submit(dense_model(1, (3, 5, 2)), ball(3, 0.01))
        large = deployment.wait(large, ended)
        assert large.state is JobState.FAILED
        assert large.error is not None
        assert large.error["code"] == "out_of_memory"
        assert "512 MB" in large.error["message"]
        assert deployment.wait(small, ended).state is JobState.SUCCEEDED
        assert worker.poll() is None
    finally:
        deployment.close()
