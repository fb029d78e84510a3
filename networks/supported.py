"""``docs/supported.md``: what the loader takes, written from the registry of rewrite rules.

``python -m networks.supported`` prints it; a test keeps the file current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from networks.onnx_model import MAX_BYTES, OLDEST_OPSET
from networks.onnx_reader import DECISION_OPS
from networks.operators import ADVICE, Operator, supported
from networks.tracing import MAX_ENTRIES

__all__ = ["document"]

_TITLES = {
    "arithmetic": "Arithmetic",
    "products": "Products and normalisation",
    "windows": "Convolutions and pooling",
    "activations": "Activations and maxima",
    "reductions": "Reductions",
    "shaping": "Moving and copying",
    "selection": "Picking and resizing",
    "constants": "Constants",
}
"""Headings of the modules of `networks.operators`."""

_HEAD = f"""\
# Supported networks

Written by `make supported` from the loader's own tables; edit those.

Every operator is rewritten at load into affine maps and ReLUs, exactly, so every bound, engine and certificate treats
it. "Exactly" is meant over the real numbers, with all weights as they are stored (float16, float32 or float64); where a
weight has to be computed, the network that is verified has the float64 result, and `netproof info` notes it. What was
read is compared with ONNX Runtime on sampled inputs before anything is verified.

## Files

* `.onnx` or `.onnx.gz`, at most {MAX_BYTES // 2**20} MiB after decompression, of opset {OLDEST_OPSET} or later, in one
  file: no external data, no sparse initializers.
* One input and one output; the input float32 or float64, of fixed shape; a symbolic first dimension is taken as 1, and
  a batch of several inputs is refused. Any layout will do, NHWC among them.
* No NaN or infinity among the weights, stored or computed.
* At most {MAX_ENTRIES:,} entries of all values together.
* A final {" or ".join(f"`{op}`" for op in DECISION_OPS)} over all outputs is left out, which changes no
  comparison of classes; a note says so. Only changes of shape may follow it.

An attribute that is not listed below is refused. A refusal names the node, its operator, opset and shapes, and says
what to do.
"""


def document() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *_operators(), *_refused()])


def _operators() -> Iterator[str]:
    for module, title in _TITLES.items():
        yield f"## {title}\n"
        yield from _table(
            ("operator", "attributes", "how it is rewritten", "refused"),
            (
                (f"`{name}`", ", ".join(f"`{a}`" for a in sorted(rule.attributes)), *_parts(rule))
                for name, rule in sorted(supported().items())
                if rule.rule.__module__.rpartition(".")[2] == module
            ),
        )


def _parts(rule: Operator) -> tuple[str, str]:
    """How it is rewritten, and what is refused."""
    rewrite, _, refused = " ".join(rule.text.replace("``", "`").split()).partition(" Refused: ")
    return rewrite, refused.removesuffix(".")


def _refused() -> Iterator[str]:
    yield "## Refused operators\n"
    yield (
        "Any operator that is not listed above is refused. About those that people bring most often:\n\n"
        "| operators | why, and what to do |\n|---|---|"
    )
    for ops, text in ADVICE.items():
        yield f"| {', '.join(f'`{op}`' for op in ops)} | {text} |"
    yield ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(document())
