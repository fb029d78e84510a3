"""The commands of the command line, one module each."""

from __future__ import annotations

from netproof.commands.info import info
from netproof.commands.serve import serve
from netproof.commands.verify import verify
from netproof.commands.worker import worker

__all__ = ["info", "serve", "verify", "worker"]
