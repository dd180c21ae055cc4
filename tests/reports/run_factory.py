"""Small finished runs made from seeded numbers; nothing here trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from outerfold.reports.results.predictions import unique_rows
from outerfold.storage.records import (
    WITHOUT,
    Dataset,
    DefaultResult,
    EpochRow,
    Features,
    FloatArray,
    FoldResult,
    IntArray,
    Predictions,
    Run,
)

BINARY = ("other", "cancer")
FOUR = ("Normal", "Actionable", "Benign", "Cancer")
DEFAULT = {"learning_rate": 0.001, "dropout": 0.3, "sampler": "none"}
SHARES = {BINARY: (0.68, 0.32), FOUR: (0.42, 0.22, 0.2, 0.16)}


def make_run(
    classes: tuple[str, ...] = BINARY,
    *,
    patients: int = 110,
    folds: int = 5,
    repeats: int = 1,
    synthetic: bool = True,
    seed: int = 0,
) -> Run:
    """A complete run: 1-4 images a patient, five outer folds, four inner ones."""
    rng = np.random.default_rng(seed)
    cohort = _cohort(classes, patients, rng)
    outer = tuple(
        _study(cohort, f"outer-{r * folds + k}", r, _deal(cohort, folds, r) == k, rng)
        for r in range(repeats)
        for k in range(folds)
    )
    all_rows = _study(cohort, "final", 0, np.zeros(len(cohort), dtype=bool), rng)
    final = replace(all_rows, test=None, variation=None, default=DefaultResult(DEFAULT))
    labels = cohort.labels
    counts = {name: int((labels == c).sum()) for c, name in enumerate(classes)}
    return Run(
        name="example",
        task="multimodal" if len(classes) == 2 else "dbt",
        synthetic=synthetic,
        complete=True,
        dataset={
            "name": "demo phantoms" if synthetic else "clinic",
            "images": len(cohort),
            "patients": patients,
            "classes": counts,
            "fingerprint": "5f2c9e0b71d4a386",
            "assumptions": ["Column age read as a number in years."],
            "patients_known": True,
            "audit": ["2 images are darker than 99 % of the others."],
        },
        protocol={
            "outer_folds": folds,
            "inner_folds": 4,
            "repeats": repeats,
            "trials": 30,
            "seed": 7,
            "metric": "roc_auc",
            "encoder": "bundled:efficientnet_lite0",
            "trainable_blocks": 0,
            "networks": 5,
        },
        classes=classes,
        outer=outer,
        final=final,
        timing={"total_s": 512.4, "search_s": 470.1},
        provenance={
            "versions": {"python": "3.11.9", "numpy": "2.1.0"},
            "git": "0123abc",
            "command": "python run_study.py --task multimodal --trials 30",
            "devices": ["cpu"],
        },
    )


def without_defaults(run: Run) -> Run:
    """The same run as an earlier version of outerfold made it, which had no default trial."""
    final = None if run.final is None else replace(run.final, default=None)
    outer = tuple(replace(study, default=None) for study in run.outer)
    return replace(run, outer=outer, final=final)


def with_columns(run: Run, **asked: object) -> Run:
    """The same run with columns of its source and merged classes, and what a report is asked."""
    rows = unique_rows(run)
    assert rows is not None
    person = np.array([int(name[1:]) for name in rows.patients.tolist()])
    image = np.array([int(name.split("-")[1]) for name in rows.ids.tolist()])
    facts = {
        "age": np.array([str(40 + who % 40) for who in person]),
        "site": np.where(person % 11 == 0, "", np.where(person % 3 == 0, "north", "south")),
        "view": np.where(image % 2 == 0, "CC", "MLO"),
        "birads": np.where(
            person % 13 == 0, "", (2 + 2 * rows.labels + (image % 4 == 0)).astype(str)
        ),
    }
    names = np.array(["Normal", "Benign"])[person % 2]
    data = Dataset(
        Features(rows.ids, rows.ids, np.zeros((len(rows), 0))),
        rows.labels,
        rows.patients,
        rows.classes,
        "0",
        facts=facts,
        originals=np.where(rows.labels == 1, "Cancer", names),
    )
    return replace(run, data=data, protocol={**run.protocol, **asked})


def unfinished(run: Run, folds: int = 3) -> Run:
    """The same run stopped after ``folds`` outer folds, before the final study."""
    return replace(run, complete=False, outer=run.outer[:folds], final=None)


def _cohort(classes: tuple[str, ...], patients: int, rng: np.random.Generator) -> Predictions:
    """All rows once, with the probabilities of a nameless model; ``fold`` is not yet dealt."""
    patient_label = rng.choice(len(classes), size=patients, p=SHARES[classes])
    patient_label[: 6 * len(classes)] = np.tile(np.arange(len(classes)), 6)
    who = np.repeat(np.arange(patients), rng.integers(1, 5, size=patients))
    own = rng.normal(size=(patients, len(classes)))
    return Predictions(
        ids=np.array([f"img-{i:04d}" for i in range(len(who))]),
        patients=np.array([f"P{p:03d}" for p in who]),
        fold=np.full(len(who), "none"),
        repeat=np.zeros(len(who), dtype=np.int64),
        labels=patient_label[who].astype(np.int64),
        probabilities=own[who],
        predicted=np.zeros(len(who), dtype=np.int64),
        classes=classes,
    )


def _deal(cohort: Predictions, folds: int, salt: int) -> IntArray:
    """Fold of each row: patients dealt round, class by class."""
    names, first = np.unique(cohort.patients, return_index=True)
    order = np.lexsort((np.random.default_rng(salt).random(len(names)), cohort.labels[first]))
    of_patient = np.empty(len(names), dtype=np.int64)
    of_patient[order] = np.arange(len(names)) % folds
    return of_patient[np.searchsorted(names, cohort.patients)]


def _scores(
    cohort: Predictions, at: IntArray, skill: float, rng: np.random.Generator
) -> FloatArray:
    truth = np.eye(len(cohort.classes))[cohort.labels[at]]
    noise = rng.normal(size=truth.shape)
    logits = skill * truth + 0.7 * cohort.probabilities[at] + 0.6 * noise
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _predict(
    cohort: Predictions, at: IntArray, fold: np.ndarray, repeat: int, scores: FloatArray
) -> Predictions:
    return Predictions(
        cohort.ids[at],
        cohort.patients[at],
        fold,
        np.full(len(at), repeat, dtype=np.int64),
        cohort.labels[at],
        scores,
        scores.argmax(axis=1).astype(np.int64),
        cohort.classes,
    )


def _study(
    cohort: Predictions, name: str, repeat: int, is_test: np.ndarray, rng: np.random.Generator
) -> FoldResult:
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    inner = np.array([f"inner-{k}" for k in _deal(cohort, 4, 100 + repeat)[train]])
    epochs = int(rng.integers(6, 18))
    counts = np.bincount(cohort.labels[train], minlength=len(cohort.classes))
    sampler = str(rng.choice(["none", "smote", "weighted"]))
    resampled = counts if sampler == "none" else np.full(len(counts), counts.max())
    validation = _predict(cohort, train, inner, repeat, _scores(cohort, train, 1.25, rng))
    scored = _predict(
        cohort, test, np.full(len(test), name), repeat, _scores(cohort, test, 1.0, rng)
    )
    return FoldResult(
        name=name,
        repeat=repeat,
        train_images=len(train),
        test_images=len(test),
        train_patients=len(set(cohort.patients[train].tolist())),
        test_patients=len(set(cohort.patients[test].tolist())),
        params={
            "learning_rate": float(10 ** rng.uniform(-4, -2)),
            "dropout": float(rng.uniform(0.1, 0.5)),
            "focal_gamma": float(rng.uniform(0, 3)),
            "sampler": sampler,
            "attention": bool(rng.integers(2)),
            "batch_size": 64,
        },
        epochs=epochs,
        inner_score=float(0.9 + 0.02 * rng.random()),
        temperature=float(rng.uniform(0.8, 1.6)),
        shift=-0.25 if len(cohort.classes) == 2 else 0.0,
        threshold=0.5 if len(cohort.classes) == 2 else None,
        resampled=tuple(resampled.tolist()),
        history=_history(epochs + 8, rng),
        validation=validation,
        test=scored,
        trials={"complete": 11, "pruned": 19, "failed": 0},
        notes=("SMOTE fell back to random over-sampling: 3 rows of a class.",) * (repeat == 9),
        default=_default(cohort, name, repeat, test),
        variation=_variation(cohort, name, repeat, test, 0.95),
    )


def _default(cohort: Predictions, name: str, repeat: int, test: IntArray) -> DefaultResult:
    """A default configuration that knows less than the chosen one."""
    own = np.random.default_rng([repeat, *name.encode()])
    scored = _predict(
        cohort, test, np.full(len(test), name), repeat, _scores(cohort, test, 0.6, own)
    )
    inner = _variation(cohort, name, repeat, test, 0.55)
    return DefaultResult(DEFAULT, epochs=9, test=scored, variation=inner)


def _variation(
    cohort: Predictions, name: str, repeat: int, test: IntArray, skill: float
) -> Predictions:
    """Four inner folds' models, which know a little less than the model of the outer fold."""
    rng = np.random.default_rng([repeat, round(100 * skill), *name.encode()])
    each = np.array([_scores(cohort, test, skill + rng.normal(0, 0.2), rng) for _ in range(4)])
    others = (each.sum(axis=0) - each) / 3
    names = [f"{kind}inner-{k}" for kind in ("", WITHOUT) for k in range(4)]
    scores = np.concatenate([*each, *others])
    return _predict(cohort, np.tile(test, 8), np.repeat(names, len(test)), repeat, scores)


def without_variation(run: Run) -> Run:
    """The same run as an earlier version made it, whose inner folds' models scored no test row."""
    outer = tuple(
        replace(
            study,
            variation=None,
            default=None if study.default is None else replace(study.default, variation=None),
        )
        for study in run.outer
    )
    return replace(run, outer=outer)


def _history(epochs: int, rng: np.random.Generator) -> tuple[EpochRow, ...]:
    rise = 1 - np.exp(-np.arange(1, epochs + 1) / 5)
    wobble = rng.normal(scale=0.008, size=(epochs, 5))
    late = 0.006 * np.maximum(0, np.arange(epochs) - epochs * 0.6)
    return tuple(
        EpochRow(
            e + 1,
            float(0.7 - 0.42 * rise[e] + wobble[e, 0]),
            float(0.69 - 0.25 * rise[e] + late[e] + wobble[e, 1]),
            float(0.6 + 0.18 * rise[e] + wobble[e, 2]),
            float(0.5 + 0.24 * rise[e] + wobble[e, 3]),
            float(0.55 + 0.3 * rise[e] + wobble[e, 4]),
        )
        for e in range(epochs)
    )
