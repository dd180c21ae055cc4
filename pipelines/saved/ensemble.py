"""Ensemble of the outer models, which ``--final ensemble`` ships as the final model.

It follows nnU-Net (Isensee et al. 2021), which ships the mean of its five cross-validation models.
Each member keeps what its own study chose and learnt: configuration, image encoder, encoder of
clinical columns, scaler, temperature. The members' calibrated probabilities are averaged with equal
weights. There is no search on all rows, which saves one search of six with five outer folds.

The Brier score and the log loss of the mean are never above the mean of the members' values (both
are convex). Other metrics are expected to behave in the same way. None can be measured, since every
row has trained most members.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import torch

from outerfold.pipelines.fitted.calibration import middle_threshold
from outerfold.pipelines.saved.files import PREPROCESSING
from outerfold.storage.cache.files import read_json, write_bytes, write_json
from outerfold.storage.records import FINAL, Ensemble
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import verify_files
from outerfold.storage.runs.results import write_ensemble

SHARED = ("schema", "task", "classes", "synthetic", "augmentation", "trainable_blocks")
"""Keys of ``preprocessing.json`` that all members share; the ensemble's file has each once."""


def ship_ensemble(folder: RunFolder, members: Sequence[str]) -> Ensemble:
    """Write an ensemble of the finished models of the studies ``members`` to ``final/``.

    The files depend on those models alone, so this may be repeated.

    Raises:
        DataError: a member's files were changed.
    """
    for name in members:
        verify_files(folder.study(name), PREPROCESSING, "model.pt")
    kept = {name: read_json(folder.study(name) / PREPROCESSING) for name in members}
    thresholds = [own["threshold"] for own in kept.values()]
    threshold = None if None in thresholds else middle_threshold(thresholds)
    weights = {
        name: torch.load(folder.study(name) / "model.pt", map_location="cpu", weights_only=True)
        for name in members
    }
    model = BytesIO()
    torch.save(weights, model)
    path = folder.study(FINAL)
    write_bytes(path / "model.pt", model.getvalue())
    first = kept[members[0]]
    write_json(
        path / PREPROCESSING,
        {
            **{name: first[name] for name in SHARED},
            "threshold": threshold,
            "members": [
                {"name": name, **{key: own[key] for key in own if key not in SHARED}}
                for name, own in kept.items()
            ],
        },
    )
    made = Ensemble(tuple(members), threshold)
    write_ensemble(folder, made)
    return made
