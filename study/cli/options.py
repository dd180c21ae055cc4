"""Options of the command line: those of ``run`` by group, and those that several verbs share."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from outerfold.objectives.metrics import METRICS
from outerfold.storage.images.framing import CROPS, FITS
from outerfold.study.config.presets import PRESETS
from outerfold.study.config.record import (
    AGGREGATES,
    ALL,
    AUTO,
    ENCODER_BACKENDS,
    ENGINES,
    FINALS,
    LEVELS,
    PROTOCOLS,
    PRUNER_NAMES,
    RULES,
    TASKS,
)

Group = argparse._ActionsContainer


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add every option of ``run``, in the groups of its help."""
    parser.add_argument("--task", choices=TASKS, help="dbt (images, 4 classes) or multimodal")
    add_data_options(parser, required=False)
    protocol = parser.add_argument_group("protocol")
    _add_search(protocol)
    _add_folds(protocol)
    _add_decision(protocol)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="published: the published recipe of the multimodal task (--encoder "
        "timm:efficientnet_b0, --trainable-blocks 2, --epochs 100), each where it is not given "
        "(none)",
    )
    _add_encoder(model)
    _add_training(model)
    _add_execution(parser.add_argument_group("execution (changes no result)"))


def _add_search(group: Group) -> None:
    """Protocol, ablation, and limits of a search."""
    group.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="nested; or non-nested as in common practice, in a report marked as biased (nested)",
    )
    group.add_argument(
        "--ablate",
        type=_parse_names,
        metavar="A,B",
        help="one run for each level of each factor (attention, sampler, ...), and their paired "
        "differences",
    )
    _add_limits(group)


def _add_limits(group: Group) -> None:
    """What ends a search, and how many trials run at once."""
    _add_number(group, "--trials", "trials of each study (100)")
    _add_number(
        group,
        "--patience",
        "end a search after N trials in a row, complete or pruned, without a better inner "
        "score; the number of workers makes no difference (0: never)",
    )
    _add_number(
        group,
        "--in-flight",
        "trials of a study at once, for more workers than studies; it changes the search, but "
        "the number of workers does not (1)",
    )
    group.add_argument(
        "--max-time",
        metavar="TIME",
        help="end the search so that refits and report are finished within this time (2h, 30m, "
        "90s, 1h30m); the number of trials, and so the results, then depend on the machine",
    )


def _add_folds(group: Group) -> None:
    """Folds, metric, seed and pruner."""
    _add_number(group, "--outer-folds", "number of outer folds (5)")
    _add_number(group, "--inner-folds", "number of inner folds (4)")
    _add_number(group, "--repeats", "repeats of the outer folds (1)")
    group.add_argument("--metric", choices=tuple(METRICS), help="metric of the search (roc_auc)")
    _add_number(group, "--seed", "seed of the whole run (0)")
    group.add_argument(
        "--pruner",
        choices=PRUNER_NAMES,
        help="rule that prunes trials (halving; with trainable blocks paired)",
    )


def _add_decision(group: Group) -> None:
    """Threshold, and the level of the report."""
    group.add_argument(
        "--threshold", choices=RULES, help="two classes: rule of the threshold (prevalence)"
    )
    group.add_argument(
        "--threshold-target",
        type=float,
        metavar="X",
        help="sensitivity or specificity that the threshold must reach (0.9)",
    )
    add_level_options(group, ("image", "mean"))


def _add_encoder(group: Group) -> None:
    """Encoder, and how it reads images."""
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help="clip:NAME, timm:NAME or bundled:...; A,B searches over both; list prints a table",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights file of the encoder; NAME=FILE,... for several encoders",
    )
    group.add_argument(
        "--encoder-backend",
        choices=ENCODER_BACKENDS,
        help="library that computes the frozen encoder; auto is OpenVINO where it gives the same "
        "values on this CPU, else torch (auto)",
    )
    group.add_argument(
        "--fit",
        choices=FITS,
        help="way to make an image square: pad it, or stretch it (pad)",
    )
    group.add_argument(
        "--crop", choices=CROPS, help="breast cuts away a mammogram's empty background (none)"
    )
    _add_blocks(group)


def _add_blocks(group: Group) -> None:
    """Blocks of the encoder that are trained."""
    group.add_argument(
        "--trainable-blocks",
        type=partial(_parse_number, word=ALL),
        metavar="N",
        help="last blocks of the encoder that are trained, or all (0)",
    )
    group.add_argument(
        "--checkpointing",
        action="store_true",
        default=None,
        help="with trainable blocks: compute activations twice instead of keeping them",
    )


def _add_training(group: Group) -> None:
    """Networks, the shipped model, and the length of a training."""
    _add_number(
        group,
        "--networks",
        "networks of the chosen configuration for each inner fold, or with --final refit or "
        "ensemble for the refit, which differ in their seeds (1; for a refit without trainable "
        "blocks 5)",
    )
    group.add_argument(
        "--final",
        choices=FINALS,
        help="how models are made: folds is the mean of the inner folds' networks, refit trains "
        "on all rows of a study, ensemble refits too and ships the mean of the outer models, which "
        "needs no further search (folds)",
    )
    _add_number(
        group,
        "--tta",
        "augmented views whose probabilities are averaged with those of the image (0)",
    )
    _add_epochs(group)


def _add_epochs(group: Group) -> None:
    """Length of a training, its batches, and the configuration file."""
    _add_number(group, "--epochs", "most epochs (dbt 30, multimodal 100)")
    _add_number(
        group, "--patience-epochs", "end a training after N epochs without a new best score (20)"
    )
    group.add_argument(
        "--batch-size",
        type=partial(_parse_number, word=AUTO),
        metavar="N",
        help="fixed batch size in place of the search; auto: with trainable blocks, the largest "
        "that fits in memory",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with options; options of the command line replace them",
    )


def _add_execution(group: Group) -> None:
    """Where and how a run is carried out."""
    group.add_argument("--run", type=Path, metavar="DIR", help="run directory (runs/...)")
    _add_number(
        group,
        "--workers",
        "worker processes (one for each GPU, else for each core); with dask, at most N (all)",
    )
    _add_number(
        group,
        "--workers-per-gpu",
        "worker processes on each GPU; small heads use little of a GPU (1)",
    )
    group.add_argument(
        "--engine", choices=ENGINES, help="local processes, or a Dask cluster (local)"
    )
    group.add_argument(
        "--engine-address", metavar="URL", help="address of a Dask scheduler, tcp://HOST:PORT"
    )
    group.add_argument("--storage", metavar="URL", help="database for trials (a journal file)")
    group.add_argument("--quiet", action="store_true", default=None, help="no live progress")


def add_data_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that say which rows and columns are read."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="PATH",
        required=required,
        help="folder of class folders, Mini-DDSM folder or CSV manifest (the task's public set "
        "if it is available, else a synthetic demo with a banner)",
    )
    data.add_argument("--classes", type=_parse_names, metavar="A,B", help="keep these classes only")
    data.add_argument(
        "--positive",
        metavar="NAME",
        help="multimodal: the positive class (cancer or malignant)",
    )
    data.add_argument(
        "--columns",
        type=_parse_names,
        metavar="A,B",
        help="multimodal: clinical columns (age, density and family_history, where present)",
    )
    data.add_argument(
        "--patient-regex",
        metavar="REGEX",
        help="pattern for file paths; its one group is the patient",
    )


def add_level_options(group: argparse._ActionsContainer, defaults: tuple[str, str]) -> None:
    """Add --level and --aggregate; ``defaults`` are their defaults in the help text."""
    group.add_argument(
        "--level", choices=LEVELS, help=f"level of the report's main results ({defaults[0]})"
    )
    group.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        help=f"way to make one probability of a patient's images ({defaults[1]})",
    )


def _add_number(group: Group, name: str, about: str) -> None:
    group.add_argument(name, type=int, metavar="N", help=about)


def _parse_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("needs at least one name; separate names by commas")
    return names


def _parse_number(text: str, *, word: str) -> int | str:
    if text == word:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"needs a whole number or {word}, found {text!r}"
        ) from None
