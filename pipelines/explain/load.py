"""Loading of a finished outer fold's model from the files of its run."""

from __future__ import annotations

from outerfold.pipelines.encoders.divide import Divided
from outerfold.pipelines.explain.fold_model import FoldModel, Tails
from outerfold.pipelines.saved.model import read_model
from outerfold.storage.records import Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder


def fold_model(
    folder: RunFolder, data: Dataset, fold: OuterFold, divided: Divided | None = None
) -> FoldModel:
    """Load the model that scored the test rows of ``fold``.

    Only the mean of the encoded columns is computed again, from the fold's training side.

    Args:
        folder: folder of the run.
        data: all rows of the run.
        fold: the outer fold.
        divided: the divided pretrained encoder if blocks of it were trained; else None.

    Raises:
        DataError: the model is missing, or another version wrote it.
    """
    kept = read_model(folder, fold.name)
    table = fold.train_side(data).features.tabular
    mean = kept.columns.transform(table).mean(axis=1)
    tails = None
    if divided is not None:
        tails = Tails(kept.build_tails(divided.tail).requires_grad_(False), divided.trunk)
    return FoldModel(kept.network, kept.columns, mean, kept.decision, kept.tokens, kept.tta, tails)
