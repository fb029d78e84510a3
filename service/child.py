"""Programs of the service that read a stranger's file in a process of their own and answer with one JSON object."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import Any

__all__ = ["ChildError", "ask"]


class ChildError(Exception):
    """The child ended with ``status`` and without an answer; caught by who asked."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        self.status = status


async def ask(module: str, *arguments: str, seconds: float) -> dict[str, Any]:
    """What ``python -m module arguments… --parent PID`` prints.

    Raises:
        TimeoutError: it did not answer within ``seconds``, and was ended.
        ChildError: it crashed, or was killed.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, log = await asyncio.wait_for(child.communicate(), seconds)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    try:
        return dict(json.loads(out))
    except ValueError as error:
        # a parser that was killed or crashed says nothing itself; what it wrote on the way is for the log
        sys.stderr.buffer.write(log)
        raise ChildError(child.returncode) from error
