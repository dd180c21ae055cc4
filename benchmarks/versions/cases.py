"""Runs that both versions of the code carry out, and the commands for each run."""

from __future__ import annotations

from dataclasses import dataclass

ENCODER = ("--encoder", "bundled:efficientnet_lite0")
SMALL = (
    "--trials",
    "4",
    "--epochs",
    "6",
    "--outer-folds",
    "3",
    "--inner-folds",
    "2",
    "--networks",
    "2",
    "--quiet",
)
"""Options of a run that takes about ten seconds once its embeddings are cached."""


@dataclass(frozen=True)
class Case:
    """One run, and the commands that follow it.

    Attributes:
        name: name of the case and of its run directory.
        task: task of the run.
        data: ``demo``, or the name of a folder of real images.
        options: options of the run, except task, data and directory.
        explain: whether ``explain`` is called for the run.
        killed: whether the old version begins the run and is killed, and the new version finishes
            it.
    """

    name: str
    task: str
    options: tuple[str, ...]
    data: str = "demo"
    explain: bool = False
    killed: bool = False


QUICK = (
    Case("multimodal", "multimodal", (*ENCODER, *SMALL), explain=True),
    Case(
        "other", "multimodal", (*ENCODER, *SMALL, "--pruner", "none", "--threshold", "sensitivity")
    ),
    Case("dbt", "dbt", (*ENCODER, *SMALL)),
)
"""Cases that take a minute; ``compare`` is called for the first two."""

FULL = (
    *QUICK,
    Case(
        "blocks",
        "multimodal",
        (
            *ENCODER,
            *SMALL,
            "--trials",
            "2",
            "--epochs",
            "2",
            "--trainable-blocks",
            "1",
            "--tta",
            "2",
            "--final",
            "ensemble",
        ),
        explain=True,
    ),
    Case("factors", "multimodal", (*ENCODER, *SMALL, "--ablate", "attention")),
    Case("killed", "multimodal", (*ENCODER, *SMALL, "--trials", "12"), killed=True),
    Case(
        "real",
        "multimodal",
        (*ENCODER, *SMALL, "--columns", "age,tissue_composition"),
        data="breast-usg",
        explain=True,
    ),
)
