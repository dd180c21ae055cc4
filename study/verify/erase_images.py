"""Removal of images from the cache: squares, embeddings, and tables that name them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from outerfold.pipelines.augmentation.views import STYLES, augmentation_key
from outerfold.pipelines.images.embeddings import row_name
from outerfold.storage.cache.inventory import list_stores
from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.images.read import content_hash

MOST_VIEWS = 64
"""Views of an image whose embeddings are looked for; searches use at most 16."""
FOLDERS = ("tables", "audits")
"""Folders of the cache whose files name images."""


def erase_images(cache: Path, ids: Sequence[str], images: Sequence[str], whole: set[str]) -> int:
    """Remove all that the cache holds of some images; return the number of erased rows.

    Args:
        cache: folder of the cache.
        ids: names of the images in their data set.
        images: their files; the hashes of those that are gone are read from the cache's tables.
        whole: names of all images of the data set, by which its tables are known.
    """
    gone = set(ids)
    contents = {content_hash(path) for path in images if Path(path).is_file()}
    for path in (cache / "tables").glob("*.json"):
        held = _contents_of(path)
        if set(held) == whole:
            contents |= {held[name] for name in gone}
    erased = 0
    if contents:
        keys = [augmentation_key(style) for style in STYLES]
        views = [
            row_name(content, view, key)
            for content in sorted(contents)
            for key in keys
            for view in range(1, MOST_VIEWS)
        ]
        for store in list_stores(cache):
            erased += RowCache.reopen(cache / store.name).erase([*sorted(contents), *views])
    _remove_named(cache, gone)
    return erased


def _contents_of(path: Path) -> dict[str, str]:
    """Hash of each image's content by its id in a table of embeddings; empty for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["contents"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(found)


def _remove_named(cache: Path, ids: set[str]) -> None:
    """Remove files that name one of the images; they are computed anew when they are needed."""
    words = {json.dumps(name)[1:-1] for name in ids}
    for folder in FOLDERS:
        for path in (cache / folder).glob("*.json"):
            text = path.read_text(encoding="utf-8", errors="replace")
            if any(word in text for word in words):
                path.unlink()
