"""Images as a run's encoders represent them, computed once, and what that shows of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.divide import divide
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.activations import Division, TrunkSource, image_source, room_for
from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.pipelines.rows.training_rows import ByEncoder, ImageSource, Sources, source_of
from outerfold.pipelines.saved.files import encoder_card, write_encoder_cards
from outerfold.storage.audit.audit import audit_embeddings
from outerfold.storage.audit.cropped_copies import MOST_IMAGES
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import Dataset
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import ranges_of, tokens_needed, views_of
from outerfold.study.setup.audit_cache import cached_warnings
from outerfold.study.setup.run_directory import PreparedRun


def encoders_of(config: StudyConfig) -> dict[str, Encoder]:
    """The encoders of a run by name, before anything is written: weights may not be had.

    Raises:
        DataError: that, or an encoder that cannot be cut where blocks of it are to be trained.
    """
    framing = Framing(config.fit, config.crop)
    found = {
        name: build(name, weights=Path(file) if file else None, framing=framing)
        for name, file in ((name, config.weights_of(name)) for name in config.encoders)
    }
    for encoder in found.values():
        if config.trainable_blocks:
            divide(encoder, config.trainable_blocks)
    return found


def represent(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    *,
    cache: Path,
    device: str,
    progress: Callable[[int, int], None],
) -> Sources:
    """``embed_rows``, and the run directory says by which encoders.

    Args:
        encoders: by name, those of the run among them.
    """
    config = prepared.config
    used = [encoders[name] for name in config.encoders]
    cards = [encoder_card(encoder, config.weights_of(encoder.name)) for encoder in used]
    write_encoder_cards(prepared.folder, cards)
    return embed_rows(prepared, encoders, cache=cache, device=device, progress=progress)


def embed_rows(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    *,
    cache: Path,
    device: str,
    progress: Callable[[int, int], None],
) -> Sources:
    """Frozen representations of every image a search may read; computed once, kept in ``cache``."""
    used = [encoders[name] for name in prepared.config.encoders]
    found = [
        _embed_by(prepared, encoder, cache=cache, device=device, progress=progress)
        for encoder in used
    ]
    if len(found) == 1:
        return found[0]
    return ByEncoder(tuple(zip(prepared.config.encoders, found, strict=True)))


def _embed_by(
    prepared: PreparedRun,
    encoder: Encoder,
    *,
    cache: Path,
    device: str,
    progress: Callable[[int, int], None],
) -> Embeddings | TrunkSource:
    """What one encoder says of the images, with activations where blocks of it are trained."""
    config, features = prepared.config, prepared.data.features
    ranges = ranges_of(config, prepared.data)
    views, tokens = views_of(config, ranges), tokens_needed(config, ranges)
    return image_source(
        features,
        division_of(config, encoder),
        cache=cache,
        views=views,
        tokens=tokens,
        device=device,
        progress=progress,
    )


def division_of(config: StudyConfig, encoder: Encoder) -> Division:
    """Where an encoder of a run is cut."""
    return Division(encoder, config.weights_of(encoder.name), config.trainable_blocks)


def check_disk_space(
    prepared: PreparedRun, encoders: Mapping[str, Encoder], *, cache: Path, device: str
) -> list[str]:
    """What ``represent`` will keep of trainable tails' trunks, in words; none for nothing.

    Raises:
        DataError: the disk lacks room for it.
    """
    config = prepared.config
    if not config.trainable_blocks:
        return []
    cache.mkdir(parents=True, exist_ok=True)
    views = views_of(config, ranges_of(config, prepared.data))
    said = [
        room_for(
            prepared.data.features,
            division_of(config, encoders[name]),
            cache=cache,
            device=device,
            views=views,
        )
        for name in config.encoders
    ]
    return [text for text in said if text]


def audit_represented(
    prepared: PreparedRun, embeddings: Sources, cache: Path | None = None
) -> tuple[str, ...]:
    """What only representations show of the data; looked for once a run, and kept in it.

    Of several encoders the first is asked: cropped copies are confirmed by their pixels anyway.

    Args:
        cache: keeps what was found of these data in these embeddings; None looks anew.

    Returns:
        The new warnings; none where the run was audited before.
    """
    if prepared.folder.has_embedding_audit():
        return ()
    first = source_of(embeddings, prepared.config.encoders[0])
    first = first.embeddings if isinstance(first, TrunkSource) else first
    if len(prepared.data) > MOST_IMAGES:
        found: tuple[str, ...] = (
            f"cropped copies under two patients were not looked for among {len(prepared.data):,} "
            f"images; the search is for {MOST_IMAGES:,} at most",
        )
    elif cache and isinstance(first, Embeddings):
        of = {"data": prepared.data.fingerprint, "embeddings": first.name}
        found = cached_warnings(cache, lambda: _overlaps(prepared.data, first), **of)
    else:
        found = _overlaps(prepared.data, first)
    prepared.folder.add_embedding_audit(found)
    return found


def _overlaps(data: Dataset, embeddings: ImageSource) -> tuple[str, ...]:
    return audit_embeddings(data, embeddings.pooled(data.ids.tolist()))
