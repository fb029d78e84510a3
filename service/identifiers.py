"""Identifiers that sort by time and say nothing else."""

from __future__ import annotations

import secrets
import time

__all__ = ["new_id"]

#: Crockford's base 32: no I, L, O or U, so that an identifier survives being read aloud.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(milliseconds: int | None = None, entropy: int | None = None) -> str:
    """A ULID: 48 bits of Unix time in milliseconds and 80 random bits, as 26 characters.

    Args:
        milliseconds: time to encode; now by default.
        entropy: the random part, below 2**80; drawn from the operating system by default.
    """
    moment = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    noise = secrets.randbits(80) if entropy is None else entropy
    value = (moment << 80) | noise
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
