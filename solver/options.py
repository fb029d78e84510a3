"""How a query is to be decided: engine, back end, and what it may cost."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solver.helpers import Helpers

__all__ = ["Backend", "Budget", "Engine", "Options"]


class Engine(enum.StrEnum):
    """Which rungs of the ladder may decide."""

    AUTO = "auto"
    BOUNDS = "bounds"
    MILP = "milp"
    BAB = "bab"


class Backend(enum.StrEnum):
    """Which MIP solver the ``milp`` engine uses."""

    AUTO = "auto"
    HIGHS = "highs"
    GUROBI = "gurobi"


@dataclass(frozen=True)
class Budget:
    """``seconds`` of wall clock and ``threads`` of CPU that one query may use in this process, and the other processes
    that may search parts of it, if any.
    """

    seconds: float = 300.0
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    helpers: Helpers | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Options:
    """Choices that do not change what is claimed, only how it is found.

    ``seed`` starts the attacks' randomness. With ``certificate`` a robust verdict brings a certificate and the
    checker's word on it, where the engine that decided leaves one.
    """

    engine: Engine = Engine.AUTO
    backend: Backend = Backend.AUTO
    seed: int = 0
    certificate: bool = False
