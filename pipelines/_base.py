"""What a pipeline is: hyper-parameters that can be trained, over folds in step or on all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.tabular import TabularColumns
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import Features, FloatArray


class TrainingDiverged(ArithmeticError):
    """Probabilities stopped being numbers; the trial that asked for it has failed."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """Every fold after the same number of epochs.

    Attributes:
        number: epochs trained, from 1.
        fit_loss: (folds,) mean loss of the rows drawn for training.
        val_loss: (folds,) the same loss on rows that validate, NaN where there are none.
        probabilities: for each fold (val rows, classes).
    """

    number: int
    fit_loss: FloatArray
    val_loss: FloatArray
    probabilities: tuple[FloatArray, ...]


class Fitted(Protocol):
    """A trained model of one fold, or the mean of several.

    Attributes:
        network: the stack of heads.
        encoder: of clinical columns, fitted on the rows that trained it.
        tokens: whether images are read as spatial tokens.
        tta: augmented views over which, with the image itself, probabilities are averaged.
    """

    @property
    def network(self) -> nn.Module: ...

    @property
    def encoder(self) -> TabularColumns: ...

    @property
    def tokens(self) -> bool: ...

    @property
    def tta(self) -> int: ...

    @property
    def networks(self) -> int:
        """How many are averaged."""

    def predict(self, features: Features) -> FloatArray:
        """(n, classes) probabilities before calibration; it cannot see a label."""

    def state(self) -> Mapping[str, Tensor]:
        """Tensors by name, for ``torch.save``."""


class Training(Protocol):
    """A run over epochs that may be left at any of them."""

    def __iter__(self) -> Iterator[Epoch]:
        """Train one more epoch of every fold, then yield."""

    def fitted(self, *members: int) -> Fitted:
        """The model of one fold as it stands now, or the mean of several that share their rows."""

    def delivered(self, fold: int) -> Resampled:
        """The rows one fold trains on."""

    def remarks(self) -> Mapping[str, object]:
        """What a trial must keep of how it went, by name; empty where there is nothing."""


class Pipeline(Protocol):
    """A frozen dataclass whose fields are hyper-parameters."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def tokens(self) -> bool:
        """Whether images are read as spatial tokens."""

    @property
    def encoder(self) -> str:
        """Which of several encoders reads the images; empty where there is one."""

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> Training:
        """Begin training on ``rows``.

        Args:
            rows: prepared with the same ``tokens``.
            budget: most epochs there may be; schedules are laid out over it.
            seed: of initial values, order, dropout and draws.
            device: ``cpu`` or ``cuda:N``.
        """

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """A stack of untrained networks, one for each of ``streams``'s seeds."""
