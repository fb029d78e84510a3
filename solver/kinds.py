"""One entry for every kind of question about a query: decide it, its least margin, its nearest violation.

* ``decide`` is `solver.ladder.verify`;
* ``margin`` is the least margin over the query's regions;
* ``distance`` is how far the violation nearest to the region's center is from it, in one of four norms, within the
  region.

The last two are intervals that close (`solver.closing`). What their ends mean: the lower one is a number that the
margin, or the distance of every violation, is above *over the reals*, for the network with its stored weights; the
upper one is what a float32 input of the region attains *in ONNX Runtime*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import torch

from networks.graph import Network
from networks.property import Query
from solver import policy, sizes
from solver.aims import Aim, Distance, Margin
from solver.case import check_fit
from solver.checking import Checker
from solver.ladder import refused, verify
from solver.options import Budget, Engine, Options
from solver.verdict import Kind, Progress, Verdict

__all__ = ["ask", "distance", "largest_epsilon", "margin"]


def ask(
    network: Network,
    query: Query,
    kind: Kind | str = Kind.DECIDE,
    *,
    norm: str | None = None,
    tolerance: float | None = None,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    checker: Checker | None = None,
) -> Verdict:
    """Answers one kind of question about a query.

    Args:
        kind: ``decide``, ``margin`` or ``distance``.
        norm: of a distance; by default that of the query's ball.
        tolerance: how far the ends of an interval may be apart; see `margin` and `distance`.
        network, query, options, budget, progress, cancel, checker: see `solver.ladder.verify`.

    Raises:
        RegionError, PropertyError: the query does not fit the network or the kind.
        BackendError: the back end that was asked for cannot serve the query.
        SoundnessError: two facts that were proven contradict each other.
    """
    match Kind(kind):
        case Kind.DECIDE:
            return verify(
                network, query, options=options, budget=budget, progress=progress, cancel=cancel, checker=checker
            )
        case Kind.MARGIN:
            return margin(
                network,
                query,
                tolerance=tolerance,
                options=options,
                budget=budget,
                progress=progress,
                cancel=cancel,
                checker=checker,
            )
        case Kind.DISTANCE:
            return distance(
                network,
                query,
                norm=norm,
                tolerance=tolerance,
                options=options,
                budget=budget,
                progress=progress,
                cancel=cancel,
                checker=checker,
            )


def margin(
    network: Network,
    query: Query,
    *,
    tolerance: float | None = None,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    checker: Checker | None = None,
) -> Verdict:
    """The least margin over the query's regions, as an interval.

    Args:
        tolerance: it is closed when the ends differ by at most this, times the upper one where that is above 1 in size;
            1e-5 by default.
        network, query, options, budget, progress, cancel, checker: see `solver.ladder.verify`.

    Returns:
        A verdict with ``margin``. Its word is ``robust`` where the lower end is at least 0 (what is proven is always
        strict), ``counterexample`` where the upper end is at most 0, else ``unknown``; ``reason`` says why the interval
        stayed wider than asked, if it did.

    Raises: as `ask`.
    """
    check_fit(network, query)
    aim = Margin(network, query, policy.CLOSING_TOLERANCE if tolerance is None else tolerance)
    return _close(network, aim, options, budget, progress, cancel, checker)


def distance(
    network: Network,
    query: Query,
    *,
    norm: str | None = None,
    tolerance: float | None = None,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    checker: Checker | None = None,
    attack: bool = True,
) -> Verdict:
    """How far the violation nearest to the region's center is from it, as an interval.

    Args:
        query: about one region; what lies outside it does not count.
        norm: ``linf``, ``l2``, ``l1`` or ``l0``; by default that of the query's ball.
        tolerance: it is closed when the ends differ by at most this, times the upper one where that is above 1; 1e-5
            by default. For ``l0`` the ends are whole numbers and close only when they are equal.
        network, options, budget, progress, cancel, checker: see `solver.ladder.verify`.
        attack: whether violations are looked for, and improved, between proofs.

    Returns:
        A verdict with ``distance``. Its word is ``counterexample`` where a violation in the region is known, ``robust``
        where it is proven that there is none (the interval then goes from the region's size to infinity), else
        ``unknown``; ``reason`` says why the interval stayed wider than asked, if it did.

    Raises: as `ask`.
    """
    check_fit(network, query)
    aim = Distance(network, query, norm, policy.CLOSING_TOLERANCE if tolerance is None else tolerance)
    return _close(network, aim, options, budget, progress, cancel, checker, attack=attack)


def largest_epsilon(
    network: Network,
    queries: Iterable[Query],
    *,
    norm: str | None = None,
    tolerance: float | None = None,
    options: Options | None = None,
    budget: Budget | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Verdict]:
    """The largest radius that is proven around the center of each query's region: ``distance[0]`` of each verdict.

    No violation is looked for, except by what decides the radii; with the engine ``bounds`` a radius counts as proven
    if bounds alone prove it. Radii go up to the regions' own size. ``budget`` is for each query.

    Args and Raises: as `distance`.
    """
    with ExitStack() as stack:
        checker = None
        if options is not None and options.certificate:
            checker = stack.enter_context(Checker(network, threads=(budget or Budget()).threads))
        for query in queries:
            yield distance(
                network,
                query,
                norm=norm,
                tolerance=tolerance,
                options=options,
                budget=budget,
                cancel=cancel,
                checker=checker,
                attack=False,
            )


def _close(
    network: Network,
    aim: Aim,
    options: Options | None,
    budget: Budget | None,
    progress: Callable[[Progress], None] | None,
    cancel: Callable[[], bool] | None,
    checker: Checker | None,
    *,
    attack: bool = True,
) -> Verdict:
    options, budget = options or Options(), budget or Budget()
    from solver.closing import Closing  # SciPy's solvers, which no decision needs, take half a second to load
    from solver.optimising import Optimising

    why = sizes.too_large(network, aim.query)
    if why:
        unknown = (0.0, math.inf) if isinstance(aim, Distance) else None
        kind = Kind.MARGIN if unknown is None else Kind.DISTANCE
        return replace(refused(aim.query, why), kind=kind, distance=unknown)
    torch.set_num_threads(min(budget.threads, policy.TORCH_THREADS))
    with ExitStack() as stack:
        if options.certificate and checker is None:
            checker = stack.enter_context(Checker(network, threads=budget.threads))
            checker.start()
        closing = Optimising if options.engine is Engine.MILP else Closing
        return closing(network, aim, options, budget, progress, cancel, checker).run(attack=attack)
