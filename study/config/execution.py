"""Options that change no result, and options that stand for others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from outerfold.reports.journal_style import PLAIN, STYLES
from outerfold.storage.errors import DataError
from outerfold.storage.images.pixels import MAX_PIXELS
from outerfold.study.config.durations import parse_seconds
from outerfold.study.config.option import DATA, EXECUTION, MODEL, PROTOCOL, check_values, option
from outerfold.study.config.presets import PRESETS
from outerfold.study.config.record import THOUSAND, StudyConfig

ENGINES = ("local", "dask")
MOST_WORKERS = 10_000
MOST_PIXELS = 100_000_000_000


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Options of how a run is carried out.

    They change no result, except that ``max_time`` may end the search early.

    Attributes:
        max_time: time of one call, such as 1h30m, after which the search ends; empty for no limit.
        run: directory of the run; None for one named after the task, data and options.
        max_pixels: pixels of an image at most; a file with more is refused before it is decoded.
        cache_shared: whether folders of the cache are as open as the user's umask lets them be.
        offline: whether to make no outbound call, for weights, data or usage statistics.
        workers: number of processes; 0 means one for each GPU, or one for each core if there is
            no GPU, or all workers of a cluster.
        workers_per_gpu: number of processes on each GPU; 0 means that ``workers`` decides.
        engine: ``local`` for processes of this machine, ``dask`` for a Dask cluster.
        engine_address: address of the Dask scheduler; empty for the local engine.
        storage: database URL for trials; empty for the journal file.
        hung_after: time without a sign of life, such as 10m, after which a worker's job is given
            to another.
        style: journal in whose style the report is printed; ``plain`` for none.
        quiet: whether to show no live progress.

    Raises:
        DataError: an option has a value that is not allowed, or contradicts another.
    """

    max_time: str = field(
        default="",
        metadata=option(
            about="end the search so that refits and report are finished within this time (2h, "
            "30m, 90s, 1h30m); the number of trials, and so the results, then depend on the "
            "machine",
            group=PROTOCOL,
            usual="none",
            said=False,
            metavar="TIME",
            before="outer_folds",
        ),
    )
    run: Path | None = field(
        default=None,
        metadata=option(
            about="run directory",
            group=EXECUTION,
            usual="runs/...",
            note="it is `runs/TASK-DATA-HASH` where none is named",
            metavar="DIR",
        ),
    )
    max_pixels: int = field(
        default=MAX_PIXELS,
        metadata=option(
            about="pixels of an image at most, by its header; larger files are not decoded",
            group=DATA,
            least=1,
            most=MOST_PIXELS,
        ),
    )
    cache_shared: bool = field(
        default=False,
        metadata=option(
            about="make folders of the cache as open as the umask lets them be, not for the owner "
            "alone",
            group=EXECUTION,
            usual="off",
            said=False,
        ),
    )
    offline: bool = field(
        default=False,
        metadata=option(
            about="make no outbound call: weights and data must be on this machine",
            group=EXECUTION,
            usual="off",
            said=False,
        ),
    )
    workers: int = field(
        default=0,
        metadata=option(
            about="worker processes (one for each GPU, else for each core); with dask, at most N "
            "(all)",
            group=EXECUTION,
            usual="one a GPU, else one a core",
            said=False,
            most=MOST_WORKERS,
        ),
    )
    workers_per_gpu: int = field(
        default=0,
        metadata=option(
            about="worker processes on each GPU; small heads use little of a GPU",
            group=EXECUTION,
            usual="1",
            note="refused without a GPU and beside `--workers` or `dask`",
            most=THOUSAND,
        ),
    )
    engine: Literal["local", "dask"] = field(
        default="local",
        metadata=option(
            about="local processes, or a Dask cluster", group=EXECUTION, choices=ENGINES
        ),
    )
    engine_address: str = field(
        default="",
        metadata=option(
            about="address of a Dask scheduler, tcp://HOST:PORT",
            group=EXECUTION,
            usual="none",
            said=False,
            metavar="URL",
        ),
    )
    storage: str = field(
        default="",
        metadata=option(
            about="database for trials",
            group=EXECUTION,
            usual="a journal file",
            note="PostgreSQL or MySQL; SQLite is refused",
            metavar="URL",
        ),
    )
    hung_after: str = field(
        default="10m",
        metadata=option(
            about="time without any use of its processor after which a worker counts as hung, and "
            "its job is given to another",
            group=EXECUTION,
            metavar="TIME",
        ),
    )
    style: str = field(
        default=PLAIN.name,
        metadata=option(
            about="print figures and tables in the style of a journal: letters, colours, decimal "
            "sign, intervals",
            group=EXECUTION,
            choices=tuple(STYLES),
        ),
    )
    quiet: bool = field(
        default=False,
        metadata=option(about="no live progress", group=EXECUTION, usual="off", said=False),
    )

    def __post_init__(self) -> None:
        check_values(vars(self), type(self))
        if self.workers and self.workers_per_gpu:
            raise DataError(
                "--workers and --workers-per-gpu both set the number of processes; keep one"
            )
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
        parse_seconds(self.hung_after, option="hung-after")


@dataclass(frozen=True, kw_only=True)
class Shorthand:
    """Options that stand for others, and are not kept themselves.

    Attributes:
        ablate: factors, each level of which becomes a run.
        preset: name of a published recipe; None for none.
        config: configuration file; None for none.
    """

    ablate: tuple[str, ...] = field(
        default=(),
        metadata=option(
            about="one run for each level of each factor (attention, sampler, ...), and their "
            "paired differences",
            group=PROTOCOL,
            usual="none",
            said=False,
            before="trials",
            keyed=False,
        ),
    )
    preset: str | None = field(
        default=None,
        metadata=option(
            about="published: the published recipe of the multimodal task (--encoder "
            "timm:efficientnet_b0, --trainable-blocks 2, --epochs 100), each where it is not given",
            group=MODEL,
            usual="none",
            note="see [encoders.md](encoders.md)",
            choices=tuple(PRESETS),
            before="encoder",
        ),
    )
    config: Path | None = field(
        default=None,
        metadata=option(
            about="TOML file with options; options of the command line replace them",
            group=MODEL,
            usual="none",
            said=False,
            metavar="FILE",
            keyed=False,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Questions that a report may answer besides; none changes another number.

    Attributes:
        prevalence: share of positives at which predictive values are stated; None for none.
        ordered: whether several classes are in order, so that agreement weighs their distance.
        subgroups: columns with their limits, such as ``age:50|70``.
        reader_column: column of a reader's readings; empty for none.
        reader_positive: reading from which the reader is positive.
    """

    prevalence: float | None = field(
        default=None,
        metadata=option(
            about="prevalence at which predictive values are stated, such as 0.006",
            group=PROTOCOL,
            usual="none",
            said=False,
            metavar="X",
        ),
    )
    ordered: bool = field(
        default=False,
        metadata=option(
            about="several classes are in order: quadratic kappa", group=PROTOCOL, said=False
        ),
    )
    subgroups: tuple[str, ...] = field(
        default=(),
        metadata=option(
            about="columns of subgroups, each with limits where it holds numbers: "
            "age:50|70,density",
            group=PROTOCOL,
            usual="none",
            said=False,
        ),
    )
    reader_column: str = field(
        default="",
        metadata=option(
            about="column of a reader's readings, with which the model is compared",
            group=PROTOCOL,
            usual="none",
            said=False,
            metavar="NAME",
        ),
    )
    reader_positive: str = field(
        default="",
        metadata=option(
            about="the number from which a reading is positive, or the positive readings: 4, "
            "or suspicious|malignant",
            group=PROTOCOL,
            usual="none",
            said=False,
            metavar="V",
        ),
    )


RECORDS: tuple[type, ...] = (StudyConfig, Shorthand, Execution)
"""Records of all options of a run."""
