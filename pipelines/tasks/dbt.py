"""The four-class task: a frozen embedding, or attention over spatial tokens, and an MLP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from outerfold.pipelines.heads.networks import EmbeddingMLP, Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.heads import Recipe, StackedTraining


@dataclass(frozen=True)
class DbtPipeline:
    """Embedding -> 256 -> 128 -> classes; Adam, one cosine descent.

    ``attention`` pools the encoder's spatial tokens by learnt attention instead of taking its
    own pooled embedding. Images of minority classes are augmented. The other fields are those of
    ``Recipe``.
    """

    learning_rate: float
    dropout: float
    focal_gamma: float
    sampler: str
    attention: bool
    weight_decay: float = 1e-4
    batch_size: int = 64
    label_smoothing: float = 0.0
    ens_beta: float = 0.0
    augmented_views: int = 0
    augmentation: str = "light"
    encoder: str = ""

    @property
    def tokens(self) -> bool:
        """Attention reads spatial tokens."""
        return self.attention

    @property
    def recipe(self) -> Recipe:
        """How the head is trained, alone or with a tail of the encoder."""
        return Recipe(
            self.learning_rate,
            self.weight_decay,
            self.batch_size,
            self.focal_gamma,
            self.label_smoothing,
            self.ens_beta,
            self.sampler,
            self.augmented_views,
            decoupled=False,
            restarts=False,
            clip_norm=None,
            strength=self.augmentation,
            every_row=False,
        )

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> StackedTraining:
        """See ``Pipeline.start``."""
        return StackedTraining(
            self.recipe, self.network, rows, budget=budget, seed=seed, device=device
        )

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """A stack of heads, one a fold."""
        return EmbeddingMLP(streams, widths, scaler, dropout=self.dropout)
