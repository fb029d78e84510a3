"""One call from Python: `verify`, and `check` for its certificates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import certificates
import networks
import solver
from certificates import Report
from netproof.stating import specification
from networks import Constraint, Network
from networks.exact import Number
from solver import Backend, Budget, Engine, Kind, Options, Progress, Verdict
from solver.local_helpers import local_helpers, shares
from solver.universal_question import search_universal

if TYPE_CHECKING:
    from solver.universal import UniversalPerturbation

__all__ = ["check", "universal", "verify"]


def verify(
    network: str | Path | Network,
    *,
    vnnlib: str | Path | None = None,
    input: ArrayLike | None = None,  # noqa: A002  the field's own word for it
    label: int | None = None,
    epsilon: Number | None = None,
    norm: str = "linf",
    targets: Sequence[int] | None = None,
    domain: tuple[Number, Number] | None = None,
    radii: Sequence[Number] | ArrayLike | None = None,
    frozen: Sequence[int] | NDArray[np.bool_] | None = None,
    lower: Number | Sequence[Number] | ArrayLike | None = None,
    upper: Number | Sequence[Number] | ArrayLike | None = None,
    constraints: Sequence[Constraint | Mapping[str, Any]] | None = None,
    top_k: int | None = None,
    confidence: Number | None = None,
    output_range: Mapping[str, Any] | None = None,
    violations: Sequence[Sequence[Mapping[str, Any]]] | None = None,
    equivalent_to: str | Path | Network | Mapping[str, Any] | None = None,
    monotone: Mapping[str, Any] | None = None,
    kind: Kind | str = Kind.DECIDE,
    tolerance: Number | None = None,
    time_limit: float = 300.0,
    engine: Engine | str = Engine.AUTO,
    backend: Backend | str = Backend.AUTO,
    threads: int | None = None,
    workers: int | None = None,
    seed: int = 0,
    certificate: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Verdict:
    """Decide whether any input of a region makes a network break a property.

    The query is a VNNLIB file, or a ball around an input or a box in which the class must not change:

    >>> import numpy as np, netproof
    >>> digits = np.load("examples/digits.npz")
    >>> image, label = digits["images"][10], int(digits["labels"][10])
    >>> verdict = netproof.verify(
    ...     "examples/digits_robust.onnx", input=image, label=label, epsilon="0.1", domain=(0, 1), threads=1
    ... )
    >>> str(verdict.outcome), verdict.margin[0] > 0
    ('robust', True)
    >>> verdict = netproof.verify(
    ...     "examples/digits_plain.onnx", input=image, label=label, epsilon="0.1", domain=(0, 1), threads=1
    ... )
    >>> str(verdict.outcome), int(verdict.counterexample.output.argmax()) == label
    ('counterexample', False)

    Args:
        network: an ONNX file (also ``.onnx.gz``), or a network that `netproof.load` returned; load once when asking
            several questions about one network.
        vnnlib: a VNNLIB file (also ``.vnnlib.gz``) or its text, instead of region and property.
        input: center of the ball, as many numbers as the network has inputs, in its input units.
        label: the class that must score strictly highest; by default the one that the network gives ``input``.
        epsilon: radius of the ball, in input units; a decimal is taken as written, and so is ``"8/255"``.
        norm: of the ball; ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``, where epsilon counts the entries that change.
        targets: the classes that must not overtake ``label``; by default all others.
        domain: lowest and highest value of every input entry, such as ``(0, 1)``; by default unlimited.
        radii: how far each input entry may move by itself, one number for each.
        frozen: input entries that keep their values: indices, or an array that is true for them.
        lower, upper: a box, instead of ``input``, ``epsilon`` and ``domain``: a number for all input entries, or one
            for each.
        constraints: linear constraints on the input, each a `networks.Constraint` or a mapping
            ``{"coefficients": {"0": 1, "3": -2}, "bound": 0.5}``, which says x₀ − 2x₃ ≤ 0.5.
        top_k: ``label`` need only be among the k best.
        confidence: ``label`` must win by more than that.
        output_range: instead of a label, ``{"output": 0, "lower": -1, "upper": 1}``: the output stays strictly between;
            either bound may be left out, and ``coefficients`` of several outputs may take the place of ``output``.
        violations: instead of a label, a list of clauses, each a list of rows
            ``{"coefficients": {"0": 1}, "offset": -2}``, which says y₀ − 2 ≤ 0; an output that meets all rows of a
            clause is a violation.
        equivalent_to: instead of a label, another network that must decide for the same class; or
            ``{"network": other, "within": 0.1}``: all outputs of both must differ by less than that.
        monotone: instead of a label, ``{"input": 3, "output": 0, "direction": "increasing", "within": 0.01}``: as entry
            3 alone is raised, output 0 never falls by as much as that (``"decreasing"``: rises).
        kind: ``decide`` whether there is a violation; or how small the ``margin`` becomes; or the ``distance`` of the
            nearest violation from ``input``, in ``norm``, where ``epsilon`` may be left out if there is a ``domain``.
        tolerance: how far the ends of a margin or distance may be apart, relative to the upper one where that is above
            1; by default 1e-5.
        time_limit: seconds for the decision; then the verdict is ``unknown``, with the bounds proven so far.
        engine: ``auto``, or ``bounds``, ``milp`` or ``bab`` to force one.
        backend: MIP solver of the ``milp`` engine: ``auto``, ``highs`` or ``gurobi``.
        threads: CPU threads, by default one for each core, or with ``workers`` as many as leave each a core.
        workers: processes that search together, this one included, once branch and bound has lasted a second; by
            default as many as ``threads``, at most eight.
        seed: of the attacks' randomness.
        certificate: prove a robust verdict to the independent checker; ``Verdict.certificate`` is then the file.
        progress: called now and then with what is known so far.
        cancel: asked now and then; once it returns true, the verdict is ``unknown`` with the bounds so far.

    Raises:
        InputError: the network, the specification, the input or their combination cannot be used.
        BackendError: the chosen back end cannot serve the request.
    """
    loaded = network if isinstance(network, Network) else networks.load(network)
    question = solver.pose(
        loaded,
        vnnlib=specification(vnnlib),
        input=input,
        epsilon=epsilon,
        norm=norm,
        domain=domain,
        radii=radii,
        frozen=frozen,
        lower=lower,
        upper=upper,
        constraints=constraints,
        label=label,
        targets=targets,
        top_k=top_k,
        confidence=confidence,
        output_range=output_range,
        violations=violations,
        equivalent_to=equivalent_to,
        monotone=monotone,
        kind=kind,
        tolerance=tolerance,
    )
    options = Options(Engine(engine), Backend(backend), seed, certificate)
    threads, workers = shares(threads, workers)
    with local_helpers(question.network, workers) as helpers:
        budget = Budget(time_limit, threads, helpers)
        return solver.answer(question, options=options, budget=budget, progress=progress, cancel=cancel)


def check(
    certificate: str | Path | bytes, network: str | Path | Network, *, float32: bool = False, exact: bool = False
) -> Report:
    """Check that a certificate proves its query about a network; ``str(report)`` says the result in one line.

    Args:
        certificate: the file, or its bytes.
        network: the ONNX file, or what `netproof.load` returned.
        float32: prove float32 inference in any order of summation, too.
        exact: decide every claim in exact arithmetic.

    Raises:
        InputError: the files are not a certificate and its network.
    """
    data = certificate if isinstance(certificate, bytes) else Path(certificate).read_bytes()
    loaded = network if isinstance(network, Network) else networks.load(network, compare=False)
    return certificates.check(data, loaded, semantics="float32" if float32 else "real", exact=exact)


def universal(
    network: str | Path | Network,
    *,
    inputs: ArrayLike,
    labels: Sequence[int],
    epsilon: Number,
    domain: tuple[Number, Number] | None = None,
    time_limit: float = 300.0,
    backend: Backend | str = Backend.AUTO,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> UniversalPerturbation:
    """One perturbation that makes a network misclassify as many of some inputs as possible.

    Args:
        network: an ONNX file, or a network that `netproof.load` returned; a small one, as every input brings a copy of
            it into one MILP.
        inputs: shape ``(N, …)``, as many numbers for each as the network has inputs.
        labels: the class of each.
        epsilon: largest change of an entry.
        domain: lowest and highest value that sums are clipped to.
        time_limit, backend, threads, progress, cancel: see `verify`.

    Raises:
        InputError: the network, the inputs or their combination cannot be used.
        BackendError: the back end cannot serve the request, or the model would be too large.
    """
    loaded = network if isinstance(network, Network) else networks.load(network)
    return search_universal(
        loaded,
        inputs=inputs,
        labels=labels,
        epsilon=epsilon,
        domain=domain,
        options=Options(backend=Backend(backend)),
        budget=Budget(time_limit) if threads is None else Budget(time_limit, threads),
        progress=progress,
        cancel=cancel,
    )
