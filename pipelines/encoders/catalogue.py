"""Catalogue of well-known encoders and where their weights are; it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CLIP_CACHE = Path("~/.cache/clip")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class KnownEncoder:
    """Encoder that is known to give a pooled vector and spatial tokens.

    Attributes:
        name: name for ``--encoder``.
        width: width of the pooled vector.
        token_width: width of a token.
        grid: side of the map from which tokens are averaged.
        side: side of the square input images, in pixels.
        megabytes: approximate size of the weights file, in MB.
        source: file name in the CLIP cache, or repository on Hugging Face; empty if bundled.
    """

    name: str
    width: int
    token_width: int
    grid: int
    side: int
    megabytes: int
    source: str

    @property
    def family(self) -> str:
        """Part of the name before the colon."""
        return self.name.partition(":")[0]


KNOWN = (
    KnownEncoder("clip:ViT-B/32", 512, 512, 7, 224, 338, "ViT-B-32.pt"),
    KnownEncoder("clip:ViT-B/16", 512, 512, 14, 224, 335, "ViT-B-16.pt"),
    KnownEncoder("clip:ViT-L/14", 768, 768, 16, 224, 890, "ViT-L-14.pt"),
    KnownEncoder("clip:RN50", 1024, 2048, 7, 224, 244, "RN50.pt"),
    KnownEncoder("timm:efficientnet_b0", 1280, 1280, 7, 224, 21, "timm/efficientnet_b0.ra_in1k"),
    KnownEncoder(
        "timm:efficientnet_b1", 1280, 1280, 8, 240, 31, "timm/efficientnet_b1.ra4_e3600_r240_in1k"
    ),
    KnownEncoder("timm:efficientnet_b2", 1408, 1408, 8, 256, 36, "timm/efficientnet_b2.ra_in1k"),
    KnownEncoder("timm:efficientnet_b3", 1536, 1536, 9, 288, 49, "timm/efficientnet_b3.ra2_in1k"),
    KnownEncoder("timm:efficientnet_b4", 1792, 1792, 10, 320, 77, "timm/efficientnet_b4.ra2_in1k"),
    KnownEncoder(
        "timm:vit_small_patch16_224",
        384,
        384,
        14,
        224,
        88,
        "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
    ),
    KnownEncoder(
        "timm:vit_base_patch16_224",
        768,
        768,
        14,
        224,
        346,
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
    ),
    KnownEncoder("timm:convnext_tiny", 768, 768, 7, 224, 114, "timm/convnext_tiny.in12k_ft_in1k"),
    KnownEncoder(
        "timm:convnext_base", 1024, 1024, 7, 224, 354, "timm/convnext_base.fb_in22k_ft_in1k"
    ),
    KnownEncoder(
        "timm:swin_tiny_patch4_window7_224",
        768,
        768,
        7,
        224,
        113,
        "timm/swin_tiny_patch4_window7_224.ms_in1k",
    ),
    KnownEncoder("timm:resnet50", 2048, 2048, 7, 224, 102, "timm/resnet50.a1_in1k"),
    KnownEncoder("bundled:efficientnet_lite0", 1280, 1280, 7, 224, 19, ""),
)


def names() -> tuple[str, ...]:
    """Names of the encoders in this catalogue, and ``timm:NAME`` for all other timm models."""
    return (*(known.name for known in KNOWN), "timm:NAME")


def describe_weights(known: KnownEncoder) -> str:
    """Describe where the weights are: ``installed``, ``cached here``, or ``hub, 21 MB``."""
    if not known.source:
        return "installed"
    return "cached here" if _is_cached(known) else f"hub, {known.megabytes} MB"


def _is_cached(known: KnownEncoder) -> bool:
    if known.family == "clip":
        return (CLIP_CACHE.expanduser() / known.source).is_file()
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(known.source, name), str) for name in HUB_FILES)
