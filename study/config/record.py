"""Options of a run: those that determine its results, and those that change no result."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from outerfold.objectives.metrics import METRICS
from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.images.framing import Framing
from outerfold.study.config.durations import parse_seconds
from outerfold.study.config.encoders import encoder_names, weights_by_encoder

TASKS = ("dbt", "multimodal")
EPOCHS = {"dbt": 30, "multimodal": 100}
ENCODERS = {"dbt": "clip:ViT-B/32", "multimodal": "timm:efficientnet_b0"}
DEMO = "demo"
"""Value of --data for the demo, whose images are made here and need no download."""
DEMO_ENCODER = "bundled:efficientnet_lite0"
PRUNER_NAMES = ("halving", "hyperband", "median", "none", "paired")
PROTOCOLS = ("nested", "non-nested")
RULES = ("prevalence", "youden", "sensitivity", "specificity")
TARGETED = ("sensitivity", "specificity")
"""Rules of the threshold that reach ``--threshold-target``."""
LEVELS = ("image", "breast", "patient")
AGGREGATES = ("mean", "max", "noisy-or")
FOLDS, REFIT, ENSEMBLE = FINALS = ("folds", "refit", "ensemble")
ENGINES = ("local", "dask")
ALL, AUTO = "all", "auto"
"""Words that --trainable-blocks and --batch-size accept besides numbers, in this order."""
ENCODER_BACKENDS = (AUTO, "openvino", "torch")
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
    An empty ``encoder_backend`` is that of runs that began before backends had names.

    Raises:
        DataError: an option has a value that is not allowed, or has no effect beside the others.
    """

    task: str
    data: str = "demo"
    classes: tuple[str, ...] = ()
    positive: str = ""
    columns: tuple[str, ...] | None = None
    patient_regex: str = ""
    protocol: str = "nested"
    trials: int = 100
    patience: int = 0
    in_flight: int = 1
    outer_folds: int = 5
    inner_folds: int = 4
    repeats: int = 1
    metric: str = "roc_auc"
    seed: int = 0
    encoder: str
    weights: str = ""
    encoder_backend: str = ""
    fit: str = "pad"
    crop: str = "none"
    trainable_blocks: int | str = 0
    checkpointing: bool = False
    networks: int = 1
    epochs: int
    patience_epochs: int = 20
    batch_size: int | str = 0
    pruner: str = "halving"
    threshold: str = "prevalence"
    threshold_target: float = 0.9
    level: str = "image"
    aggregate: str = "mean"
    final: str = FOLDS
    tta: int = 0
    space: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    ablated: str | None = None

    # Longer than 30 lines: one line an option.
    def __post_init__(self) -> None:
        _require_choice("task", self.task, TASKS)
        _require_choice("protocol", self.protocol, PROTOCOLS)
        _require_choice("metric", self.metric, tuple(METRICS))
        _require_choice("pruner", self.pruner, PRUNER_NAMES)
        _require_choice("threshold", self.threshold, RULES)
        _require_choice("level", self.level, LEVELS)
        _require_choice("aggregate", self.aggregate, AGGREGATES)
        Framing(self.fit, self.crop)
        _require_choice("final", self.final, FINALS)
        weights_by_encoder(self.encoders, self.weights)
        if self.encoder_backend:
            _require_choice("encoder_backend", self.encoder_backend, ENCODER_BACKENDS)
        least = {
            "trials": 1,
            "patience": 0,
            "outer_folds": 2,
            "inner_folds": 2,
            "repeats": 1,
            "seed": 0,
            "epochs": 1,
            "patience_epochs": 1,
            "networks": 1,
            "in_flight": 1,
            "tta": 0,
        }
        for name, bound in least.items():
            _require_at_least(name, getattr(self, name), bound)
        for name, word in (("trainable_blocks", ALL), ("batch_size", AUTO)):
            if getattr(self, name) != word:
                _require_at_least(name, getattr(self, name), 0, f" (or {word})")
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
        if self.task == "dbt":
            for name, value in (("columns", self.columns), ("positive", self.positive)):
                if value:
                    raise DataError(
                        f"--{name} has no effect on the dbt task, which reads images alone; "
                        "leave it out or choose --task multimodal"
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
        """Whether trials are recorded as they train, so that no study's end trains anything.

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
        are still found. ``encoder_backend`` is ``auto`` unless the user names one.
        """
        kept, defaults = self.to_toml(), {f.name: f.default for f in fields(self)}
        later = sorted(
            name
            for name in kept
            if name not in FIRST_OPTIONS and getattr(self, name) not in (defaults[name], AUTO)
        )
        return {name: kept[name] for name in (*FIRST_OPTIONS, *later) if name in kept}

    @classmethod
    def from_toml(cls, table: Mapping[str, Any]) -> StudyConfig:
        """Options from a table that ``to_toml`` made.

        Raises:
            DataError: a key is unknown, or a value is not allowed.
        """
        known = [f.name for f in fields(cls)]
        for name in table:
            if name not in known:
                raise DataError(unknown_name("key", name, known))
        check_types(table, cls)
        tuples = {k: tuple(table[k]) for k in ("classes", "columns") if k in table}
        return cls(**{**table, **tuples})

    def changes_from(self, other: StudyConfig) -> list[str]:
        """Options that differ from those of ``other``, one phrase for each."""
        pairs = [(f.name, getattr(other, f.name), getattr(self, f.name)) for f in fields(self)]
        return [f"{name} was {was!r}, now {now!r}" for name, was, now in pairs if was != now]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Options of how a run is carried out.

    They change no result, except that ``max_time`` may end the search early.

    Attributes:
        run: directory of the run; None for one named after the task, data and options.
        workers: number of processes; 0 means one for each GPU, or one for each core if there is
            no GPU, or all workers of a cluster.
        engine: ``local`` for processes of this machine, ``dask`` for a Dask cluster.
        engine_address: address of the Dask scheduler; empty for the local engine.
        storage: database URL for trials; empty for the journal file.
        quiet: whether to show no live progress.
        max_time: time of one call, such as 1h30m, after which the search ends; empty for no limit.
        workers_per_gpu: number of processes on each GPU; 0 means that ``workers`` decides.

    Raises:
        DataError: an option has a value that is not allowed, or contradicts another.
    """

    run: Path | None = None
    workers: int = 0
    engine: Literal["local", "dask"] = "local"
    engine_address: str = ""
    storage: str = ""
    quiet: bool = False
    max_time: str = ""
    workers_per_gpu: int = 0

    def __post_init__(self) -> None:
        _require_at_least("workers", self.workers, 0)
        _require_at_least("workers_per_gpu", self.workers_per_gpu, 0)
        if self.workers and self.workers_per_gpu:
            raise DataError(
                "--workers and --workers-per-gpu both set the number of processes; keep one"
            )
        _require_choice("engine", self.engine, ENGINES)
        if self.engine == "dask" and not self.engine_address:
            raise DataError(
                "--engine dask needs --engine-address tcp://HOST:PORT, which `dask scheduler` "
                "prints when it starts"
            )
        if self.engine == "dask" and self.workers_per_gpu:
            raise DataError(
                "--workers-per-gpu has no effect with --engine dask, whose workers declare their "
                "own resources; leave it out"
            )
        if self.engine != "dask" and self.engine_address:
            raise DataError(
                f"--engine-address {self.engine_address} has no effect with --engine "
                f"{self.engine}; add --engine dask or leave it out"
            )
        if self.max_time:
            parse_seconds(self.max_time, option="max-time")


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a configuration file.

    Raises:
        DataError: the file cannot be read or is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"--config {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"--config {path}: not valid TOML ({error})") from None


def check_types(table: Mapping[str, Any], record: type[StudyConfig | Execution]) -> None:
    """Check that each value in ``table`` is text, a list, a number or a table, as its field needs.

    Raises:
        DataError: a value has the wrong type.
    """
    for option in fields(record):
        kind = str(option.type).split("[")[0].split(" ")[0]
        words, fits = _TYPE_CHECKS.get(kind, ("", lambda value: True))
        if option.name in table and not fits(table[option.name]):
            raise DataError(f"{option.name} must be {words}, found {table[option.name]!r}")


def _are_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)


_TYPE_CHECKS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "str": ("text", lambda value: isinstance(value, str)),
    "Literal": ("text", lambda value: isinstance(value, str)),
    "Path": ("text", lambda value: isinstance(value, (str, Path))),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "float": ("a number", lambda value: type(value) in (int, float)),
    "tuple": ("a list of texts", _are_texts),
    "Mapping": ("a table", lambda value: isinstance(value, Mapping)),
}
"""Name and check of each type, by the first word of the field's type.

The records themselves check whole numbers and choices.
"""


def _require_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DataError(f"--{_option_name(name)}: {unknown_name('value', value, list(known))}")


def _require_at_least(name: str, value: object, bound: int, other: str = "") -> None:
    if type(value) is not int or value < bound:
        raise DataError(
            f"--{_option_name(name)} must be a whole number of at least {bound}, "
            f"found {value!r}{other}"
        )


def _option_name(name: str) -> str:
    return name.replace("_", "-")
