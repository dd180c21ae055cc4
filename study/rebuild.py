"""The model of a finished outer fold, made again from what the run keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from optuna.trial import FixedTrial
from torch import Tensor, nn

from objectives.spaces import space
from pipelines._base import Pipeline
from pipelines.decision import Decision
from pipelines.explained import FoldModel
from pipelines.networks import Standardise, Widths
from pipelines.stacked import Chance
from pipelines.tabular import TabularEncoder
from storage.records import DataError, Dataset, FoldResult, OuterFold
from storage.run_folder import RunFolder
from study.config import StudyConfig
from study.session import ranges_of


def fold_model(
    folder: RunFolder, config: StudyConfig, data: Dataset, fold: OuterFold, result: FoldResult
) -> FoldModel:
    """The model that scored the test rows of ``fold``.

    The weights and input scalers are those that were kept; the encoder of the columns is fitted
    again on the fold's training side, which gives what it gave.

    Args:
        data: every row of the run.

    Raises:
        DataError: the weights are gone, or do not fit the configuration that was chosen.
    """
    path = folder.study(fold.name) / "model.pt"
    if not path.exists():
        raise DataError(f"{path}: the model of this outer fold is gone; run the study again")
    train = fold.train_side(data)
    columns = TabularEncoder.fit(train.features.columns, train.features.tabular)
    pipeline = space(config.task, ranges_of(config, data))(FixedTrial(result.params))
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        network = _network(pipeline, state, columns.width, len(data.classes))
    except (RuntimeError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: not the head that {fold.name} chose ({str(error).splitlines()[0]}); only "
            "heads on a frozen encoder can be explained"
        ) from None
    return FoldModel(
        network, columns, columns.transform(train.features.tabular).mean(axis=0),
        Decision(result.temperature, result.threshold), pipeline.tokens,
    )  # fmt: skip


def _network(
    pipeline: Pipeline, state: Mapping[str, Tensor], tabular: int, classes: int
) -> nn.Module:
    networks, _, width = state["scaler.mean"].shape
    empty = np.zeros((networks, width))
    network = pipeline.network(
        Chance([0] * networks), Widths(width, pipeline.tokens, tabular, classes),
        Standardise(empty, empty),
    )  # fmt: skip
    network.load_state_dict(state)
    return network.eval()
