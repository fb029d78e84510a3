"""One call from Python: `verify`, and `check` for its certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from numpy.typing import ArrayLike

import certificates
import networks
import solver
from certificates import Report
from networks import Network
from networks.exact import Number
from solver import Backend, Budget, Engine, Options, Progress, Verdict

__all__ = ["check", "verify"]


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
    lower: Number | Sequence[Number] | ArrayLike | None = None,
    upper: Number | Sequence[Number] | ArrayLike | None = None,
    time_limit: float = 300.0,
    engine: Engine | str = Engine.AUTO,
    backend: Backend | str = Backend.AUTO,
    threads: int | None = None,
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
        vnnlib: a VNNLIB file (also ``.vnnlib.gz``), instead of ``input`` and ``epsilon``.
        input: center of the ball, as many numbers as the network has inputs, in its input units.
        label: the class that must score strictly highest; by default the one that the network gives ``input``.
        epsilon: radius of the ball, in input units; a decimal is taken as written, and so is ``"8/255"``.
        norm: of the ball; ``"linf"``.
        targets: the classes that must not overtake ``label``; by default all others.
        domain: lowest and highest value of every input entry, such as ``(0, 1)``; by default unlimited.
        lower, upper: a box, instead of ``input``, ``epsilon`` and ``domain``: a number for all input entries, or one
            for each.
        time_limit: seconds for the decision; then the verdict is ``unknown``, with the bounds proven so far.
        engine: ``auto``, or ``bounds``, ``milp`` or ``bab`` to force one.
        backend: MIP solver of the ``milp`` engine: ``auto``, ``highs`` or ``gurobi``.
        threads: CPU threads, by default one for each core.
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
        vnnlib=None if vnnlib is None else Path(vnnlib),
        input=input,
        epsilon=epsilon,
        norm=norm,
        domain=domain,
        lower=lower,
        upper=upper,
        label=label,
        targets=targets,
    )
    budget = Budget(time_limit) if threads is None else Budget(time_limit, threads)
    options = Options(Engine(engine), Backend(backend), seed, certificate)
    return solver.verify(
        question.network, question.query, options=options, budget=budget, progress=progress, cancel=cancel
    )


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
