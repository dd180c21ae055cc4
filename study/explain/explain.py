"""Explanation (`outerfold explain`) of the outer models on rows that they did not train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from outerfold.pipelines.augmentation.views import Views, scoring_views, view_of
from outerfold.pipelines.explain.saliency import check_method, heat_of, method_of
from outerfold.pipelines.images.activations import image_source
from outerfold.pipelines.images.decoded import read_square
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.reports.explain.cases import Case, choose_cases
from outerfold.reports.explain.page import Inside, Shown
from outerfold.reports.results.predictions import join_predictions
from outerfold.storage.images.read import content_hash
from outerfold.storage.records import LeakError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.tasks import TASKS
from outerfold.study.explain.finished_run import (
    FinishedRun,
    open_finished_run,
    refuse_device,
)
from outerfold.study.explain.permutation import PERMUTATIONS, permutation_importance
from outerfold.study.setup.represent import build_division

Say = Callable[[str], None]


def explain_run(folder: RunFolder, *, cases: int, device: str, cache: Path, say: Say) -> Inside:
    """Heat maps of chosen cases, and the importance of image and columns.

    Args:
        folder: directory of the run.
        cases: largest number of cases of each class and kind.
        device: device of encoder and heads.
        cache: folder of the embeddings.
        say: prints a sentence on the present step for the user.

    Raises:
        DataError: the run is not finished or not nested, its images have moved, a package is
            absent, or a new score differs from the one that the run kept.
    """
    refuse_device(device)
    finished = open_finished_run(folder, device, cache=cache, say=say)
    for name, model in finished.models.items():
        check_method(method_of(finished.encoders[name], tokens=model.tokens))
    thresholds = {name: model.decision.threshold for name, model in finished.models.items()}
    first = join_predictions(rows for rows in finished.tests.values() if not rows.repeat.any())
    assert first is not None
    chosen = choose_cases(first, thresholds, cases)
    say(f"heat maps of {len(chosen)} cases")
    shown = tuple(case_with_heat_map(finished, case) for case in chosen)
    weighed = None
    if finished.data.features.columns:
        say(f"contribution of image and columns, {PERMUTATIONS} permutations of each column")
        weighed = permutation_importance(
            finished, represent_by_fold(finished, cache=cache, device=device)
        )
    return Inside(
        finished.run,
        shown,
        weighed,
        next(iter(finished.models.values())).networks,
        several_repeats=finished.config.repeats > 1,
    )


def represent_by_fold(finished: FinishedRun, *, cache: Path, device: str) -> dict[str, ImageSource]:
    """Embeddings or activations of every image, in all views that score, by name of the outer fold.

    Models with the same encoder share one source.

    Args:
        finished: the run with its outer models.
        cache: folder of the embeddings.
        device: device of the encoders.
    """
    config, features = finished.config, finished.data.features
    frozen = not config.trainable_blocks  # trained blocks make the tokens themselves
    tokens = frozen and any(model.tokens for model in finished.models.values())
    views = Views(scoring_views(config.tta), TASKS.named(config.task).style)
    sources: dict[str, ImageSource] = {}
    for encoder in finished.encoders.values():
        if encoder.name not in sources:
            sources[encoder.name] = image_source(
                features,
                build_division(config, encoder),
                cache=cache,
                views=views,
                tokens=tokens,
                device=device,
            )
    return {name: sources[encoder.name] for name, encoder in finished.encoders.items()}


def case_with_heat_map(finished: FinishedRun, case: Case) -> Shown:
    """Case with its heat map, from the model of the outer fold that tested it.

    Raises:
        LeakError: the case is no test row of its fold.
        DataError: its score differs from the one that the run kept.
    """
    if case.id not in finished.folds[case.fold].test:
        raise LeakError(
            f"{case.id}: is not a test row of {case.fold}, whose model may have trained on it"
        )
    model = finished.models[case.fold]
    row = finished.data.features.select([case.id])
    encoder = finished.encoders[case.fold]
    path, style = str(row.images[0]), TASKS.named(finished.config.task).style
    square, content = read_square(path, encoder.image_size, encoder.framing), content_hash(path)
    views = [view_of(square, content, view, style) for view in scoring_views(model.tta)]
    columns = model.columns.transform(row.tabular)[:, 0]
    heat = heat_of(encoder, model, np.stack(views), columns, target=case.predicted)
    finished.refuse_other_scores(case.fold, [case.id], heat.probabilities[None])
    return Shown(case, square, heat.shares, heat.method, heat.peak)
