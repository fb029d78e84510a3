"""The web process on SIGTERM: first it is not ready, then it ends what is open, and says when to come back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.service.serving import Service


def test_a_web_process_that_ends_says_so_before_and_lets_nobody_hang(tmp_path: Path) -> None:
    service = Service(tmp_path, shutdown_delay=2.0)
    try:
        job = service.queued_job()
        lines: list[str] = []

        def follow() -> None:
            with service.http.stream("GET", f"/v1/jobs/{job}/events") as stream:
                lines.extend(stream.iter_lines())

        polled: list[float] = []

        def poll() -> None:
            answer = service.http.get(f"/v1/jobs/{job}?wait=50", timeout=60)
            polled.append(float(answer.headers["Retry-After"]))

        waiting = [threading.Thread(target=each) for each in (follow, poll)]
        for thread in waiting:
            thread.start()
        time.sleep(0.5)
        service._web.should_exit = True
        end = time.monotonic() + 1.9
        ready = service.http.get("/readyz")
        while "web" not in ready.json()["checks"]:
            assert time.monotonic() < end
            ready = service.http.get("/readyz")
        assert ready.status_code == 503
        assert service.http.get("/healthz").status_code == 200
        for thread in waiting:
            thread.join(20)
            assert not thread.is_alive()
        assert polled == [1.0]
        assert "retry: 1000" in lines
    finally:
        service.close()
