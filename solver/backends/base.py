"""What a MIP back end must do, and the supervision that all of them share.

A native solver runs in a thread of its own and only exchanges data with a `Search`; everything that belongs to
the caller (replay of incumbents, progress, cancellation) happens in the calling thread. So the caller's functions need
not be thread-safe, and cancelling does not wait for a solver that is busy between two of its callbacks.
"""

from __future__ import annotations

import enum
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from solver.compiled import CompiledModel
from solver.errors import BackendUnavailableError, LicenceLimitError

__all__ = ["Availability", "MilpBackend", "MilpOutcome", "MilpStatus", "Search", "SizeLimit", "supervise"]

#: Seconds that a solver may take to notice a request to stop before its last known bounds are returned without it.
GRACE = 0.5

#: Least seconds between two progress reports.
REPORT_EVERY = 0.5


class MilpStatus(enum.StrEnum):
    """How a search ended."""

    OPTIMAL = "optimal"  #: primal and dual bound meet, in the solver's tolerances
    BOUND = "bound"  #: the dual bound passed ``stop_above``
    CONFIRMED = "confirmed"  #: the caller confirmed an incumbent
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    MEMORY = "memory"
    INFEASIBLE = "infeasible"  #: the solver's word only
    FAILED = "failed"  #: numerical trouble, or a status that says nothing


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """The largest model that a licence admits: ``quadratic`` variables where there are quadratic terms."""

    columns: int
    rows: int
    quadratic: int

    def admits(self, model: CompiledModel) -> bool:
        return model.columns <= (self.columns if model.linear else self.quadratic) and model.rows <= self.rows

    def describe(self, model: CompiledModel) -> str:
        """The limit that counts for ``model``, and the model's size, for messages."""
        variables = f"{self.columns} variables" if model.linear else f"{self.quadratic} variables with quadratic terms"
        size = f"{model.columns} and {model.rows}"
        return f"at most {variables} and {self.rows} constraints, but this query's model has {size}"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a solver can be used here: its version, licence and size limit, or ``why`` it cannot."""

    ok: bool
    version: str = ""
    licence: str = ""
    limit: SizeLimit | None = None
    why: str = ""

    def check(self, model: CompiledModel, solver: str) -> None:
        """Raises:
        BackendUnavailableError: the solver cannot be used here.
        LicenceLimitError: ``model`` is larger than the licence admits.
        """
        if not self.ok:
            raise BackendUnavailableError(self.why)
        if self.limit is not None and not self.limit.admits(model):
            msg = (
                f"{solver} {self.version} runs with {self.licence}, which admits {self.limit.describe(model)}; use "
                "--backend highs (or auto), or provide a full licence through GRB_LICENSE_FILE"
            )
            raise LicenceLimitError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class MilpOutcome:
    """What a search found, in the units of the model that it was given.

    Attributes:
        primal: objective of the best incumbent, +inf without one.
        dual: lower bound of the objective, −inf when there is none; the solver's word, tolerances included.
        v: the best incumbent, shape ``(columns,)``, None without one.
        nodes: branch-and-bound nodes.
    """

    status: MilpStatus
    primal: float = math.inf
    dual: float = -math.inf
    v: NDArray[np.float64] | None = None
    nodes: int = 0
    seconds: float = 0.0
    message: str = ""


class MilpBackend(ABC):
    """A MIP solver.

    Attributes:
        name: as the user says it.
        capabilities: the problem classes that it solves: "milp", "miqp".
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[str]]

    @abstractmethod
    def available(self) -> Availability:
        """Whether it can be used here."""

    @abstractmethod
    def prepare(self, model: CompiledModel, *, deadline: float, threads: int) -> Callable[[Search], MilpOutcome]:
        """What minimises ``model`` in the thread that calls it, reporting to a search; see `solve` for the rest."""

    def solve(
        self,
        model: CompiledModel,
        *,
        deadline: float = math.inf,
        threads: int = 1,
        stop_above: float = math.inf,
        on_incumbent: Callable[[NDArray[np.float64], float], bool] | None = None,
        progress: Callable[[float, float, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> MilpOutcome:
        """Minimise ``model``.

        Args:
            model: the model, scaled.
            deadline: `time.monotonic` at which to stop.
            threads: cores that the solver may use.
            stop_above: stop as soon as the dual bound exceeds this.
            on_incumbent: called with each new incumbent and its objective; the search stops when it returns True.
            progress: called at most twice a second with primal bound, dual bound and nodes.
            cancel: polled about twenty times a second; the search stops when it returns True.

        Every one of these functions is called in the calling thread.

        Raises:
            BackendUnavailableError: the solver is not installed or has no licence.
            LicenceLimitError: the model is larger than the licence admits.
            NumericsError: the solver refuses the model or would change it.
        """
        self.available().check(model, self.name.capitalize())
        return supervise(
            self.prepare(model, deadline=deadline, threads=threads),
            deadline=deadline,
            stop_above=stop_above,
            on_incumbent=on_incumbent,
            progress=progress,
            cancel=cancel,
        )


class Search:
    """What a native solver and its supervisor exchange; every method may be called from either thread."""

    def __init__(self, stop_above: float = math.inf) -> None:
        self._stop_above = stop_above
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop: MilpStatus | None = None
        self._incumbents: list[tuple[NDArray[np.float64], float]] = []
        self._primal = math.inf
        self._dual = -math.inf
        self._nodes = 0
        self._v: NDArray[np.float64] | None = None

    def bounds(self, primal: float, dual: float, nodes: int) -> bool:
        """Takes note of the solver's bounds; returns whether it should stop."""
        with self._lock:
            if not math.isnan(dual) and dual < 1e100:
                self._dual = max(self._dual, dual)
            if not math.isnan(primal):
                self._primal = min(self._primal, primal)
            self._nodes = max(self._nodes, nodes)
            if self._dual > self._stop_above and self._stop is None:
                self._stop = MilpStatus.BOUND
                self._wake.set()
            return self._stop is not None

    def incumbent(self, v: NDArray[np.float64], objective: float) -> None:
        """Hands over an incumbent, which is copied."""
        with self._lock:
            point = np.array(v, dtype=np.float64)
            self._incumbents.append((point, objective))
            if self._v is None or objective <= self._primal:
                self._v, self._primal = point, objective
        self._wake.set()

    def stop(self, status: MilpStatus) -> None:
        """Asks the solver to stop; the first reason counts."""
        with self._lock:
            self._stop = self._stop or status

    @property
    def stopping(self) -> MilpStatus | None:
        """Why the search should stop, or None."""
        return self._stop

    def outcome(self, status: MilpStatus, message: str = "") -> MilpOutcome:
        """What is known now."""
        with self._lock:
            return MilpOutcome(status, self._primal, self._dual, self._v, self._nodes, message=message)

    def take(self) -> list[tuple[NDArray[np.float64], float]]:
        """The incumbents that were not taken yet, oldest first."""
        with self._lock:
            taken, self._incumbents = self._incumbents, []
        return taken

    def wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def wake(self) -> None:
        self._wake.set()


def supervise(
    run: Callable[[Search], MilpOutcome],
    *,
    deadline: float,
    stop_above: float,
    on_incumbent: Callable[[NDArray[np.float64], float], bool] | None,
    progress: Callable[[float, float, int], None] | None,
    cancel: Callable[[], bool] | None,
) -> MilpOutcome:
    """Runs ``run(search)`` in a thread and serves the caller's functions meanwhile; see `MilpBackend.solve`.

    When the solver does not react within `GRACE` seconds to a request to stop, what is known is returned and the
    thread ends by itself at the solver's next callback.
    """
    started = time.monotonic()
    search = Search(stop_above)
    result: list[MilpOutcome] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(run(search))
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            failure.append(error)
        finally:
            search.wake()

    # Not a daemon: a native solver that outlives the interpreter's end may bring the process down with it.
    thread = threading.Thread(target=work, name="mip-solver", daemon=False)
    thread.start()
    reported = started
    patience = math.inf
    try:
        while not result and not failure:
            search.wait(0.05)
            now = time.monotonic()
            if search.stopping is None:
                if now >= deadline:
                    search.stop(MilpStatus.TIMEOUT)
                elif cancel is not None and cancel():
                    search.stop(MilpStatus.CANCELLED)
                elif _confirmed(search, on_incumbent):
                    search.stop(MilpStatus.CONFIRMED)
                elif progress is not None and now - reported >= REPORT_EVERY:
                    seen = search.outcome(MilpStatus.FAILED)
                    progress(seen.primal, seen.dual, seen.nodes)
                    reported = now
            if search.stopping is not None:
                patience = min(patience, time.monotonic() + GRACE)
                if time.monotonic() >= patience:
                    break
    except BaseException:
        search.stop(MilpStatus.CANCELLED)
        raise
    if failure:
        raise failure[0]
    outcome = (
        result[0]
        if result
        else search.outcome(search.stopping or MilpStatus.FAILED, "the solver was left to stop later")
    )
    # The solver may have come to its own end while an incumbent was being confirmed, or with one that nobody saw yet.
    if search.stopping is MilpStatus.CONFIRMED or _confirmed(search, on_incumbent):
        outcome = replace(outcome, status=MilpStatus.CONFIRMED)
    return replace(outcome, seconds=time.monotonic() - started)


def _confirmed(search: Search, on_incumbent: Callable[[NDArray[np.float64], float], bool] | None) -> bool:
    taken = search.take()
    # The newest is the best; the older ones are worth a look only while nothing better is there.
    return on_incumbent is not None and any(on_incumbent(v, objective) for v, objective in reversed(taken))
