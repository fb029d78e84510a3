"""Many clients at once: nobody gets an error, and the benchmark measures what it says."""

from __future__ import annotations

import pytest

from benchmarks.load import digits, main, measure
from netproof.local import local_service


@pytest.mark.slow
def test_forty_clients_for_some_seconds_without_an_error() -> None:
    wanted = {"clients": 40, "rate": 60.0, "fresh_rate": 1.0, "distinct": False, "warm_up": 1.0, "seconds": 3.0}
    with local_service(workers=1, start_seconds=120) as url:
        found = measure(url, digits(), wanted, questions=4)
    assert found["errors"] == {}
    kinds = found["kinds"]
    assert kinds["cached POST"]["requests"] >= 60
    assert kinds["GET"]["requests"] >= kinds["GET 304"]["requests"] >= 60
    assert kinds["fresh, until it has ended"]["requests"] >= 1
    names = {name.split()[0] for name in found["processes"]}
    assert names == {"supervisor", "queue", "web", "reaper", "worker", "clients"}
    assert all(first > 0 and last > 0 for name, (first, last, _) in found["memory"].items() if name != "clients")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("more", [[], ["--distinct"]], ids=["repeated", "distinct"])
def test_the_promised_load_on_an_idle_machine(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "60", "--firm", *more]) == 0, capsys.readouterr().out
