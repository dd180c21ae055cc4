"""`outerfold explain`: the finished outer models, asked about rows they did not train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipelines.decision import Decision
from pipelines.embeddings import embed
from pipelines.encoders.frozen import FrozenEncoder
from pipelines.explained import FoldModel
from pipelines.rows import ImageSource
from pipelines.saliency import heat_of, method_of, require
from pipelines.squares import read_square
from reports.cases import Case, choose
from reports.contribution import COLUMNS, IMAGE, Altered, contribution
from reports.evidence import Json, joined
from reports.inside import Inside, Shown
from reports.words import biased
from storage.files import read_json
from storage.framing import Framing
from storage.records import (
    DataError,
    Dataset,
    FloatArray,
    LeakError,
    OuterFold,
    Predictions,
    Run,
)
from storage.run_folder import RunFolder
from storage.run_results import read_run
from storage.seeds import derive
from study.config import StudyConfig
from study.rebuild import fold_model
from study.ship import ENCODER_FILE, same_encoder

TOLERANCE = 1e-4
"""Largest difference between a score computed again and the one that was kept."""
PERMUTATIONS = 20
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Opened:
    """A finished run with the models of its outer folds.

    Attributes:
        models, folds, tests: by name of the outer fold; ``tests`` are its test predictions.
    """

    run: Run
    config: StudyConfig
    data: Dataset
    encoder: FrozenEncoder
    folds: Mapping[str, OuterFold]
    models: Mapping[str, FoldModel]
    tests: Mapping[str, Predictions]


def look_inside(folder: RunFolder, *, cases: int, device: str, cache: Path, say: Say) -> Inside:
    """Heat maps of chosen cases, and what image and columns are worth.

    Args:
        cases: a class and kind, at most.
        device: where encoder and heads run.
        cache: where embeddings are kept.
        say: told what is being done.

    Raises:
        DataError: the run is not finished or not nested, its images have moved, a package is
            absent, or a score is not what the run kept.
    """
    refuse_device(device)
    opened = open_run(folder, device)
    for model in opened.models.values():
        require(method_of(opened.encoder, tokens=model.tokens))
    thresholds = {name: model.decision.threshold for name, model in opened.models.items()}
    first = joined(rows for rows in opened.tests.values() if not rows.repeat.any())
    assert first is not None
    chosen = choose(first, thresholds, cases)
    say(f"heat maps of {len(chosen)} cases")
    shown = tuple(show(opened, case) for case in chosen)
    weighed = None
    if opened.data.features.columns:
        say(f"contribution of image and columns, {PERMUTATIONS} permutations a column")
        tokens = any(model.tokens for model in opened.models.values())
        source = embed(
            opened.data.features, opened.encoder, cache=cache, tokens=tokens, device=device
        )  # fmt: skip
        weighed = weigh(opened, source)
    network = next(iter(opened.models.values())).network
    return Inside(
        opened.run, shown, weighed, len(next(network.parameters())),
        several_repeats=opened.config.repeats > 1,
    )  # fmt: skip


def open_run(folder: RunFolder, device: str) -> Opened:
    """Everything of a finished run that can be asked; see ``look_inside`` for what is refused."""
    folder.read_config()
    run = read_run(folder)
    if biased(run.protocol):
        raise DataError(
            f"{folder.path}: is not nested and keeps no outer models, so no image can be "
            "explained by a model that did not train on it; run it with --protocol nested"
        )
    if not run.complete:
        raise DataError(f"{folder.path}: is not finished; give its command again, then explain")
    config, data = StudyConfig.from_toml(folder.read_config()), folder.read_dataset()
    refuse_moved(data)
    card = read_json(folder.path / ENCODER_FILE)
    framing = Framing(card["fit"], card["crop"])
    encoder = same_encoder(card["name"], card["weights"], card["weights_sha256"], framing)
    encoder = encoder.to(device)
    if not isinstance(encoder, FrozenEncoder):
        raise DataError(f"{card['name']}: explain knows frozen encoders alone")
    folds = {fold.name: fold for fold in folder.read_splits(data)}
    models = {
        result.name: fold_model(folder, config, data, folds[result.name], result).to(device)
        for result in run.outer
    }
    tests = {result.name: result.test for result in run.outer if result.test is not None}
    return Opened(run, config, data, encoder, folds, models, tests)


def refuse_device(device: str) -> None:
    """``DataError`` where torch has no such device here."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(
            f"--device {device}: not to be had here ({str(error).splitlines()[0][:120]}); name cpu"
        ) from None


def refuse_moved(data: Dataset) -> None:
    """``DataError`` where image files of the run are not where they were."""
    gone = [path for path in data.features.images.tolist() if not Path(path).is_file()]
    if gone:
        raise DataError(
            f"{data.name}: {len(gone)} of {len(data)} images are no longer where the run read "
            f"them, such as {gone[0]}; put them back"
        )


def show(opened: Opened, case: Case) -> Shown:
    """A case with its heat map, by the model of the fold that tested it."""
    if case.id not in opened.folds[case.fold].test:
        raise LeakError(
            f"{case.id}: is not a test row of {case.fold}, whose model may have trained on it"
        )
    model = opened.models[case.fold]
    row = opened.data.features.select([case.id])
    encoder = opened.encoder
    square = read_square(str(row.images[0]), encoder.image_size, encoder.framing)
    columns = model.columns.transform(row.tabular)[0]
    heat = heat_of(encoder, model, square, columns, target=case.predicted)
    refuse_other_scores(
        [case.id], np.array([case.probabilities]), heat.probabilities[None], model.decision
    )
    return Shown(case, square, heat.shares, heat.method, heat.peak)


def refuse_other_scores(
    ids: Sequence[str], kept: FloatArray, found: FloatArray, decision: Decision
) -> None:
    """``DataError`` where scores computed again are not those of predictions.csv.

    Probabilities that a temperature softened are compared as they were before it: at 20, those
    of any two images are within a few thousandths.
    """
    before = Decision(1 / max(decision.temperature, 1.0), None)
    apart = np.abs(before.calibrate(kept) - before.calibrate(found)).max(axis=1)
    other = ~(apart <= TOLERANCE)  # NaN is another score too
    if other.any():
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        raise DataError(
            f"{ids[worst]}: its model gives {found[worst].max():.6f} now, predictions.csv holds "
            f"{kept[worst].max():.6f}, and more than {TOLERANCE} apart is another model or image "
            f"({int(other.sum())} rows in all); restore the images, weights and versions that the "
            "run was made with"
        )


def weigh(opened: Opened, source: ImageSource) -> Json:
    """What image, columns and each column are worth on the outer test rows of all folds.

    Args:
        source: of every row's embedding.
    """
    names = [column.name for column in opened.data.features.columns]
    scored: dict[str, list[list[Predictions]]] = {key: [] for key in ("", IMAGE, COLUMNS, *names)}
    for name, rows in opened.tests.items():
        model, ids = opened.models[name], rows.ids.tolist()
        images = source.tokens(ids) if model.tokens else source.pooled(ids)
        table = opened.data.features.select(ids).tabular
        probabilities = alterations(model, images, table, names, opened.config.seed, name)
        refuse_other_scores(ids, rows.probabilities, probabilities[""][0], model.decision)
        for key, found in probabilities.items():
            scored[key].append([_rescored(rows, one, model) for one in found])
    whole, *altered = (
        (key, [_joined(parts) for parts in zip(*found, strict=True)])
        for key, found in scored.items()
    )
    return contribution(
        whole[1][0],
        [
            Altered(key, "mean" if key in (IMAGE, COLUMNS) else "permuted", tuple(rows))
            for key, rows in altered
        ],
    )


def alterations(
    model: FoldModel, images: np.ndarray, table: FloatArray, names: Sequence[str],
    seed: int, fold: str,
) -> dict[str, list[FloatArray]]:  # fmt: skip
    """Probabilities (n, classes) of one fold's test rows, as they are and with parts taken away.

    Args:
        images: (n, ...) as the model reads them.
        table: (n, k) columns, NaN where missing.
        names: (k,) of the columns.

    Returns:
        Lists by what is taken away: nothing (``""``), the image, all columns, each column; one
        entry, or ``PERMUTATIONS`` of a column.
    """
    columns = model.columns.transform(table)
    mean_image = np.broadcast_to(model.image_mean, images.shape)
    mean_columns = np.broadcast_to(model.columns_mean, columns.shape)
    found = {
        "": [model.probabilities(images, columns)],
        IMAGE: [model.probabilities(mean_image, columns)],
        COLUMNS: [model.probabilities(images, mean_columns)],
    }
    for at, name in enumerate(names):
        found[name] = []
        for turn in range(PERMUTATIONS):
            chance = np.random.default_rng(derive(seed, fold, "permute", name, turn))
            mixed = table.copy()
            mixed[:, at] = chance.permutation(table[:, at])
            found[name].append(model.probabilities(images, model.columns.transform(mixed)))
    return found


def _rescored(rows: Predictions, probabilities: FloatArray, model: FoldModel) -> Predictions:
    return replace(
        rows, probabilities=probabilities, predicted=model.decision.decide(probabilities)
    )


def _joined(parts: Sequence[Predictions]) -> Predictions:
    rows = joined(parts)
    assert rows is not None
    return rows
