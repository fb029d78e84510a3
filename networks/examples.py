"""The small networks, images and query that come with netproof, for those who have none at hand."""

from __future__ import annotations

from pathlib import Path

__all__ = ["EXAMPLES", "examples_folder"]

#: Two classifiers of handwritten digits, their test images, and a question about one of these.
EXAMPLES = ("digits.npz", "digits.vnnlib", "digits_plain.onnx", "digits_robust.onnx")

#: An installed package has them beside this module, a checkout where they are made.
_FOLDERS = (Path(__file__).parent / "digits", Path(__file__).parents[1] / "examples")


def examples_folder() -> Path | None:
    """The folder that holds all of `EXAMPLES`, None where they were not installed."""
    return next((folder for folder in _FOLDERS if all((folder / name).is_file() for name in EXAMPLES)), None)
