"""From options to a run directory that workers can be let loose on."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from filelock import FileLock, Timeout

from pipelines.embedded import Embeddings
from pipelines.encoders._base import Encoder
from pipelines.encoders.divide import divide
from pipelines.encoders.registry import build
from pipelines.rows import ByEncoder, ImageSource, Sources, source_of
from pipelines.trunk_source import Division, TrunkSource, image_source, room_for
from storage.audit import audit, audit_embeddings
from storage.framing import Framing
from storage.overlaps import MANY
from storage.readers.read import read
from storage.records import DataError, Dataset, OuterFold
from storage.run_folder import RunFolder
from storage.trials import discard_interrupted, mend, unlock
from study.config import StudyConfig
from study.known import known
from study.session import ranges_of, tokens_needed, views_of
from study.ship import encoder_card, write_encoder_cards
from study.sources import Source
from study.splits import Splits, flat, split

ORPHANS_GONE_SECONDS = 1.5
"""Workers of a killed driver end themselves well within this."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A run that may begin or go on."""

    folder: RunFolder
    config: StudyConfig
    data: Dataset
    studies: tuple[OuterFold, ...]


def default_run(config: StudyConfig, name: str) -> Path:
    """``runs/TASK-DATA-HASH``: the same options find the same run again, others another one."""
    digest = hashlib.sha256(tomli_w.dumps(config.to_toml()).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    prefix = config.task if not slug.startswith(config.task) else ""
    return Path("runs") / "-".join(filter(None, (prefix, slug, digest)))


def read_source(source: Source, config: StudyConfig) -> Dataset:
    """The rows of a run as its options want them."""
    return read(
        source.path, task=config.task, classes=config.classes,  # type: ignore[arg-type]
        positive=config.positive or None, columns=config.columns,
        patient_regex=config.patient_regex or None, name=source.name,
    )  # fmt: skip


def hold(path: Path) -> FileLock:
    """Make and lock a run directory, for as long as the returned lock lives.

    Raises:
        DataError: it cannot be written, or another process works on it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"--run {path}: another process is working on this run; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise DataError(
            f"--run {path}: cannot be written ({error.strerror}); name another folder with --run"
        ) from None
    return lock


def begin(
    folder: RunFolder, config: StudyConfig, data: Dataset, cache: Path | None = None
) -> Ready:
    """Start a run, or take up one that was started with the same options on the same data.

    Args:
        cache: keeps what was found of these data; None audits them anew.

    Raises:
        DataError: the data do not pass the audit, cannot be split, or are other data or options
            than the run was started with.
    """
    if folder.started():
        _refuse_changes(folder, config, data)
        return Ready(folder, config, data, folder.read_splits(data))
    ranges_of(config, data)
    folds = {"outer_folds": config.outer_folds, "inner_folds": config.inner_folds}

    def find() -> tuple[str, ...]:
        found = audit(data, **folds)
        found.require()
        return found.warnings

    warnings = known(cache, find, data=data.fingerprint, **folds) if cache else find()
    return lay_out(folder, config, data, cut(config, data), warnings)


def lay_out(
    folder: RunFolder, config: StudyConfig, data: Dataset, splits: Splits,
    warnings: Sequence[str] = (),
) -> Ready:  # fmt: skip
    """Write what a run directory begins with; ``warnings`` are the audit's."""
    studies = splits.outer if config.final == "ensemble" else splits.studies
    folder.write_dataset(data, warnings)
    folder.write_splits(studies, splits.attempts, data.fingerprint)
    folder.write_config(config.to_toml())  # last: it says that all the rest is there
    return Ready(folder, config, data, studies)


def cut(config: StudyConfig, data: Dataset) -> Splits:
    """The divisions that the options ask for; a refused one raises ``DataError``."""
    if config.protocol == "non-nested":
        return flat(data, folds=config.outer_folds, seed=config.seed)
    return split(
        data, outer_folds=config.outer_folds, inner_folds=config.inner_folds,
        repeats=config.repeats, seed=config.seed,
    )  # fmt: skip


def repair(folder: RunFolder, say: Callable[[str], None], url: str | None = None) -> None:
    """Make the trials of a killed run fit to go on: a torn line cut, unended trials taken out.

    Args:
        url: of the database that holds the trials; None for the run's journal.
    """
    if url is None and not (folder.journal.exists() and folder.journal.stat().st_size):
        return
    if url is None:
        unlock(folder.journal)
        backup = mend(folder.journal)
        if backup is not None:
            say(f"the journal's last line was torn and was cut off; the original is {backup.name}")
    time.sleep(ORPHANS_GONE_SECONDS)
    for study, count in discard_interrupted(folder, url).items():
        say(f"{study}: {count} interrupted trial(s) will be run again")


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
    ready: Ready, encoders: Mapping[str, Encoder], *, cache: Path, device: str,
    progress: Callable[[int, int], None],
) -> Sources:  # fmt: skip
    """``embed_rows``, and the run directory says by which encoders.

    Args:
        encoders: by name, those of the run among them.
    """
    config = ready.config
    used = [encoders[name] for name in config.encoders]
    cards = [encoder_card(encoder, config.weights_of(encoder.name)) for encoder in used]
    write_encoder_cards(ready.folder, cards)
    return embed_rows(ready, encoders, cache=cache, device=device, progress=progress)


def embed_rows(
    ready: Ready, encoders: Mapping[str, Encoder], *, cache: Path, device: str,
    progress: Callable[[int, int], None],
) -> Sources:  # fmt: skip
    """Frozen representations of every image a search may read; computed once, kept in ``cache``."""
    used = [encoders[name] for name in ready.config.encoders]
    found = [_by(ready, encoder, cache=cache, device=device, progress=progress) for encoder in used]
    if len(found) == 1:
        return found[0]
    return ByEncoder(tuple(zip(ready.config.encoders, found, strict=True)))


def _by(
    ready: Ready, encoder: Encoder, *, cache: Path, device: str,
    progress: Callable[[int, int], None],
) -> Embeddings | TrunkSource:  # fmt: skip
    """What one encoder says of the images, with activations where blocks of it are trained."""
    config, features = ready.config, ready.data.features
    ranges = ranges_of(config, ready.data)
    views, tokens = views_of(config, ranges), tokens_needed(config, ranges)
    return image_source(
        features, division_of(config, encoder), cache=cache, views=views, tokens=tokens,
        device=device, progress=progress,
    )  # fmt: skip


def division_of(config: StudyConfig, encoder: Encoder) -> Division:
    """Where an encoder of a run is cut."""
    return Division(encoder, config.weights_of(encoder.name), config.trainable_blocks)


def room(ready: Ready, encoders: Mapping[str, Encoder], *, cache: Path, device: str) -> list[str]:
    """What ``represent`` will keep of trainable tails' trunks, in words; none for nothing.

    Raises:
        DataError: the disk lacks room for it.
    """
    config = ready.config
    if not config.trainable_blocks:
        return []
    cache.mkdir(parents=True, exist_ok=True)
    views = views_of(config, ranges_of(config, ready.data))
    said = [
        room_for(
            ready.data.features, division_of(config, encoders[name]), cache=cache, device=device,
            views=views,
        )
        for name in config.encoders
    ]  # fmt: skip
    return [text for text in said if text]


def audit_represented(
    ready: Ready, embeddings: Sources, cache: Path | None = None
) -> tuple[str, ...]:
    """What only representations show of the data; looked for once a run, and kept in it.

    Of several encoders the first is asked: cropped copies are confirmed by their pixels anyway.

    Args:
        cache: keeps what was found of these data in these embeddings; None looks anew.

    Returns:
        The new warnings; none where the run was audited before.
    """
    if ready.folder.audited_embeddings():
        return ()
    first = source_of(embeddings, ready.config.encoders[0])
    first = first.embeddings if isinstance(first, TrunkSource) else first
    if len(ready.data) > MANY:
        found: tuple[str, ...] = (
            f"cropped copies under two patients were not looked for among {len(ready.data):,} "
            f"images; the search is for {MANY:,} at most",
        )
    elif cache and isinstance(first, Embeddings):
        of = {"data": ready.data.fingerprint, "embeddings": first.name}
        found = known(cache, lambda: _overlaps(ready.data, first), **of)
    else:
        found = _overlaps(ready.data, first)
    ready.folder.add_audit(found)
    return found


def _overlaps(data: Dataset, embeddings: ImageSource) -> tuple[str, ...]:
    return audit_embeddings(data, embeddings.pooled(data.ids.tolist()))


def _refuse_changes(folder: RunFolder, config: StudyConfig, data: Dataset) -> None:
    changes = config.changes_from(StudyConfig.from_toml(folder.read_config()))
    if changes:
        raise DataError(
            f"--run {folder.path}: was started with other options ({'; '.join(changes)}); give "
            "those again, or another --run"
        )
    before = folder.read_dataset()
    if before.fingerprint != data.fingerprint:
        raise DataError(
            f"--run {folder.path}: was started on other data ({_data_change(before, data)}); "
            "restore them, or give another --run"
        )


def _data_change(before: Dataset, now: Dataset) -> str:
    was, now_ids = set(before.ids.tolist()), set(now.ids.tolist())
    gone, new = sorted(was - now_ids), sorted(now_ids - was)
    parts = [
        f"{len(names)} images {verb}, such as {names[0]}"
        for verb, names in (("are gone", gone), ("are new", new))
        if names
    ]
    if not parts:
        both = before.select(now.ids.tolist())
        labels = int((both.labels != now.labels).sum())
        patients = int((both.patients != now.patients).sum())
        parts = [
            f"{count} {what} changed"
            for what, count in (("labels", labels), ("patients", patients))
            if count
        ]
    return ", ".join(parts) or "the contents of images or columns changed"
