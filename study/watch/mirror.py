"""Copy in memory of a run's trials for the dashboard, with notes and pictures."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from wsgiref.simple_server import WSGIServer

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX, ArtifactMeta
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial
from optuna_dashboard import save_note

from outerfold.objectives.choice import best_candidate
from outerfold.objectives.metrics import METRICS
from outerfold.storage.records import FINAL, DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import is_finished, read_result
from outerfold.study.config.record import StudyConfig
from outerfold.study.watch.dashboard import open_dashboard
from outerfold.study.watch.pictures import draw_confusion, draw_curve
from outerfold.study.watch.status import RunState, StudyState, describe, read_run

UPDATE_SECONDS = 5.0
"""Seconds between two looks at the run; each reads its journal anew."""
CURVE, CONFUSION = "best trial, learning curve.png", "inner rows, confusion matrix.png"


class Mirror:
    """Studies of a run as the dashboard shows them.

    Each study has a note on its fold, plan, best score and time left, and pictures: the learning
    curve of its best trial, the confusion matrix of its inner rows once it is finished, and the
    figures of the report with the last study. Fold scores are attributes of their own, by which a
    table can be sorted. All of this is made from the run's files and written nowhere in it.

    Args:
        folder: directory of the run.
        url: URL of the database that holds the trials; None for the run's journal.
        pictures: empty folder for pictures.
        clock: returns seconds since a fixed moment.
    """

    def __init__(
        self,
        folder: RunFolder,
        url: str | None,
        pictures: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.url, self._clock = folder, url, clock
        self.storage = InMemoryStorage()
        self.artifacts = FileSystemArtifactStore(str(pictures))
        self._config = StudyConfig.from_toml(folder.read_config())
        self._studies: dict[str, optuna.Study] = {}
        self._shown: dict[tuple[str, str], str] = {}  # what a note or picture was made from
        self._next = 0.0
        self.update()

    def update(self) -> None:
        """Bring the copy up to date, unless that was done just before.

        A run that cannot be read later on, such as one that is being mended, is shown as it was.

        Raises:
            DataError: the run cannot be read at the first look.
        """
        if self._clock() < self._next:
            return
        try:
            state, trials = read_run(self.folder, self.url)
        except DataError:
            if not self._studies:
                raise
            return
        for study in state.studies:
            own = self._study(study.name)
            for trial in trials[study.name][len(own.get_trials(deepcopy=False)) :]:
                own.add_trial(with_sortable_scores(trial))
            note = note_of(study, state, self._config)
            if self._is_new(study.name, "note", note):
                save_note(own, note)
            self._draw(study.name, own)
        if state.finished:
            self._show_report(state.studies[-1].name)
        self._next = self._clock() + UPDATE_SECONDS

    def _study(self, name: str) -> optuna.Study:
        if name not in self._studies:
            metric = METRICS[self._config.metric]
            study = optuna.create_study(
                study_name=name, storage=self.storage, direction=metric.direction
            )
            study.set_metric_names([f"inner {metric.name}"])
            self._studies[name] = study
        return self._studies[name]

    def _draw(self, name: str, own: optuna.Study) -> None:
        best = best_candidate(own)
        if best is not None and self._is_new(name, CURVE, str(best.number)):
            trial = own.get_trials(deepcopy=False)[best.number]
            self._put(name, CURVE, draw_curve(trial, self._config.metric))
        if is_finished(self.folder, name) and self._is_new(name, CONFUSION, ""):
            classes = self.folder.read_dataset().classes
            rows = read_result(self.folder, name, classes).validation
            self._put(name, CONFUSION, draw_confusion(rows))

    def _show_report(self, study: str) -> None:
        """Show the figures of the report, where they were written, beside the last study."""
        for path in sorted(self.folder.report.glob("*.[jp][pn]g")):
            if self._is_new(study, path.name, str(path.stat().st_mtime_ns)):
                self._put(study, path.name, path.read_bytes())

    def _is_new(self, study: str, what: str, made_from: str) -> bool:
        if self._shown.get((study, what)) == made_from:
            return False
        self._shown[study, what] = made_from
        return True

    def _put(self, study: str, name: str, contents: bytes) -> None:
        """Keep a picture of a study; a later one of the same name takes its place."""
        own = hashlib.sha256(f"{study}/{name}".encode()).hexdigest()[:32]
        kind = "image/png" if name.endswith(".png") else "image/jpeg"
        self.artifacts.write(own, BytesIO(contents))
        self.storage.set_study_system_attr(
            self._study(study)._study_id,
            ARTIFACTS_ATTR_PREFIX + own,
            json.dumps(asdict(ArtifactMeta(own, name, kind, None))),
        )


def with_sortable_scores(trial: FrozenTrial) -> FrozenTrial:
    """Copy of a trial with each fold's score as an attribute of its own."""
    found = copy.copy(trial)
    scores = {
        f"score of fold {number}": score
        for number, score in enumerate(trial.user_attrs.get("fold_scores", ()))
    }
    found.user_attrs = {**trial.user_attrs, **scores}
    return found


def note_of(study: StudyState, state: RunState, config: StudyConfig) -> str:
    """Note of a study in Markdown: its rows, its plan and how far it is.

    Args:
        study: state of the study.
        state: state of its run.
        config: options of the run.
    """
    if study.name == FINAL:
        what = "All rows: its search makes the model that is shipped, and no row scores it."
    else:
        what = (
            "It searches on the training rows of one outer fold; the test rows of the fold are "
            "scored once, at its end."
        )
    best = "none yet" if study.best is None else f"{study.best:.4f}"
    lines = (
        f"## {study.name}",
        what,
        f"**Plan**: {study.planned} trials of at most {config.epochs} epochs, pruner "
        f"{config.pruner}, encoder {config.encoder}, trainable blocks {config.trainable_blocks}.",
        f"**So far**: {study.complete} complete, {study.pruned} pruned, {study.failed} failed, "
        f"{study.left} left{', finished' if study.finished else ''}. Best inner {config.metric}: "
        f"{best}. It guides the search and is no measure of performance.",
        f"**The run**: {describe(state, datetime.now())}.",
    )
    return "\n\n".join(lines)


def open_mirror(folder: RunFolder, url: str | None, port: int, stack: ExitStack) -> WSGIServer:
    """Server of a dashboard that shows a run and can change nothing of it.

    Args:
        folder: directory of the run.
        url: URL of the database that holds the trials; None for the run's journal.
        port: port on this machine; 0 takes a free one.
        stack: removes the pictures at its end.
    """
    pictures = Path(stack.enter_context(TemporaryDirectory(prefix="outerfold-")))
    mirror = Mirror(folder, url, pictures)
    return open_dashboard(
        mirror.storage,
        port,
        allow_changes=False,
        artifacts=mirror.artifacts,
        update=mirror.update,
    )
