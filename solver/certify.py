"""Certificates from what the engines found: trees that grow with a search.

Recording costs memory and a little time, so engines record only when asked. A search that outgrows `LIMIT` stops
recording: its verdict then rests on the prover's word, as it does where a MIP solver decided.

Soundness. Nothing here is trusted: a verdict is ``certified`` only after the checker (`solver.checking`) accepted the
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

import certificates
from certificates import BoxSplit, Certificate, CertificateError, Claim, NeuronSlopes, Node, PhaseSplit, Tree
from networks.graph import Network
from networks.property import Query

__all__ = ["Branch", "Record", "certificate", "grown"]

#: Bytes that one search may record.
LIMIT = 256 * 2**20

_CLAIM_BYTES = 1000


@dataclass(eq=False)
class Branch:
    """A cell of a search, as it will stand in the certificate."""

    claims: list[Claim] = field(default_factory=list)
    clips: list[Claim] = field(default_factory=list)
    split: BoxSplit | PhaseSplit | None = None
    children: tuple[Branch, ...] = ()


class Record:
    """The tree that one search grows over one region.

    Attributes:
        root: the cell that is the whole region.
        full: whether the search outgrew the limit; then nothing more is kept, and there is no tree.
        slopes: what neurons were bounded with on the region; None for default slopes.
    """

    def __init__(self, clauses: Sequence[int], slopes: NeuronSlopes | None = None) -> None:
        """From the number that each clause of the search has in the query's case, and the slopes that neurons were
        bounded with on the region, if not default ones.
        """
        self.root = Branch()
        self.full = False
        self.columns = np.zeros((0, 2), np.int64)
        self.slopes = slopes
        self._clauses = clauses
        self._slopes: dict[bytes, int] = {}  # lines that several claims share are kept once
        self._rows: list[NDArray[np.float64]] = []
        self._bytes = 0

    def claim(
        self,
        branch: Branch,
        clause: int,
        weights: Sequence[float],
        *,
        slopes: ArrayLike | None = None,
        rows: ArrayLike | None = None,
    ) -> None:
        """Notes that weights of a clause's rows prove it on a cell, with α and β ``(2, K)``, or Λ ``(K,)``, or default
        slopes.
        """
        branch.claims.append(self._noted(clause, weights, slopes, rows))

    def clip(
        self,
        branch: Branch,
        clause: int,
        weights: Sequence[float],
        *,
        slopes: ArrayLike | None = None,
        rows: ArrayLike | None = None,
    ) -> None:
        """Notes that the linear bound of these weights and multipliers tightens neuron bounds for the clause's later
        clips and claims on a cell and below.
        """
        branch.clips.append(self._noted(clause, weights, slopes, rows))

    def _noted(self, clause: int, weights: Sequence[float], slopes: ArrayLike | None, rows: ArrayLike | None) -> Claim:
        multipliers, lines = None, len(self._slopes) + len(self._rows)
        if slopes is not None and len(self.columns):
            line = np.asarray(slopes, np.float32).tobytes()
            multipliers = ("slopes", self._slopes.setdefault(line, len(self._slopes)))
        elif rows is not None and len(self.columns):
            multipliers = ("rows", len(self._rows))
            self._rows.append(np.asarray(rows, np.float64))
        self._grow(_CLAIM_BYTES + 8 * len(self.columns) * (len(self._slopes) + len(self._rows) - lines))
        return Claim(self._clauses[clause], tuple(map(float, weights)), multipliers)

    def split(self, branch: Branch, split: BoxSplit | PhaseSplit) -> tuple[Branch, Branch]:
        """Splits a cell; the two children in the order of the certificate."""
        branch.split = split
        branch.children = first, second = Branch(), Branch()
        self._grow(_CLAIM_BYTES)
        return first, second

    def _grow(self, size: int) -> None:
        self._bytes += size
        if self._bytes > LIMIT and not self.full:
            self.overflow()

    def tree(self, case: int) -> Tree | None:
        """The finished tree, None if there is none."""
        return None if self.full else self.forest(case, [self.root])[0]

    def forest(self, case: int, roots: Sequence[Branch]) -> tuple[Tree, list[Branch]]:
        """What grew below some cells, their trees one after the other; and the cell of each node."""
        k = len(self.columns)
        cells, pending = [], list(reversed(roots))
        while pending:
            cells.append(pending.pop())
            pending.extend(reversed(cells[-1].children))
        nodes = tuple(Node(tuple(cell.claims), cell.split, tuple(cell.clips)) for cell in cells)
        if not self._slopes and not self._rows:
            return Tree(case, nodes), cells
        slopes = np.frombuffer(b"".join(self._slopes), np.float32).reshape(-1, 2, k)
        rows = np.stack(self._rows) if self._rows else np.zeros((0, k))
        return Tree(case, nodes, self.columns, slopes, rows), cells

    def graft(self, roots: Sequence[Branch], forest: Tree) -> list[Branch]:
        """Lets a forest that another record grew stand below cells; the cell of each of its nodes.

        Raises:
            CertificateError: it is not a forest of so many trees over the same columns; nothing was taken in.
        """
        standing, whole = len(roots), True
        for node in forest.nodes:
            whole &= standing > 0
            standing += 1 if node.split is not None else -1
        same = not len(forest.columns) or np.array_equal(forest.columns, self.columns)
        if standing or not whole or not same:
            msg = f"a forest of {len(forest.nodes)} nodes does not grow below {len(roots)} cells of this search"
            raise CertificateError(msg)
        cells, pending = [], list(reversed(roots))
        for node in forest.nodes:
            cells.append(pending.pop())
            for each, note in ((node.claims, self.claim), (node.clips, self.clip)):
                for said in each:
                    kind, line = said.multipliers or ("", 0)
                    lines = {"slopes": forest.slopes, "rows": forest.rows}.get(kind)
                    given = {} if lines is None else {kind: lines[line]}
                    note(cells[-1], said.clause, said.weights, **given)
            if node.split is not None:
                pending.extend(reversed(self.split(cells[-1], node.split)))
        return cells

    def overflow(self) -> None:
        """Keeps nothing any more."""
        self.full = True
        self.root = Branch()
        self._slopes, self._rows = {}, []


def certificate(network: Network, query: Query, trees: Sequence[Tree], slopes: Sequence[NeuronSlopes] = ()) -> bytes:
    """The certificate file; ``slopes`` are what trees' ``bounds`` count."""
    return certificates.write(Certificate(network.sha256, query, tuple(trees), tuple(slopes)))


def grown(records: Sequence[tuple[int, Record]]) -> tuple[list[Tree], list[NeuronSlopes]]:
    """The finished trees of records, each with the number of its case, and the slopes that they share."""
    slopes = list(dict.fromkeys(record.slopes for _, record in records if record.slopes is not None))
    trees = []
    for case, record in records:
        tree = record.tree(case)
        if tree is not None:
            trees.append(tree if record.slopes is None else replace(tree, bounds=slopes.index(record.slopes)))
    return trees, slopes
