"""The two-class task: a frozen image embedding joined with clinical columns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from outerfold.pipelines.heads.networks import FusionNetwork, Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.heads import Recipe, StackedTraining

GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class MultimodalPipeline:
    """Image + columns (64-64-32) -> 128 -> 32 -> 1; AdamW, cosine warm restarts, clipping at 1.

    ``attention`` fuses image and columns by four-head self-attention instead of joining them
    end to end. Every image that trains is augmented. The other fields are those of ``Recipe``.
    """

    learning_rate: float
    dropout: float
    focal_gamma: float
    sampler: str
    attention: bool
    weight_decay: float = 1e-2
    batch_size: int = 64
    label_smoothing: float = 0.1
    ens_beta: float = 0.0
    augmented_views: int = 0
    augmentation: str = "light"
    encoder: str = ""

    @property
    def tokens(self) -> bool:
        """This task reads pooled embeddings."""
        return False

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
            decoupled=True,
            restarts=True,
            clip_norm=GRADIENT_NORM,
            strength=self.augmentation,
            every_row=True,
        )

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> StackedTraining:
        """See ``Pipeline.start``."""
        return StackedTraining(
            self.recipe, self.network, rows, budget=budget, seed=seed, device=device
        )

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """A stack of heads, one a fold."""
        return FusionNetwork(
            streams, widths, scaler, dropout=self.dropout, attention=self.attention
        )
