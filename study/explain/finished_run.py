"""Finished run with the models of its outer folds, and checks before it can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.divide import Divided, divide
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.explain.fold_model import FoldModel
from outerfold.pipelines.explain.load import fold_model
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.saved.model import Origin, read_preprocessing
from outerfold.pipelines.saved.predictor import check_views
from outerfold.reports.wording import is_biased
from outerfold.storage.records import DataError, Dataset, FloatArray, OuterFold, Predictions, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.kept_run import read_kept_run, require_kept_plugins
from outerfold.study.config.record import StudyConfig

TOLERANCE = 1e-4
"""Largest allowed difference between a probability computed again and the one that was kept."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """Finished run with the models of its outer folds.

    Attributes:
        run: results of the run.
        config: options that determined them.
        data: rows of the run.
        encoders: encoder of each outer model, by name of the outer fold.
        folds: outer folds by name.
        models: outer models by name of the outer fold.
        tests: test predictions by name of the outer fold.
        tolerances: largest allowed difference of a probability computed again, by name of the outer
            fold, where another backend or precision than the run's computes it; else ``TOLERANCE``.
    """

    run: Run
    config: StudyConfig
    data: Dataset
    encoders: Mapping[str, FrozenEncoder]
    folds: Mapping[str, OuterFold]
    models: Mapping[str, FoldModel]
    tests: Mapping[str, Predictions]
    tolerances: Mapping[str, float] = field(default_factory=dict)

    def refuse_other_scores(self, fold: str, ids: Sequence[str], found: FloatArray) -> None:
        """Refuse probabilities of a fold's test rows that are not those in its predictions.csv.

        Args:
            fold: name of the outer fold.
            ids: n names of its test rows.
            found: (n, classes) calibrated probabilities computed again.

        Raises:
            DataError: two probabilities differ by more than is allowed.
        """
        rows = self.tests[fold]
        at = {name: i for i, name in enumerate(rows.ids.tolist())}
        kept = rows.probabilities[[at[name] for name in ids]]
        allowed = self.tolerances.get(fold, TOLERANCE)
        refuse_other_scores(ids, kept, found, self.models[fold].decision, allowed)


def open_finished_run(
    folder: RunFolder, device: str, *, cache: Path, say: Callable[[str], None]
) -> FinishedRun:
    """Open a finished run with its outer models on ``device``.

    Args:
        folder: directory of the run.
        device: device of encoders and heads.
        cache: folder that keeps converted encoders.
        say: called with a sentence where another backend than the run's computes an encoder.

    Raises:
        DataError: the run is not finished or not nested, its images have moved, or a model
            cannot be loaded.
    """
    require_kept_plugins(folder)
    config = StudyConfig.from_toml(folder.read_config())
    run = read_kept_run(folder)
    if is_biased(run.protocol):
        raise DataError(
            f"{folder.path}: is not nested and keeps no outer models, so no image can be "
            "explained by a model that did not train on it; run it with --protocol nested"
        )
    if not run.complete:
        raise DataError(f"{folder.path}: is not finished; give its command again, then explain")
    data = folder.read_dataset()
    refuse_moved(data)
    folds = {fold.name: fold for fold in folder.read_splits(data)}
    names = [result.name for result in run.outer]
    cards = _read_cards(folder, names, config.task)
    build = partial(Origin.build_encoder, cache=cache, blocks=config.trainable_blocks, say=say)
    encoders = _load_encoders(cards, device, build)
    divided = _divide_encoders(encoders, config)
    models = {
        name: fold_model(folder, data, folds[name], divided.get(encoders[name].name)).to(device)
        for name in names
    }
    tests = {result.name: result.test for result in run.outer if result.test is not None}
    allowed = {name: find_tolerance(Origin.of(cards[name]), encoders[name]) for name in names}
    return FinishedRun(run, config, data, encoders, folds, models, tests, allowed)


def _read_cards(folder: RunFolder, names: Sequence[str], task: str) -> dict[str, Any]:
    """Card of each outer model's encoder, by name of the outer fold.

    Raises:
        DataError: a file is missing, or this version augments images in another way.
    """
    kept = {name: read_preprocessing(folder, name) for name in names}
    for one in kept.values():
        check_views(one["augmentation"], task)
    return {name: one["encoder"] for name, one in kept.items()}


def find_tolerance(origin: Origin, encoder: Encoder) -> float:
    """Largest allowed difference of a probability that this encoder's values give.

    Where another backend or precision than the run's computes the values, it is the largest
    difference between the two that the run measured when it began, in standard deviations of the
    values: a probability moves by less than the values that it is computed from.
    """
    other = bool(origin.backend) and encoder.backend != origin.backend
    if not other and encoder.precision == origin.precision:
        return TOLERANCE
    return max(TOLERANCE, origin.difference or 0.0)


def _load_encoders(
    cards: Mapping[str, Mapping[str, Any]], device: str, build: Callable[..., Encoder]
) -> dict[str, FrozenEncoder]:
    """Encoder of each outer model, by name of the outer fold; a shared one is loaded once.

    Args:
        cards: card of each model's encoder, by name of the outer fold.
        device: device of the encoders.
        build: builds one of them for a device.

    Raises:
        DataError: an encoder is not a single network.
    """
    built: dict[str, FrozenEncoder] = {}
    for card in cards.values():
        if card["name"] in built:
            continue
        encoder = build(Origin.of(card), device=device).to(device)
        if not isinstance(encoder, FrozenEncoder):
            raise DataError(
                f"{card['name']}: is not one network, and explain supports no other encoder"
            )
        built[card["name"]] = encoder
    return {study: built[card["name"]] for study, card in cards.items()}


def _divide_encoders(
    encoders: Mapping[str, FrozenEncoder], config: StudyConfig
) -> dict[str, Divided]:
    """Encoders divided into frozen and trained blocks, by name; empty if no block is trained."""
    if not config.trainable_blocks:
        return {}
    own = {encoder.name: encoder for encoder in encoders.values()}
    return {name: divide(encoder, config.trainable_blocks) for name, encoder in own.items()}


def refuse_device(device: str) -> None:
    """Refuse a device that torch does not find.

    Raises:
        DataError: there is no such device.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(
            f"--device {device}: is not available ({str(error).splitlines()[0][:120]}); name cpu"
        ) from None


def refuse_moved(data: Dataset) -> None:
    """Refuse a run whose image files have moved.

    Raises:
        DataError: an image file is not at the path from which the run read it.
    """
    gone = [path for path in data.features.images.tolist() if not Path(path).is_file()]
    if gone:
        raise DataError(
            f"{data.name}: {len(gone)} of {len(data)} images are no longer where the run read "
            f"them, such as {gone[0]}; put them back"
        )


def refuse_other_scores(
    ids: Sequence[str],
    kept: FloatArray,
    found: FloatArray,
    decision: Decision,
    tolerance: float = TOLERANCE,
) -> None:
    """Refuse probabilities computed again that differ from those in predictions.csv.

    Probabilities that a temperature above 1 made less extreme are compared without it, because at
    a temperature of 20 those of any two images differ by a few thousandths only.

    Args:
        ids: n row names.
        kept: (n, classes) calibrated probabilities in predictions.csv.
        found: (n, classes) calibrated probabilities computed again.
        decision: calibration of the model.
        tolerance: largest allowed difference.

    Raises:
        DataError: two probabilities differ by more than is allowed.
    """
    softened = max(decision.temperature, 1.0)
    before = Decision(1 / softened, None, -decision.shift * softened)
    apart = np.abs(before.calibrate(kept) - before.calibrate(found)).max(axis=1)
    other = ~(apart <= tolerance)  # NaN counts as a difference too
    if other.any():
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        raise DataError(
            f"{ids[worst]}: its model gives {found[worst].max():.6f} now, predictions.csv holds "
            f"{kept[worst].max():.6f}; a difference above {tolerance:.1g} means another model or "
            f"image ({int(other.sum())} rows in all); restore the images, weights and versions "
            "that the run was made with"
        )
