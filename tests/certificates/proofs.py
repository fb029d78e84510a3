"""Queries on small networks, and certificates for them as the prover writes them."""

from __future__ import annotations

import functools
import io
import json
import zipfile

import numpy as np

import networks
from certificates import Certificate, Claim, Node, Tree, write
from networks import Network, Property, Query, Region
from solver import Budget, Engine, Options, Trust, verify
from tests.random_networks import dense_model


def root_certificate(network: Network, query: Query) -> bytes:
    """Every clause by its first row, with default slopes on the whole region."""
    trees = []
    for number, (_, prop) in enumerate(query.cases):
        claims = [Claim(c, (1.0,) + (0.0,) * (len(clause.rows) - 1)) for c, clause in enumerate(prop.clauses)]
        trees.append(Tree(number, (Node(tuple(claims)),)))
    return write(Certificate(network.sha256, query, tuple(trees)))


#: Seed, widths, radius and engine of queries whose proofs have the shape that the name says.
_QUERIES = {
    "root": (1, (6, 8, 3), "0.01", Engine.BOUNDS),
    "boxes": (1, (2, 12, 12, 3), "0.4", Engine.BAB),
    "phases": (2, (20, 12, 12, 3), "0.2", Engine.BAB),
}


@functools.cache
def proven(kind: str) -> tuple[Network, bytes]:
    """A network and an accepted certificate whose trees split boxes ("boxes") or ReLUs ("phases"), or not ("root")."""
    seed, widths, epsilon, engine = _QUERIES[kind]
    network = networks.load_bytes(dense_model(seed, widths))
    center = np.random.default_rng(seed).uniform(-1, 1, widths[0]).astype(np.float32)
    label = int(networks.evaluate(network, center[None])[0].argmax())
    query = Query.single(Region.linf_ball(center, epsilon), Property.classification(label, 3))
    verdict = verify(network, query, options=Options(engine, certificate=True), budget=Budget(60, 1))
    assert verdict.trust is Trust.CERTIFIED, verdict
    assert verdict.certificate is not None
    return network, verdict.certificate


def unpack(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        arrays = {}
        if "multipliers.npz" in archive.namelist():
            with np.load(io.BytesIO(archive.read("multipliers.npz"))) as stored:
                arrays = dict(stored)
    return manifest, arrays


def pack(manifest: dict | bytes, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest if isinstance(manifest, bytes) else json.dumps(manifest))
        if arrays:
            inner = io.BytesIO()
            np.savez(inner, **arrays)
            archive.writestr("multipliers.npz", inner.getvalue())
    return out.getvalue()
