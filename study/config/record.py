"""Options that determine the results of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from outerfold.objectives.metrics import METRICS
from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.images.framing import CROPS, FITS
from outerfold.storage.tasks import TASKS
from outerfold.study.config.encoders import encoder_names, weights_by_encoder
from outerfold.study.config.option import (
    DATA,
    MODEL,
    PROTOCOL,
    check_types,
    check_values,
    option,
    options_of,
)

DEMO = "demo"
"""Value of --data for the demo, whose images are made here and need no download."""
DEMO_ENCODER = "bundled:efficientnet_lite0"
PRUNER_NAMES = ("halving", "hyperband", "median", "none", "paired")
NESTED, NON_NESTED = PROTOCOLS = ("nested", "non-nested")
RULES = ("prevalence", "youden", "sensitivity", "specificity")
TARGETED = ("sensitivity", "specificity")
"""Rules of the threshold that reach ``--threshold-target``."""
LEVELS = ("image", "breast", "patient")
AGGREGATES = ("mean", "max", "noisy-or")
FOLDS, REFIT, ENSEMBLE = FINALS = ("folds", "refit", "ensemble")
THOUSAND, MANY = 1_000, 1_000_000
"""Upper bounds of options; a larger number is a mistake."""
ALL, AUTO = "all", "auto"
"""Words that --trainable-blocks and --batch-size accept besides numbers, in this order."""
ENCODER_BACKENDS = (AUTO, "openvino", "torch")
ENCODER_PRECISIONS = (AUTO, "float32", "bfloat16", "float16")
TRAIN_ON = (AUTO, "cpu", "cuda")
TAIL_PRUNER = "paired"
"""Default pruner where blocks are trained."""
REFIT_NETWORKS = 5
"""Default number of networks of a refit on a frozen encoder. Networks of the inner folds differ in
their training rows already, and trained blocks take too long, so there it is 1."""

FIRST_OPTIONS = (
    "task",
    "data",
    "classes",
    "positive",
    "columns",
    "patient_regex",
    "protocol",
    "trials",
    "patience",
    "in_flight",
    "outer_folds",
    "inner_folds",
    "repeats",
    "metric",
    "seed",
    "encoder",
    "weights",
    "fit",
    "crop",
    "trainable_blocks",
    "checkpointing",
    "networks",
    "epochs",
    "patience_epochs",
    "batch_size",
    "pruner",
    "threshold",
    "threshold_target",
    "level",
    "aggregate",
    "final",
    "tta",
    "space",
)
"""Options that have always determined the default folder's name, in the order used there."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Options that determine the results of a run, together with the data.

    The run directory keeps them, and the run cannot be resumed with others. Fields are the
    command line's options with underscores; ``space`` holds the overridden ranges by name, and
    ``ablated`` the factor that an ablation holds at another value than the default configuration.
    An empty ``encoder_backend``, ``encoder_precision`` or ``train_on`` is that of runs that began
    before the option had a name. ``plugin`` holds the identities of plugins, not their places; see
    ``study/plugins.py``.

    Raises:
        DataError: an option has a value that is not allowed, or has no effect beside the others.
    """

    task: str = field(
        metadata=option(
            about="dbt (images, 4 classes) or multimodal",
            usual="none",
            said=False,
            note="must be given, here or in `--config`",
            choices=lambda: TASKS,
            stated=False,
        )
    )
    data: str = field(
        default=DEMO,
        metadata=option(
            about="folder of class folders, Mini-DDSM folder, or CSV or XLSX manifest",
            group=DATA,
            usual="the task's public set if it is available, else a synthetic demo with a banner",
            note="see [data.md](data.md); `demo` names the demo",
            metavar="PATH",
            stated=False,
        ),
    )
    classes: tuple[str, ...] = field(
        default=(),
        metadata=option(
            about="keep these classes only", group=DATA, usual="all", said=False, stated=False
        ),
    )
    positive: str = field(
        default="",
        metadata=option(
            about="the positive class of two; multimodal: the class, or A,B, against all others",
            group=DATA,
            usual="as the names show",
            metavar="NAME",
            stated=False,
        ),
    )
    columns: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            about="multimodal: clinical columns",
            group=DATA,
            usual="age, density and family_history, where present",
            stated=False,
        ),
    )
    patient_regex: str = field(
        default="",
        metadata=option(
            about="pattern for file paths; its one group is the patient",
            group=DATA,
            usual="none",
            said=False,
            metavar="REGEX",
            stated=False,
        ),
    )
    patient_column: str = field(
        default="",
        metadata=option(
            about="column of a sheet that names the patients",
            group=DATA,
            usual="found by its name",
            metavar="NAME",
            stated=False,
        ),
    )
    label_column: str = field(
        default="",
        metadata=option(
            about="column of a sheet that holds the labels",
            group=DATA,
            usual="found by its name",
            metavar="NAME",
            stated=False,
        ),
    )
    file_column: str = field(
        default="",
        metadata=option(
            about="column of a sheet that names the image files",
            group=DATA,
            usual="found by its name",
            metavar="NAME",
            stated=False,
        ),
    )
    side_column: str = field(
        default="",
        metadata=option(
            about="column of a sheet that holds the side, left or right",
            group=DATA,
            usual="found by its name",
            metavar="NAME",
            stated=False,
        ),
    )
    distinct_patients: bool = field(
        default=False,
        metadata=option(
            about="patients whose names differ in spelling only are different",
            group=DATA,
            usual="off",
            said=False,
            stated=False,
        ),
    )
    patients_unknown: bool = field(
        default=False,
        metadata=option(
            about="go on where nothing names the patients; the report is marked",
            group=DATA,
            usual="off",
            said=False,
            stated=False,
        ),
    )
    set_aside: bool = field(
        default=False,
        metadata=option(
            about="leave out every row that has no label, no patient or no readable image",
            group=DATA,
            usual="off",
            said=False,
            stated=False,
        ),
    )
    strict: bool = field(
        default=False,
        metadata=option(
            about="refuse every row that has no label, no patient or no readable image",
            group=DATA,
            usual="off",
            said=False,
            stated=False,
        ),
    )
    protocol: str = field(
        default="nested",
        metadata=option(
            about="nested; or non-nested as in common practice, in a report marked as biased",
            group=PROTOCOL,
            choices=PROTOCOLS,
        ),
    )
    trials: int = field(
        default=100,
        metadata=option(about="trials of each study", group=PROTOCOL, least=1, most=MANY),
    )
    patience: int = field(
        default=0,
        metadata=option(
            about="end a search after N trials in a row, complete or pruned, without a better "
            "inner score; the number of workers makes no difference",
            group=PROTOCOL,
            usual="0: never",
            most=MANY,
        ),
    )
    in_flight: int = field(
        default=1,
        metadata=option(
            about="trials of a study at once, for more workers than studies; it changes the "
            "search, but the number of workers does not",
            group=PROTOCOL,
            note="see [cluster.md](cluster.md)",
            least=1,
            most=MANY,
        ),
    )
    outer_folds: int = field(
        default=5,
        metadata=option(
            about="number of outer folds",
            group=PROTOCOL,
            note="these measure",
            least=2,
            most=THOUSAND,
        ),
    )
    inner_folds: int = field(
        default=4,
        metadata=option(
            about="number of inner folds",
            group=PROTOCOL,
            note="these choose",
            least=2,
            most=THOUSAND,
        ),
    )
    repeats: int = field(
        default=1,
        metadata=option(about="repeats of the outer folds", group=PROTOCOL, least=1, most=THOUSAND),
    )
    metric: str = field(
        default="roc_auc",
        metadata=option(about="metric of the search", group=PROTOCOL, choices=lambda: METRICS),
    )
    seed: int = field(
        default=0,
        metadata=option(about="seed of the whole run", group=PROTOCOL, most=2**63 - 1),
    )
    encoder: str = field(
        metadata=option(
            about="clip:NAME, timm:NAME or bundled:...; A,B searches over both; list prints a "
            "table",
            group=MODEL,
            usual="by task",
            said=False,
            note="see [encoders.md](encoders.md)",
            metavar="NAME",
        )
    )
    weights: str = field(
        default="",
        metadata=option(
            about="weights file of the encoder; NAME=FILE,... for several encoders",
            group=MODEL,
            usual="the cache or the hub",
            said=False,
            metavar="FILE",
            stated=False,
        ),
    )
    encoder_backend: str = field(
        default="",
        metadata=option(
            about="library that computes the frozen encoder; auto is OpenVINO where it gives the "
            "same values on this CPU, else torch",
            group=MODEL,
            usual="auto",
            note="see [encoders.md](encoders.md)",
            choices=ENCODER_BACKENDS,
            stated=False,
        ),
    )
    encoder_precision: str = field(
        default="",
        metadata=option(
            about="number format of the frozen encoder; auto is half precision on a GPU for "
            "encoders that were measured to lose nothing by it, else float32",
            group=MODEL,
            usual="auto",
            note="see [encoders.md](encoders.md)",
            choices=ENCODER_PRECISIONS,
            stated=False,
        ),
    )
    train_on: str = field(
        default="",
        metadata=option(
            about="kind of device that trains; auto is a GPU, unless the cores together are "
            "measured to be 1.5 times as quick",
            group=MODEL,
            usual="auto",
            note="see [speed.md](speed.md)",
            choices=TRAIN_ON,
            stated=False,
        ),
    )
    fit: str = field(
        default="pad",
        metadata=option(
            about="way to make an image square: pad it, or stretch it", group=MODEL, choices=FITS
        ),
    )
    crop: str = field(
        default="none",
        metadata=option(
            about="breast cuts away a mammogram's empty background", group=MODEL, choices=CROPS
        ),
    )
    trainable_blocks: int | str = field(
        default=0,
        metadata=option(
            about="last blocks of the encoder that are trained, or all",
            group=MODEL,
            note="see [encoders.md](encoders.md)",
            most=THOUSAND,
            word=ALL,
        ),
    )
    checkpointing: bool = field(
        default=False,
        metadata=option(
            about="with trainable blocks: compute activations twice instead of keeping them",
            group=MODEL,
            usual="off",
            said=False,
            stated=False,
        ),
    )
    networks: int = field(
        default=1,
        metadata=option(
            about="networks of the chosen configuration for each inner fold, or with --final "
            "refit or ensemble for the refit, which differ in their seeds",
            group=MODEL,
            usual="1; for a refit without trainable blocks 5",
            note="the mean of their probabilities decides",
            least=1,
            most=THOUSAND,
        ),
    )
    final: str = field(
        default=FOLDS,
        metadata=option(
            about="how models are made: folds is the mean of the inner folds' networks, refit "
            "trains on all rows of a study, ensemble refits too and ships the mean of the outer "
            "models, which needs no further search",
            group=MODEL,
            note="see [protocol.md](protocol.md)",
            choices=FINALS,
        ),
    )
    tta: int = field(
        default=0,
        metadata=option(
            about="augmented views whose probabilities are averaged with those of the image",
            group=MODEL,
            note="each costs as much encoding as the images",
            most=THOUSAND,
        ),
    )
    epochs: int = field(
        metadata=option(
            about="most epochs",
            group=MODEL,
            usual=", ".join(f"{task.name} {task.epochs}" for task in TASKS.values()),
            least=1,
            most=MANY,
        )
    )
    patience_epochs: int = field(
        default=20,
        metadata=option(
            about="end a training after N epochs without a new best score",
            group=MODEL,
            least=1,
            most=MANY,
        ),
    )
    batch_size: int | str = field(
        default=0,
        metadata=option(
            about="fixed batch size in place of the search; auto: with trainable blocks, the "
            "largest that fits in memory",
            group=MODEL,
            usual="searched",
            said=False,
            most=MANY,
            word=AUTO,
        ),
    )
    pruner: str = field(
        default="halving",
        metadata=option(
            about="rule that prunes trials",
            group=PROTOCOL,
            usual=f"halving; with trainable blocks {TAIL_PRUNER}",
            note="see [protocol.md](protocol.md)",
            choices=PRUNER_NAMES,
        ),
    )
    threshold: str = field(
        default="prevalence",
        metadata=option(
            about="two classes: rule of the threshold",
            group=PROTOCOL,
            note="see [protocol.md](protocol.md)",
            choices=RULES,
        ),
    )
    threshold_target: float = field(
        default=0.9,
        metadata=option(
            about="sensitivity or specificity that the threshold must reach",
            group=PROTOCOL,
            metavar="X",
        ),
    )
    level: str = field(
        default="image",
        metadata=option(about="level of the report's main results", group=PROTOCOL, choices=LEVELS),
    )
    aggregate: str = field(
        default="mean",
        metadata=option(
            about="way to make one probability of a patient's images",
            group=PROTOCOL,
            choices=AGGREGATES,
        ),
    )
    plugin: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            about="files, or entry points of outerfold.plugins, that add metrics, samplers, "
            "encoder families, readers, tasks or figures to this run",
            group=PROTOCOL,
            usual="none",
            said=False,
            note="see [architecture.md](architecture.md)",
            metavar="FILE.py,NAME",
        ),
    )
    space: Mapping[str, Mapping[str, object]] = field(
        default_factory=dict, metadata=option(group=MODEL, typed=False)
    )
    ablated: str | None = field(
        default=None,
        metadata=option(group=PROTOCOL, typed=False, keyed=False, stated=False),
    )

    def __post_init__(self) -> None:
        check_values(vars(self), type(self))
        weights_by_encoder(self.encoders, self.weights)
        self._refuse_a_search_without_effect()
        self._refuse_options_without_effect()
        self._refuse_options_of_trained_blocks()

    def _refuse_a_search_without_effect(self) -> None:
        if self.in_flight > self.trials:
            raise DataError(
                f"--in-flight {self.in_flight}: a study has only --trials {self.trials}, so no "
                "more than these can run at once; lower --in-flight"
            )
        if self.patience and self.patience >= self.trials - self.in_flight:
            beside = f" and --in-flight {self.in_flight}" if self.in_flight > 1 else ""
            raise DataError(
                f"--patience {self.patience} has no effect with --trials {self.trials}{beside}, "
                "since no trial would be left to skip after that many without improvement; lower "
                "--patience or leave it out"
            )
        if self.protocol == "non-nested" and (self.inner_folds, self.repeats) != (4, 1):
            raise DataError(
                "--inner-folds and --repeats have no effect with --protocol non-nested, which "
                "searches and scores on the same outer folds; leave them out"
            )

        if self.protocol == "non-nested" and self.final == ENSEMBLE:
            raise DataError(
                "--final ensemble averages outer models, and --protocol non-nested trains none; "
                "leave one of them out"
            )

    def _refuse_options_of_trained_blocks(self) -> None:
        if self.tta and self.trainable_blocks == ALL:
            raise DataError(
                f"--tta averages over cached views, and --trainable-blocks {ALL} caches none; "
                "leave one of them out"
            )
        options = {"checkpointing": self.checkpointing, "batch-size auto": self.batch_size == AUTO}
        for name, given in options.items():
            if given and not self.trainable_blocks:
                raise DataError(
                    f"--{name} has no effect with --trainable-blocks 0, whose heads fit in any "
                    "memory; leave it out or train blocks of the encoder"
                )

    def _refuse_options_without_effect(self) -> None:
        if self.columns and not TASKS.named(self.task).columns:
            raise DataError(
                f"--columns has no effect on the {self.task} task, which reads images alone; leave "
                "it out or choose --task multimodal"
            )
        if self.set_aside and self.strict:
            raise DataError("--set-aside and --strict contradict each other; keep one")
        if self.patients_unknown and self.patient_regex:
            raise DataError(
                "--patients-unknown has no effect with --patient-regex, which names the patients; "
                "leave one of them out"
            )
        if self.threshold not in TARGETED and self.threshold_target != 0.9:
            raise DataError(
                f"--threshold-target has no effect with --threshold {self.threshold}; add "
                "--threshold sensitivity or specificity"
            )
        if not 0 < self.threshold_target < 1:
            raise DataError(
                f"--threshold-target must be between 0 and 1, found {self.threshold_target}"
            )
        if self.batch_size == 1:
            raise DataError("--batch-size 1: batch normalisation needs at least two rows")
        if self.batch_size and "batch_size" in self.space:
            raise DataError("--batch-size and [space.batch_size] both set the batch size; keep one")

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders that the search chooses from; the first is the reference."""
        return encoder_names(self.encoder)

    @property
    def records_trials(self) -> bool:
        """Whether trials are recorded as they train, so that a study's end need not repeat them.

        The networks of a trial are then the model. Trained blocks are too large to be kept so.
        """
        return self.final == FOLDS and self.networks == 1 and not self.trainable_blocks

    def weights_of(self, encoder: str) -> str:
        """Path of the weights file of one of ``encoders``; empty if it has none."""
        return weights_by_encoder(self.encoders, self.weights).get(encoder, "")

    def with_encoder(self, encoder: str) -> StudyConfig:
        """The same options with one of ``encoders`` as the only encoder."""
        return replace(self, encoder=encoder, weights=self.weights_of(encoder))

    def to_toml(self) -> dict[str, Any]:
        """The options as a TOML table, without those that are None."""
        kept = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in kept.items()}

    def naming(self) -> dict[str, Any]:
        """Part of ``to_toml`` from which the default folder's name is computed.

        An option that is not in ``FIRST_OPTIONS`` is included only if its value is not its
        default. So a new option does not change the names of older runs' folders, and these runs
        are still found. ``encoder_backend`` and its like are ``auto`` unless the user names
        one.
        """
        kept, defaults = self.to_toml(), {f.name: f.default for f in fields(self)}
        later = sorted(
            name
            for name in kept
            if name not in FIRST_OPTIONS and getattr(self, name) not in (defaults[name], AUTO)
        )
        return {name: kept[name] for name in (*FIRST_OPTIONS, *later) if name in kept}

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> Self:
        """Options from a table that ``to_toml`` made.

        Raises:
            DataError: a key is unknown, or a value is not allowed.
        """
        known = [one.name for one in options_of(cls)]
        for name in table:
            if name not in known:
                raise DataError(unknown_name("key", name, known))
        check_types(table, cls)
        tuples = [one.name for one in options_of(cls) if one.kind is tuple and one.name in table]
        return cls(**{**table, **{name: tuple(table[name]) for name in tuples}})

    def changes_from(self, other: StudyConfig) -> list[str]:
        """Options that differ from those of ``other``, one phrase for each."""
        pairs = [(f.name, getattr(other, f.name), getattr(self, f.name)) for f in fields(self)]
        return [f"{name} was {was!r}, now {now!r}" for name, was, now in pairs if was != now]
