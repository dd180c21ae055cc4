"""Embeddings of a run's images, computed once, and the audit that uses them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from outerfold.pipelines.encoders._base import Encoder, device_kind
from outerfold.pipelines.encoders.backends.choose import largest_difference
from outerfold.pipelines.encoders.divide import divide, frozen_parts
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.activations import (
    Division,
    TrunkSource,
    count_missing_views,
    describe_disk_space,
    image_source,
)
from outerfold.pipelines.images.decoded import open_squares
from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.pipelines.images.stand_in import stand_in
from outerfold.pipelines.rows.training_rows import ImageSource, Sources, SourcesByEncoder, source_of
from outerfold.pipelines.saved.files import encoder_card, write_encoder_cards
from outerfold.storage.audit.audit import audit_embeddings
from outerfold.storage.audit.cropped_copies import MOST_IMAGES
from outerfold.storage.cache.files import make_cache_folder
from outerfold.storage.cache.inventory import record_stores
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import Features
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges, build_views, needs_tokens
from outerfold.study.setup.audit_cache import cached_warnings
from outerfold.study.setup.run_directory import PreparedRun

TIMED_AT_ONCE, TIMED_VIEWS, TIMED_SECONDS = 8, 64, 4.0
"""Images that are encoded at a time to measure the rate, and the views and seconds after which it
is known."""


def build_encoders(config: StudyConfig) -> dict[str, Encoder]:
    """Encoders of a run by name; they are made before anything is written.

    Raises:
        DataError: weights are unavailable, or an encoder has too few blocks to be trained.
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
    """Embeddings of the run, see ``embed_rows``; also writes the encoders' cards to its folder.

    Args:
        prepared: the run.
        encoders: encoders by name, at least those of the run.
        cache: folder of the embeddings.
        device: device that computes them.
        progress: called with the numbers of images done and in all.
    """
    config = prepared.config
    used = [encoders[name] for name in config.encoders]
    cards = [
        encoder_card(
            encoder,
            config.weights_of(encoder.name),
            largest_difference(frozen_parts(encoder, config.trainable_blocks), cache, device),
        )
        for encoder in used
    ]
    write_encoder_cards(prepared.folder, cards)
    found = embed_rows(prepared, encoders, cache=cache, device=device, progress=progress)
    squares = [
        open_squares(cache, one.image_size, one.framing).folder.relative_to(cache).as_posix()
        for one in used
    ]
    record_stores(prepared.folder.path, cache, [*_stores(found), *squares])
    return found


def _stores(sources: Sources) -> list[str]:
    """Stores of the cache that sources read."""
    if isinstance(sources, SourcesByEncoder):
        return [name for _, source in sources.sources for name in _stores(source)]
    if isinstance(sources, TrunkSource):
        return [*_stores(sources.embeddings), *_stores(sources.cut)]
    return list(sources.stores) if isinstance(sources, Embeddings) else []


def embed_rows(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    *,
    cache: Path,
    device: str,
    progress: Callable[[int, int], None],
) -> Sources:
    """Frozen embeddings of every image and view that the search may read, from each encoder.

    They are computed once and kept in ``cache``. The arguments are those of ``represent``.
    """
    used = [encoders[name] for name in prepared.config.encoders]
    found = [
        _embed_images(prepared, encoder, cache=cache, device=device, progress=progress)
        for encoder in used
    ]
    if len(found) == 1:
        return found[0]
    return SourcesByEncoder(tuple(zip(prepared.config.encoders, found, strict=True)))


def _embed_images(
    prepared: PreparedRun,
    encoder: Encoder,
    *,
    cache: Path,
    device: str,
    progress: Callable[[int, int], None],
) -> Embeddings | TrunkSource:
    """Embeddings of the images from one encoder, or activations where blocks of it are trained."""
    config, features = prepared.config, prepared.data.features
    ranges = build_ranges(config, prepared.data)
    views, tokens = build_views(config, ranges), needs_tokens(config, ranges)
    return image_source(
        features,
        build_division(config, encoder),
        cache=cache,
        views=views,
        tokens=tokens,
        device=device,
        progress=progress,
    )


def stand_ins(prepared: PreparedRun, encoders: Mapping[str, Encoder]) -> Sources:
    """Random numbers in the shapes of ``represent``, to time training before any encoding."""
    config = prepared.config
    views = build_views(config, build_ranges(config, prepared.data))
    found = [
        (name, stand_in(build_division(config, encoders[name]), views)) for name in config.encoders
    ]
    return found[0][1] if len(found) == 1 else SourcesByEncoder(tuple(found))


def expect_encoding(
    prepared: PreparedRun, encoders: Mapping[str, Encoder], *, cache: Path, device: str
) -> float:
    """Seconds that ``represent`` is expected to take, from the rate of a few images.

    The first of them, which also load the encoder's kernels, are not counted. All are kept, so no
    work is done twice.

    Args:
        prepared: the run.
        encoders: encoders by name, at least those of the run.
        cache: folder of the embeddings.
        device: device that computes them.
    """
    config = prepared.config
    ranges = build_ranges(config, prepared.data)
    how: dict[str, Any] = {
        "cache": cache,
        "views": build_views(config, ranges),
        "tokens": needs_tokens(config, ranges),
        "device": device,
    }
    divisions = [build_division(config, encoders[name]) for name in config.encoders]
    return sum(_expect_encoding_by(division, prepared.data.features, how) for division in divisions)


def _expect_encoding_by(division: Division, features: Features, how: dict[str, Any]) -> float:
    left = count_missing_views(features, division, **how)
    ids, done, seconds, warm = features.ids.tolist(), 0, 0.0, False
    size = timed_at_once(division.encoder, how["device"])
    for start in range(0, len(ids), size):
        if not left or done >= TIMED_VIEWS or seconds > TIMED_SECONDS:
            break
        some = features.select(ids[start : start + size])
        missing = count_missing_views(some, division, **how)
        if missing:
            began = time.perf_counter()
            image_source(some, division, **how)
            left -= missing
            if warm:
                done, seconds = done + missing, seconds + time.perf_counter() - began
            warm = True
    return left * seconds / done if done else 0.0


def timed_at_once(encoder: Encoder, device: str) -> int:
    """Number of images that are encoded at a time to measure the rate: on a GPU a whole batch.

    A batch of fewer images takes as long there.
    """
    kind = device_kind(encoder, device)
    return TIMED_AT_ONCE if kind == "cpu" else max(TIMED_AT_ONCE, encoder.batch(kind))


def build_division(config: StudyConfig, encoder: Encoder) -> Division:
    """Division of a run's encoder into frozen and trained blocks."""
    return Division(encoder, config.weights_of(encoder.name), config.trainable_blocks)


def check_disk_space(
    prepared: PreparedRun, encoders: Mapping[str, Encoder], *, cache: Path, device: str
) -> list[str]:
    """One sentence for each encoder whose activations ``represent`` will keep on disk.

    It is empty for a frozen encoder, or if nothing is left to keep.

    Raises:
        DataError: the disk has too little free space.
    """
    config = prepared.config
    if not config.trainable_blocks:
        return []
    make_cache_folder(cache)
    views = build_views(config, build_ranges(config, prepared.data))
    notes = [
        describe_disk_space(
            prepared.data.features,
            build_division(config, encoders[name]),
            cache=cache,
            device=device,
            views=views,
        )
        for name in config.encoders
    ]
    return [text for text in notes if text]


def audit_run_embeddings(
    prepared: PreparedRun, embeddings: Sources, cache: Path | None = None
) -> tuple[str, ...]:
    """Audit the data by their embeddings, once for each run, and keep the warnings in the run.

    Of several encoders the first is used, since pixels confirm cropped copies anyway.

    Args:
        prepared: the run.
        embeddings: embeddings of the run.
        cache: folder that keeps the warnings of these data and embeddings; None uses no cache.

    Returns:
        The new warnings; empty if the run was audited before.
    """
    if prepared.folder.has_embedding_audit():
        return ()
    first = source_of(embeddings, prepared.config.encoders[0])
    first = first.embeddings if isinstance(first, TrunkSource) else first
    if len(prepared.data) > MOST_IMAGES:
        found: tuple[str, ...] = (
            "cropped copies under two patients were not searched for: there are "
            f"{len(prepared.data):,} images, and the search takes at most {MOST_IMAGES:,}",
        )
    elif cache and isinstance(first, Embeddings):
        tested = [sorted(study.test_patients) for study in prepared.studies]
        of = {"data": prepared.data.fingerprint, "embeddings": first.name, "tested": tested}
        found = cached_warnings(cache, lambda: _find_overlaps(prepared, first), **of)
    else:
        found = _find_overlaps(prepared, first)
    prepared.folder.add_embedding_audit(found)
    return found


def _find_overlaps(prepared: PreparedRun, embeddings: ImageSource) -> tuple[str, ...]:
    data = prepared.data
    tested = [study.test_patients for study in prepared.studies if study.test]
    return audit_embeddings(data, embeddings.pooled(data.ids.tolist()), tested)
