"""Hypothesis for this folder: no deadlines, as the machine may be busy; few examples, as it is one
of many runs.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("certledger", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("certledger")
