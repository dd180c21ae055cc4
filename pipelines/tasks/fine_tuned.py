"""A task's head together with the last blocks of the encoder, trained as one network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.pipelines.training.micro_batches import MicroBatches
from outerfold.pipelines.training.tail_fold import TailRecipe
from outerfold.pipelines.training.tails import TailTraining


@dataclass(frozen=True)
class TailPipeline:
    """A task's pipeline whose encoder is trained too.

    Attributes:
        head: all that does not concern the encoder.
        tail_rate: learning rate of the encoder's blocks over that of the head.
        strength: of random changes of whole images; 0 where activations are kept.
        checkpointing: see ``outerfold.pipelines.encoders.divide.Tail``.
        micro: sizes of micro-batches that an earlier run of the same training came to.
    """

    head: DbtPipeline | MultimodalPipeline
    tail_rate: float
    strength: float = 0.0
    checkpointing: bool = False
    micro: tuple[tuple[int, ...], ...] = ()

    @property
    def tokens(self) -> bool:
        """Attention reads spatial tokens."""
        return self.head.tokens

    @property
    def encoder(self) -> str:
        """Which of several encoders reads the images; empty where there is one."""
        return self.head.encoder

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> TailTraining:
        """See ``Pipeline.start``; the rows' source must be one that a tail can read."""
        source: TailRows = rows.source  # type: ignore[assignment]
        if not hasattr(source, "activations"):
            raise TypeError(f"a tail reads activations, and {type(source).__name__} has none")
        recipe = TailRecipe(self.head.recipe, self.tail_rate, self.strength, self.checkpointing)
        return TailTraining(
            recipe,
            self.network,
            rows,
            source,
            budget=budget,
            seed=seed,
            device=device,
            micro=MicroBatches.again(self.micro),
        )

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """A stack of heads; tails are no part of it."""
        return self.head.network(streams, widths, scaler)
