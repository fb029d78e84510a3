"""A sweep job: a chunk of a batch's items through replay, bounds and a short attack, one input after the other.

It runs in a worker's forked child, on one thread like a worker of `solver.audit`, whose sweep this is. What it finds is
written down at short intervals, so a worker that is lost loses a fraction of a second; what it does not come to goes
back to the batch. Where an input is asked about at several epsilons, it begins in the middle: a robust ball decides all
smaller ones, a counterexample all larger ones (`service.reuse`).
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from networks.dataset import Dataset
from networks.errors import InputError
from networks.exact import exact
from service.batch_models import ItemRecord
from service.batch_work import SWEEP_SECONDS, Found, labelled
from service.closing import plain
from service.keeping import Keeper
from service.lease import Lease
from service.ledger import Ledger
from service.models import JobRecord
from service.request import build_query
from service.reuse import Asked, asked, passes_on, served
from service.tallies import Tallies
from solver.options import Engine
from solver.verdict import Outcome

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["run_sweep"]

#: What was found is written down this often.
_FLUSH_SECONDS = 0.25


def run_sweep(
    job: JobRecord,
    network: Network,
    data: Path,
    lease: Lease,
    ledger: Ledger,
    *,
    threads: int,
    keeper: Keeper,
    tallies: Tallies,
) -> None:
    """Sweep what the job still has to look at, until its time is up or it is told to stop.

    Args:
        job: the running job.
        network: that it is about.
        data: the data set, in the service's own form.
        lease: of the attempt.
        ledger: gets what is found.
        threads: of the solver.
        keeper: stores certificates.
        tallies: counts what is found.
    """
    dataset = Dataset.read(data)
    chunk = ledger.batches.chunk(job)
    sweep = _Sweep(job, network, dataset, lease, threads, keeper)
    known = sweep.known(chunk, ledger)
    end = time.monotonic() + SWEEP_SECONDS
    found: list[Found] = []
    written = time.monotonic()
    with ExitStack() as stack:
        sweep.open(stack)
        for _, group in itertools.groupby(chunk, key=lambda item: item.input):
            if lease.stop() or time.monotonic() >= end:
                break
            found += sweep.decide(list(group), known)
            if time.monotonic() - written >= _FLUSH_SECONDS:
                if not ledger.batches.record(job, found):
                    return  # the attempt was given to another worker
                keeper.confirm()
                _count(found, tallies)
                found, written = [], time.monotonic()
    if ledger.batches.record(job, found):
        _count(found, tallies)
    keeper.confirm()


def _count(found: Sequence[Found], tallies: Tallies) -> None:
    for each in found:
        verdict = each.verdict
        if verdict is None or (verdict["verdict"] == Outcome.UNKNOWN and not each.final):
            continue  # has failed, or is left to a job of its own
        tallies.count("items_ended", str(verdict["verdict"]))
        cached = bool(verdict.get("cached_from"))
        tallies.count("cache_lookups", "item", "hit" if cached else "miss")
        if not cached:
            engine = verdict.get("decided_by") or "none"
            tallies.observe("solve_seconds", float(verdict["seconds"]), engine, str(verdict["verdict"]))
    tallies.flush()


@dataclass(eq=False)
class _Sweep:
    job: JobRecord
    network: Network
    dataset: Dataset
    lease: Lease
    threads: int
    keeper: Keeper
    checker: Any = None

    def open(self, stack: ExitStack) -> None:
        """Start the checker, where certificates are wanted."""
        if self.job.request["certificate"]:
            from solver.checking import Checker

            self.checker = stack.enter_context(Checker(self.network, threads=self.threads))
            self.checker.start()

    def request(self, item: ItemRecord) -> dict[str, Any]:
        """What `service.request` builds the item's query from."""
        request = self.job.request
        query = {**request["query"], "epsilon": item.epsilon, "input": self.dataset.input(item.input)}
        return {**request, "query": query | labelled(query, item.label)}

    def known(
        self, chunk: Sequence[ItemRecord], ledger: Ledger
    ) -> dict[int, tuple[Asked | None, dict[str, Any] | None]]:
        """The question of each item, and its answer if there is one."""
        questions: dict[int, Asked | None] = {}
        for item in chunk:
            try:
                questions[item.number] = asked(self.request(item))
            except InputError:
                questions[item.number] = None  # the input cannot be asked about; deciding it says why
        answers: dict[Asked, dict[str, Any]] = {}
        if self.job.request["reuse"]:
            answers = ledger.answers.find(
                {each for each in questions.values() if each is not None}, owner=self.job.owner
            )
        return {number: (each, None if each is None else answers.get(each)) for number, each in questions.items()}

    def decide(
        self, group: list[ItemRecord], known: dict[int, tuple[Asked | None, dict[str, Any] | None]]
    ) -> Iterator[Found]:
        """All items of one input, those in the middle first."""
        waiting = sorted(group, key=lambda item: exact(item.epsilon))
        while waiting:
            item = waiting.pop(len(waiting) // 2)
            question, verdict = known[item.number]
            if verdict is None:
                found = self.ask(item, question)
                if found is None:
                    return
            else:
                found = Found(item.number, verdict)
            yield found
            for other, implied in _implied(item, found.verdict, waiting):
                waiting.remove(other)
                yield Found(other.number, implied)

    def ask(self, item: ItemRecord, question: Asked | None) -> Found | None:
        """What the solver says; None if it was told to stop."""
        from solver.ladder import verify

        try:
            posed, options, budget = build_query(self.request(item), self.network, threads=self.threads)
            verdict = verify(
                posed.network,
                posed.query,
                options=dataclasses.replace(options, engine=Engine.BOUNDS),
                budget=budget,
                cancel=self.lease.stop,
                checker=self.checker,
            )
        except InputError as error:
            from service.problems import kind_of  # brings FastAPI, which a sweep that goes well does not need

            code = kind_of(error).slug.replace("-", "_")
            return Found(item.number, None, {"code": code, "message": str(error)})
        if verdict.outcome is Outcome.UNKNOWN and self.lease.stop():
            return None
        if verdict.certificate is not None:
            self.keeper.put(verdict.certificate)
        final = self.job.request["engine"] == Engine.BOUNDS
        return Found(item.number, plain(verdict.to_json()), final=final, asked=question)


def _implied(
    item: ItemRecord, verdict: dict[str, Any] | None, waiting: Sequence[ItemRecord]
) -> list[tuple[ItemRecord, dict[str, Any]]]:
    """What a verdict at one epsilon says of others of the same input."""
    if verdict is None or not passes_on(verdict):
        return []
    source = verdict.get("cached_from") or {"batch": item.batch, "item": item.number}
    at = exact(item.epsilon)
    robust = verdict["verdict"] == Outcome.ROBUST
    others = [other for other in waiting if (exact(other.epsilon) < at if robust else exact(other.epsilon) > at)]
    return [(other, served(verdict, at, exact(other.epsilon), source)) for other in others]
