"""Interface of a pipeline: hyper-parameters that train on folds in step or on all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import Features, FloatArray


class TrainingDiverged(ArithmeticError):
    """A loss or a probability is no longer a finite number; the trial has failed."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """State of all folds after the same number of epochs.

    Attributes:
        number: number of epochs trained, from 1.
        fit_loss: (folds,) mean loss of the rows drawn for training.
        val_loss: (folds,) the same loss on the validation rows, NaN where a fold has none.
        probabilities: one array (val rows, classes) for each fold.
    """

    number: int
    fit_loss: FloatArray
    val_loss: FloatArray
    probabilities: tuple[FloatArray, ...]


class Fitted(Protocol):
    """A trained model of one fold, or the mean of several folds' models.

    Attributes:
        network: the stack of heads.
        columns: encoders of the clinical columns, fitted on the rows that trained the networks.
        tokens: whether images are read as spatial tokens.
        tta: number of augmented views; probabilities are averaged over them and the image itself.
    """

    @property
    def network(self) -> nn.Module: ...

    @property
    def columns(self) -> NetworkColumns: ...

    @property
    def tokens(self) -> bool: ...

    @property
    def tta(self) -> int: ...

    @property
    def networks(self) -> int:
        """Number of networks whose probabilities are averaged."""

    def predict_each(self, features: Features) -> FloatArray:
        """Return probabilities (networks, n, classes) of each network, before calibration."""

    def predict(self, features: Features) -> FloatArray:
        """Return the mean over networks (n, classes) of ``predict_each``.

        ``features`` hold no label.
        """

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights as tensors by name, for ``torch.save``."""


class Training(Protocol):
    """Training of all folds, epoch by epoch; the caller may stop after any epoch."""

    def __iter__(self) -> Iterator[Epoch]:
        """Train one more epoch of every fold, then yield it."""

    def fitted(self, *members: int) -> Fitted:
        """Return the current model of one fold, or the mean of the models of several folds.

        Args:
            members: positions of the folds.
        """

    def delivered(self, fold: int) -> Resampled:
        """Return the rows on which fold number ``fold`` trains."""

    def remarks(self) -> Mapping[str, object]:
        """Return facts about this training that the trial must store, by name; may be empty."""


@runtime_checkable
class RecordableTraining(Training, Protocol):
    """Training whose weights are few enough to be copied after every epoch."""

    def weights(self) -> Mapping[str, Tensor]:
        """Return the present weights of all folds by name; the next epoch changes them."""


class Pipeline(Protocol):
    """A frozen dataclass whose fields are hyper-parameters."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def tokens(self) -> bool:
        """Whether images are read as spatial tokens."""

    @property
    def encoder(self) -> str:
        """Name of the image encoder; empty where the study has only one."""

    @property
    def batch_size(self) -> int:
        """Number of training rows in a batch."""

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> Training:
        """Begin training on ``rows``.

        Args:
            rows: the training side, prepared with the same ``tokens``.
            budget: largest number of epochs; learning-rate schedules span it.
            seed: seed of initial values, row order, dropout and draws.
            device: ``cpu`` or ``cuda:N``.
        """

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """Return a stack of untrained networks, one for each seed of ``streams``."""
