"""Questions that are recorded together: one transaction, and none spoils another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from service.access.principal import Quota
from service.errors import IdempotencyError, NotFoundError, QuotaError
from service.ledger import Ledger
from service.posed import Posed, Written, to_json
from service.reuse import asked
from service.states import JobState
from service.submissions import Submission
from tests.service.records import NETWORK, add_network, submit

QUERY = {"input": [0.25, 0.5], "epsilon": "0.1", "label": 1}
ROBUST = {"verdict": "robust", "trust": "solver", "margin": [0.5, 0.75], "seconds": 3.0}


def submission(epsilon: str = "0.1", *, network: str = NETWORK, **members: Any) -> Submission:
    posed = Posed.of({"network": network, "query": QUERY | {"epsilon": epsilon}, "engine": "auto", "reuse": True})
    return Submission(posed.request, "highs", 30.0, 3, **({"asked": posed.asked} | members))


def decide(ledger: Ledger, epsilon: str, owner: str = "local") -> str:
    """A job that found the question robust."""
    job = submit(ledger, owner=owner)
    ledger.start(job.id, worker="w", lease_seconds=9)
    question = asked({"network": NETWORK, "query": QUERY | {"epsilon": epsilon}})
    assert ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict=ROBUST, asked=question)
    return job.id


def test_known_and_unknown_questions_of_several_owners_together(ledger: Ledger) -> None:
    source = decide(ledger, "0.1")
    wanted = [submission("0.1"), submission("0.05"), submission("0.2"), submission("0.1", owner="other")]
    found = ledger.submissions.record([*wanted, submission("0.1", asked=None)])
    jobs = [job for job, new in found if new]  # type: ignore[misc]
    assert [job.state for job in jobs] == ["succeeded", "succeeded", "queued", "queued", "queued"]
    for job in jobs:
        assert ledger.job(job.id) == job
    assert jobs[1].verdict is not None
    assert jobs[1].verdict["cached_from"] == {"job": source, "seconds": 3.0, "epsilon": "0.1"}
    assert [job.owner for job in jobs] == ["local", "local", "local", "other", "local"]


def test_what_cannot_be_recorded_spoils_nothing(ledger: Ledger) -> None:
    add_network(ledger)
    (first,) = ledger.submissions.record([submission(idempotency_key="k", fingerprint="f")])
    assert not isinstance(first, Exception)
    again, other, unknown, fine = ledger.submissions.record(
        [
            submission(idempotency_key="k", fingerprint="f"),
            submission("0.3", idempotency_key="k", fingerprint="g"),
            submission(network="b" * 64),
            submission("0.4"),
        ]
    )
    assert again == (first[0], False)
    assert isinstance(other, IdempotencyError)
    assert isinstance(unknown, NotFoundError)
    assert not isinstance(fine, Exception)
    assert fine[1]
    assert len(ledger.jobs()) == 2


def test_jobs_are_read_together_each_for_its_owner(ledger: Ledger) -> None:
    mine, other = submit(ledger), submit(ledger, owner="other")
    ledger.start(mine.id, worker="w", lease_seconds=9)
    found = ledger.jobs_of(
        [(mine.id, "local"), (other.id, "local"), (other.id, None), (mine.id, None), ("0" * 26, None)]
    )
    assert [found[0], found[2], found[3]] == [ledger.job(mine.id), ledger.job(other.id), ledger.job(mine.id)]
    assert len(ledger.job(mine.id).attempts) == 1
    assert [type(found[1]), type(found[4])] == [NotFoundError, NotFoundError]


def test_a_written_request_is_kept_as_it_is(ledger: Ledger) -> None:
    add_network(ledger)
    request = Written({"network": NETWORK, "query": QUERY})
    assert to_json(request) == to_json(dict(request))
    ((job, _),) = ledger.submissions.record([Submission(request, "highs", 30.0, 3)])  # type: ignore[misc]
    assert ledger.job(job.id).request == request


def test_a_quota_holds_within_a_group_and_known_answers_count_for_nothing(ledger: Ledger) -> None:
    decide(ledger, "0.1")
    wanted = [submission(epsilon, quota=Quota(queued=2)) for epsilon in ("0.2", "0.1", "0.3", "0.4", "0.05")]
    found = ledger.submissions.record([*wanted, submission("0.4", owner="other", quota=Quota(queued=2))])
    assert [isinstance(each, QuotaError) for each in found] == [False, False, False, True, False, False]
    assert len(ledger.jobs(state=JobState.QUEUED)) == 3


def test_groups_with_the_same_keys_do_not_wait_for_each_other(ledger: Ledger) -> None:
    add_network(ledger)
    keys = [f"k{number}" for number in range(60)]
    with ThreadPoolExecutor(2) as processes:
        for turn in range(4):
            group = [submission(idempotency_key=f"{turn}-{key}", fingerprint="f") for key in keys]
            found = list(processes.map(ledger.submissions.record, [group, group[::-1]]))
            assert [each[0].id for each in found[0]] == [each[0].id for each in found[1][::-1]]  # type: ignore[union-attr]
