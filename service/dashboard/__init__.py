"""The dashboard: pages for people, rendered on the server.

Pages read the ledger through the same functions and views as the API. They work without scripts; htmx, which is served
from here, only keeps what is live up to date. Nothing is loaded from elsewhere and nothing runs inline.
"""

from __future__ import annotations

from service.dashboard.mounting import add_dashboard

__all__ = ["add_dashboard"]
