"""The model of a finished outer fold, made again from what the run keeps."""

from __future__ import annotations

from outerfold.pipelines.encoders.divide import Divided
from outerfold.pipelines.explain.fold_model import FoldModel, Tails
from outerfold.pipelines.saved.model import read_member
from outerfold.storage.records import Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder


def fold_model(
    folder: RunFolder, data: Dataset, fold: OuterFold, divided: Divided | None = None
) -> FoldModel:
    """The model that scored the test rows of ``fold``, as it was kept.

    Only the mean of the encoded columns is computed anew, from the fold's training side.

    Args:
        data: every row of the run.
        divided: the pretrained encoder where it was cut, if blocks of it were trained.

    Raises:
        DataError: the model is gone, or another version's.
    """
    kept = read_member(folder, fold.name)
    table = fold.train_side(data).features.tabular
    mean = kept.columns.transform(table).mean(axis=0)
    tails = None
    if divided is not None:
        tails = Tails(kept.build_tails(divided.tail).requires_grad_(False), divided.trunk)
    return FoldModel(kept.network, kept.columns, mean, kept.decision, kept.tokens, kept.tta, tails)
