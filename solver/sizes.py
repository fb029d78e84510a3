"""What bounds and engines would take for a query, estimated from counts before anything is allocated.

A question that does not fit is refused, or an engine is left out, with the figures: whoever asked can then choose a
smaller region or network, or more memory. Imports nothing heavy, since the web process asks too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from networks.graph import Network
from networks.property import Query
from solver import policy

__all__ = [
    "available",
    "batch",
    "deep_splits",
    "explained",
    "footprint",
    "is_memory_error",
    "mib",
    "milp",
    "needed",
    "relu_splits",
    "too_large",
]

# What libraries say, in errors of other types, when an allocation fails.
_MEMORY_WORDS = ("can't allocate memory", "failed to allocate memory", "bad_alloc", "out of memory", "bad allocation")
# Bytes that batched bounds take for each entry of all values, and each region of a batch: lower and upper bounds,
# magnitudes and relaxations in float64, and what is made on the way. Measured on convolutional networks with 0.1 to 11
# million entries: 55 to 90 for a region.
_ENTRY = 96
# Bytes that a case keeps for each ReLU: two enclosures.
_RELU = 32
# Bytes for each weight: the operators in float64 with their magnitudes, and in float32 for searches.
_WEIGHT = 24
# What every query takes beside: chunks of rows, the attack, ONNX Runtime.
_FLOOR = 2**27


def batch(entries: int) -> int:
    """How many regions are bounded together on a network with so many entries of all values."""
    return max(1, min(policy.CASES_PER_BATCH, policy.BATCH_ENTRIES // max(entries, 1)))


def needed(entries: int, relus: int, parameters: int, regions: int, forms: int) -> int:
    """Bytes that bounding a query takes, about.

    Args:
        entries: of all values of the network.
        relus, parameters: of the network.
        regions: of the query.
        forms: entries of all clauses' linear forms of the input: clauses of all regions, times inputs.
    """
    together = min(regions, batch(entries))
    return _FLOOR + _ENTRY * entries * together + _RELU * relus * regions + _WEIGHT * parameters + 8 * forms


def footprint(network: Network, query: Query) -> int:
    """`needed` for a query."""
    entries = sum(node.features for node in network.nodes)
    clauses = sum(len(prop.clauses) for _, prop in query.cases)
    return needed(entries, network.relus, network.parameters, len(query.cases), clauses * network.inputs)


def available() -> int | None:
    """Bytes that this process may still take: by its own limit, its control group's and the machine's; None if unknown.

    Only Linux tells.
    """
    if not sys.platform.startswith("linux"):
        return None
    import resource

    found = []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        found.append(soft - mapped)
    lines = Path("/proc/meminfo").read_text().splitlines()
    found.extend(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            found.append(int(limit) - used)
    except (OSError, ValueError):
        pass  # no control group of the second version
    return max(0, min(found)) if found else None


def too_large(network: Network, query: Query) -> str:
    """Why the query does not fit into the memory that there is; "" where it does."""
    free, bytes_ = available(), footprint(network, query)
    if free is None or bytes_ <= free:
        return ""
    return explained(bytes_, free, sum(node.features for node in network.nodes), len(query.cases))


def explained(bytes_: int, limit: int, entries: int, regions: int) -> str:
    """The words for a query that needs more than it may take."""
    over = "one region" if regions == 1 else f"{regions:,} regions"
    return (
        f"bounding {over} of a network with {entries:,} values would take about {mib(bytes_)} of memory, but "
        f"{mib(limit)} are available"
    )


def relu_splits(inputs: int, unstable: int) -> str:
    """Why ReLU splits are not tried; "" where they can be.

    They work on the network without its stable ReLUs, which is dense: one row for each unstable ReLU, over the inputs
    and the others.
    """
    coefficients = unstable * (inputs + unstable)
    if coefficients <= policy.BAB_COEFFICIENTS:
        return ""
    return (
        f"ReLU splits would take {mib(4 * coefficients)} for {unstable:,} unstable ReLUs over {inputs:,} inputs, more "
        f"than {mib(4 * policy.BAB_COEFFICIENTS)}"
    )


def deep_splits(unstable: int) -> str:
    """Why ReLU splits that bound all neurons anew are not tried; "" where they can be."""
    if unstable <= policy.DEEP_COLUMNS:
        return ""
    return (
        f"bounding all neurons anew on every cell would take {mib(8 * unstable**2)} for the slopes of {unstable:,} "
        f"unstable ReLUs, more than {mib(8 * policy.DEEP_COLUMNS**2)}"
    )


def milp(unstable: int, limit: int) -> str:
    """The words for a MILP model of more than ``limit`` coefficients."""
    return f"the MILP model for {unstable:,} unstable ReLUs would have over {limit:,} coefficients, too many to solve"


def is_memory_error(error: BaseException | None) -> bool:
    """Whether an allocation failed: Python's own error, or a native library's in the words that it uses."""
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS):
            return True
        error = error.__cause__
    return False


def mib(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**20:,.0f} MiB"
