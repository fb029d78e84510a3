"""The ledger's part about answers that serve later questions; `service.reuse` says which serve which.

An answer points at the job or the item that found it, whose verdict is read when it is needed: one that is gone serves
nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, bindparam, select

from networks.errors import SoundnessError
from networks.exact import exact
from service.access.principal import LOCAL
from service.batch_models import answers, items
from service.database import insert_new
from service.models import jobs
from service.reuse import Asked, passes_on, served
from solver.options import Engine as Choice
from solver.verdict import Outcome, Trust

__all__ = ["Answers", "Asked"]

T = TypeVar("T")

# built once: SQLAlchemy takes longer to put a statement together than SQLite to run it
_KNOWN = select(answers).where(
    answers.c.question.in_(bindparam("questions", expanding=True)), answers.c.owner == bindparam("owner")
)
_VERDICTS = select(jobs.c.id, jobs.c.verdict).where(jobs.c.id.in_(bindparam("identifiers", expanding=True)))

#: Questions of one look-up; databases limit the parameters of a statement.
_AT_ONCE = 200


class Answers:
    """What was decided before; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def find(self, questions: Iterable[Asked], *, owner: str = LOCAL) -> dict[Asked, dict[str, Any]]:
        """The verdicts that ``owner`` knows of ``questions``, each with ``cached_from``.

        Those of others serve nobody else: an answer in no time would say that somebody has asked before.
        """
        with self._engine.connect() as connection:
            found = self.look_up(connection, [(asked, owner) for asked in questions])
        return {asked: verdict for (asked, _), verdict in found.items()}

    def look_up(
        self, connection: Connection, questions: Iterable[tuple[Asked, str]]
    ) -> dict[tuple[Asked, str], dict[str, Any]]:
        """The same for questions of several owners, within a transaction of the caller's."""
        wanted = set(questions)
        chosen: dict[tuple[Asked, str], RowMapping] = {}
        for owner in {owner for _, owner in wanted}:
            mine = [asked for asked, each in wanted if each == owner]
            rows: dict[str, list[RowMapping]] = {}
            for keys in _batched(sorted({asked.question for asked in mine})):
                for row in connection.execute(_KNOWN, {"questions": list(keys), "owner": owner}).mappings():
                    rows.setdefault(row["question"], []).append(row)
            best = {(asked, owner): _best(asked, rows.get(asked.question, ())) for asked in mine}
            chosen |= {key: row for key, row in best.items() if row is not None}
        verdicts = _verdicts(connection, chosen.values())
        out = {}
        for (asked, owner), row in chosen.items():
            verdict = verdicts.get(_place(row))
            if verdict is not None and (passes_on(verdict) or _epsilon(row) == asked.epsilon):
                out[asked, owner] = served(verdict, _epsilon(row), asked.epsilon, _source(row))
        return out

    def add(
        self,
        connection: Connection,
        asked: Asked,
        verdict: dict[str, Any],
        *,
        owner: str = LOCAL,
        job: str | None = None,
        batch: str | None = None,
        item: int | None = None,
    ) -> None:
        """Keep a verdict that was found, in the transaction that records it; ``unknown`` and served ones are left.

        Raises:
            SoundnessError: it contradicts an answer that is kept.
        """
        if verdict["verdict"] == Outcome.UNKNOWN or verdict.get("cached_from"):
            return
        over_reals = _over_reals(verdict)
        rows = connection.execute(select(answers).where(answers.c.question == asked.question)).mappings().all()
        _compare(asked, str(verdict["verdict"]), rows, over_reals=over_reals, owner=owner)
        values = {
            "question": asked.question,
            "owner": owner,
            "epsilon": asked.radius,
            "outcome": verdict["verdict"],
            "engine": asked.engine,
            "certified": verdict.get("trust") == Trust.CERTIFIED,
            "over_reals": over_reals,
            "job": job,
            "batch": batch,
            "item": item,
            "created_at": self._now(),
        }
        connection.execute(insert_new(connection, answers).values(values))


def _best(asked: Asked, rows: Sequence[RowMapping]) -> RowMapping | None:
    """The answer that says most about a question, if one says anything: one at its own epsilon, or the nearest."""
    fitting = [row for row in rows if _serves(row, asked)]
    return min(fitting, key=lambda row: (_distance(row, asked), not row["certified"]), default=None)


def _serves(row: RowMapping, asked: Asked) -> bool:
    if asked.engine not in {Choice.AUTO, row["engine"]}:
        return False
    if row["outcome"] == Outcome.ROBUST and asked.certificate and not row["certified"]:
        return False
    found = _epsilon(row)
    if found is None or asked.epsilon is None:
        return found == asked.epsilon
    return found >= asked.epsilon if row["outcome"] == Outcome.ROBUST else found <= asked.epsilon


def _distance(row: RowMapping, asked: Asked) -> Fraction:
    return abs((_epsilon(row) or Fraction()) - (asked.epsilon or Fraction()))


def _epsilon(row: RowMapping) -> Fraction | None:
    return exact(row["epsilon"]) if row["epsilon"] else None


def _source(row: RowMapping) -> dict[str, Any]:
    return {"job": row["job"]} if row["job"] is not None else {"batch": row["batch"], "item": row["item"]}


def _place(row: RowMapping) -> tuple[str, int | None]:
    """Whose verdict an answer is: a job's, or that of an item of a batch."""
    return (row["job"], None) if row["job"] is not None else (row["batch"], row["item"])


def _verdicts(connection: Connection, rows: Iterable[RowMapping]) -> dict[tuple[str, int | None], dict[str, Any]]:
    """The verdicts that answers point at, as far as they are still there."""
    places = {_place(row) for row in rows}
    out: dict[tuple[str, int | None], dict[str, Any]] = {}
    for keys in _batched(sorted(key for key, item in places if item is None)):
        found = connection.execute(_VERDICTS, {"identifiers": list(keys)})
        out |= {(key, None): verdict for key, verdict in found}
    for batch in {key for key, item in places if item is not None}:
        for numbers in _batched(sorted(item for key, item in places if key == batch and item is not None)):
            mine = select(items.c.number, items.c.verdict).where(items.c.batch == batch, items.c.number.in_(numbers))
            out |= {(batch, number): verdict for number, verdict in connection.execute(mine)}
    return {place: verdict for place, verdict in out.items() if verdict is not None}


def _over_reals(verdict: dict[str, Any]) -> bool:
    """Whether a counterexample violates the property over the reals, and not by float32 rounding alone."""
    found = verdict.get("counterexample") or {}
    margin = found.get("exact_margin")
    return margin is not None and margin <= 0


def _compare(asked: Asked, outcome: str, rows: Sequence[RowMapping], *, over_reals: bool, owner: str) -> None:
    """Raise where a robust ball holds a counterexample over the reals: one of the two answers is wrong.

    Answers of all owners are compared, as soundness is everybody's; those of others are not named.
    """
    for row in rows:
        if row["outcome"] == outcome or not (over_reals or row["over_reals"]):
            continue
        robust, broken = (asked.epsilon, _epsilon(row)) if outcome == Outcome.ROBUST else (_epsilon(row), asked.epsilon)
        if (robust or Fraction()) >= (broken or Fraction()):
            source = _source(row) if row["owner"] == owner else "an earlier answer"
            msg = (
                f"this is {outcome} at epsilon {asked.radius or 'as stated'}, but {row['outcome']} at "
                f"{row['epsilon'] or 'the same'} according to {source}; please report this with the network and "
                "the query"
            )
            raise SoundnessError(msg)


def _batched(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
