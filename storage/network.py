"""Whether this process may use the network: ``--offline`` makes no outbound call."""

from __future__ import annotations

import os
import sys

VARIABLE = "OUTERFOLD_OFFLINE"
"""Environment variable that hands ``--offline`` to all processes that a run starts."""

OF_LIBRARIES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE")
"""Variables by which libraries are told to make no call."""


def go_offline() -> None:
    """Make no outbound call from now on, in this process and those that it starts.

    Databases and Dask schedulers that options name are still asked.
    """
    for name in (VARIABLE, *OF_LIBRARIES):
        os.environ[name] = "1"
    constants = sys.modules.get("huggingface_hub.constants")  # it reads its variable at import
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def offline_reason() -> str:
    """Reason why nothing is asked of the network; empty where it may be used."""
    if os.environ.get(VARIABLE):
        return "--offline was given"
    on = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return "HF_HUB_OFFLINE is set" if on else ""
