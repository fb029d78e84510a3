"""The ledger's schema, revision by revision; `service.database.migrate` runs what is missing."""

from __future__ import annotations
