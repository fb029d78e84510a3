"""One module for each revision; they never change once a release has them."""

from __future__ import annotations
