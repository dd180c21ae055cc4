"""Parts of an encoder's network: its blocks, and the layers before and after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from outerfold.pipelines.encoders.registry import family_of
from outerfold.storage.registry import load_part

STEPS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("conv_stem", "bn1"), ("blocks",), ("conv_head", "bn2")),  # EfficientNet
    (("conv_stem", "bn1"), ("blocks",), ()),  # MobileNetV3, whose head holds the rest
    (("patch_embed", "_pos_embed", "patch_drop", "norm_pre"), ("blocks",), ("norm",)),  # ViT
    (("conv1", "bn1", "act1", "maxpool"), ("layer1", "layer2", "layer3", "layer4"), ()),  # ResNet
    (("stem",), ("stages",), ("norm_pre",)),  # ConvNeXt
    (("patch_embed",), ("layers",), ("norm",)),  # Swin
    (("stem",), ("s1", "s2", "s3", "s4"), ("final_conv",)),  # RegNet
)
"""Attributes of timm's models in the order of their calls: before the blocks, blocks, after."""


class Parts(Protocol):
    """Network divided into its steps; it is an ``nn.Module`` too, so that copies include all of it.

    In all inputs and outputs the first axis is the image.

    Attributes:
        whole: the trunk that is divided.
    """

    whole: nn.Module

    def stem(self, x: Tensor) -> Tensor:
        """Compute the input of the first block from normalised images (n, 3, s, s)."""

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in order; the output of each is the input of the next."""

    def block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Apply one of the blocks to its input ``x``."""

    def features(self, x: Tensor) -> Tensor:
        """Compute the features, which ``pool`` reads, from the output of the last block."""

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim)."""

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map (n, token_dim, h, w)."""

    def forget(self, before: int) -> None:
        """Drop the stem and the blocks before number ``before``; they must not be called again."""


def parts_of(encoder: str, trunk: nn.Module) -> Parts | None:
    """Return the parts of a trunk; None where they are not known.

    Args:
        encoder: name of the encoder, whose family says how.
        trunk: its trunk.
    """
    family = family_of(encoder)
    if family is None or family.blocks is None:
        return None
    found: Parts | None = load_part(family.blocks)(trunk)
    return found


def clip_parts(trunk: nn.Module) -> Parts | None:
    """Return the parts of a trunk of ``clip_encoder``; None for another trunk."""
    visual = getattr(trunk, "visual", None)
    if visual is None:
        return None
    return (ClipTransformer if hasattr(visual, "class_embedding") else ClipResNet)(trunk)


def timm_parts(trunk: nn.Module) -> Parts | None:
    """Return the parts of a trunk whose ``model`` is timm's; None where its steps are not known."""
    model = getattr(trunk, "model", None)
    for stem, blocks, after in STEPS:
        if model is not None and all(hasattr(model, name) for name in (*stem, *blocks, *after)):
            return Timm(trunk, stem, blocks, after)
    return None


class Timm(nn.Module):
    """Parts of a timm model; its attributes are called one after the other."""

    def __init__(
        self, whole: nn.Module, before: Sequence[str], blocks: Sequence[str], after: Sequence[str]
    ) -> None:
        super().__init__()
        self.whole, self.before, self.names, self.after = whole, before, blocks, after

    def stem(self, x: Tensor) -> Tensor:
        """Compute the input of the first block; see ``Parts.stem``."""
        return self._call_in_turn(self.before, x)

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in order; see ``Parts.blocks``."""
        return _children(self.whole.model, self.names)

    def block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Apply one block; see ``Parts.block``."""
        given: Tensor = block(x)
        return given

    def features(self, x: Tensor) -> Tensor:
        """Compute the features; see ``Parts.features``."""
        return self._call_in_turn(self.after, x)

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim); see ``Parts.pool``."""
        pooled: Tensor = self.whole.pool(features)  # type: ignore[operator]
        return pooled

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map; see ``Parts.map``."""
        spatial: Tensor = self.whole.map(features)  # type: ignore[operator]
        return spatial

    def forget(self, before: int) -> None:
        """Drop the stem and the first blocks; see ``Parts.forget``."""
        model = self.whole.model
        for name in self.before:
            if isinstance(getattr(model, name), nn.Module):
                setattr(model, name, nn.Identity())
        _drop_parameters(model)  # class token and positions of a ViT
        _drop_blocks(model, self.names, before)

    def _call_in_turn(self, names: Sequence[str], x: Tensor) -> Tensor:
        for name in names:
            x = getattr(self.whole.model, name)(x)
        return x


class ClipTransformer(nn.Module):
    """Parts of ``clip_encoder.VisionTrunk``; the first axis of its blocks is the patch."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def stem(self, x: Tensor) -> Tensor:
        """Compute the input of the first block; see ``Parts.stem``."""
        visual = self.whole.visual
        patches = visual.conv1(x)  # type: ignore[union-attr,operator]
        n, width = patches.shape[:2]
        first = visual.class_embedding.expand(n, 1, width)  # type: ignore[union-attr,operator]
        sequence = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
        placed = sequence + visual.positional_embedding  # type: ignore[union-attr,operator]
        given: Tensor = visual.ln_pre(placed)  # type: ignore[union-attr,operator]
        return given

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in order; see ``Parts.blocks``."""
        return _children(self.whole.visual.transformer, ("resblocks",))  # type: ignore[union-attr]

    def block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Apply one block; see ``Parts.block``."""
        given: Tensor = block(x.transpose(0, 1)).transpose(0, 1)
        return given

    def features(self, x: Tensor) -> Tensor:
        """Compute the features; see ``Parts.features``."""
        visual = self.whole.visual
        out: Tensor = visual.ln_post(x) @ visual.proj  # type: ignore[union-attr,operator]
        return out

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim); see ``Parts.pool``."""
        return features[:, 0]

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map; see ``Parts.map``."""
        side = round((features.shape[1] - 1) ** 0.5)
        return features[:, 1:].transpose(1, 2).reshape(len(features), -1, side, side)

    def forget(self, before: int) -> None:
        """Drop the stem and the first blocks; see ``Parts.forget``."""
        visual = self.whole.visual
        visual.conv1, visual.ln_pre = nn.Identity(), nn.Identity()  # type: ignore[union-attr]
        for name in ("class_embedding", "positional_embedding"):
            visual._parameters[name] = None  # type: ignore[union-attr]
        _drop_blocks(visual.transformer, ("resblocks",), before)  # type: ignore[union-attr]


class ClipResNet(nn.Module):
    """Parts of CLIP's ``ModifiedResNet``; attention pooling is the last step."""

    LAYERS = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def stem(self, x: Tensor) -> Tensor:
        """Compute the input of the first block; see ``Parts.stem``."""
        visual = self.whole.visual
        for i in (1, 2, 3):
            x = getattr(visual, f"bn{i}")(getattr(visual, f"conv{i}")(x))
            x = getattr(visual, f"relu{i}")(x)
        pooled: Tensor = visual.avgpool(x)  # type: ignore[union-attr,operator]
        return pooled

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in order; see ``Parts.blocks``."""
        return _children(self.whole.visual, self.LAYERS)

    def block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Apply one block; see ``Parts.block``."""
        given: Tensor = block(x)
        return given

    def features(self, x: Tensor) -> Tensor:
        """Compute the features; see ``Parts.features``."""
        return x

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim); see ``Parts.pool``."""
        pooled: Tensor = self.whole.pooling(features)  # type: ignore[operator]
        return pooled

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map; see ``Parts.map``."""
        return features

    def forget(self, before: int) -> None:
        """Drop the stem and the first blocks; see ``Parts.forget``."""
        for i in (1, 2, 3):
            for layer in ("conv", "bn", "relu"):
                setattr(self.whole.visual, f"{layer}{i}", nn.Identity())
        _drop_blocks(self.whole.visual, self.LAYERS, before)


def _children(holder: object, names: Sequence[str]) -> list[nn.Module]:
    """List the attributes ``names`` as blocks, or the children of a single attribute."""
    if len(names) == 1:
        return list(getattr(holder, names[0]).children())
    return [getattr(holder, name) for name in names]


def _drop_blocks(holder: object, names: Sequence[str], before: int) -> None:
    for i in range(before):
        if len(names) == 1:
            getattr(holder, names[0])[i] = nn.Identity()
        else:
            setattr(holder, names[i], nn.Identity())


def _drop_parameters(model: object) -> None:
    own: dict[str, object] = getattr(model, "_parameters")  # noqa: B009 - unknown to types here
    for name in list(own):
        own[name] = None
