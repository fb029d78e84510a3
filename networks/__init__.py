"""Networks, regions, properties and data sets: everything that a query is made of.

ONNX files are read to one canonical graph of affine maps and ReLUs. Importing this package is light: ``onnx`` and
``onnxruntime`` are imported when the first file is loaded, torch never.
"""

from __future__ import annotations

from networks.constraints import Constraint
from networks.dataset import Dataset
from networks.dataset_files import read_dataset
from networks.errors import (
    DatasetError,
    InputError,
    NetproofError,
    NetworkError,
    NetworkFormatError,
    NetworkShapeError,
    NonFiniteWeightError,
    PropertyError,
    RegionError,
    SoundnessError,
    UnsupportedOperatorError,
    VnnlibError,
)
from networks.evaluation import evaluate
from networks.graph import Network
from networks.norms import Ball
from networks.onnx_reader import load, load_bytes
from networks.product import Product, equivalence, monotone
from networks.product_model import equivalence_model, monotone_model
from networks.property import Clause, OutputRange, Property, Query, Row
from networks.region import Region
from networks.summary import summarise
from networks.vnnlib import parse_vnnlib, read_vnnlib

__all__ = [
    "Ball",
    "Clause",
    "Constraint",
    "Dataset",
    "DatasetError",
    "InputError",
    "NetproofError",
    "Network",
    "NetworkError",
    "NetworkFormatError",
    "NetworkShapeError",
    "NonFiniteWeightError",
    "OutputRange",
    "Product",
    "Property",
    "PropertyError",
    "Query",
    "Region",
    "RegionError",
    "Row",
    "SoundnessError",
    "UnsupportedOperatorError",
    "VnnlibError",
    "equivalence",
    "equivalence_model",
    "evaluate",
    "load",
    "load_bytes",
    "monotone",
    "monotone_model",
    "parse_vnnlib",
    "read_dataset",
    "read_vnnlib",
    "summarise",
]
