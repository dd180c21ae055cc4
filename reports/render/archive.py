"""Zip archives, of which DOCX and XLSX files are made, without the time of their making."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip entry can carry
_PACKED = (".jpg", ".jpeg", ".png")  # deflating them again takes time and gains nothing


def _as_it_is(name: str, body: bytes) -> bytes:
    return body


def without_dates(archive: bytes, edit: Callable[[str, bytes], bytes] = _as_it_is) -> bytes:
    """Copy of a zip archive without the times of its entries.

    Args:
        edit: function of an entry's name and contents that returns its new contents.
    """
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(archive)) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            fresh = zipfile.ZipInfo(entry.filename, _EPOCH)
            packed = entry.filename.endswith(_PACKED)
            fresh.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            fresh.external_attr = entry.external_attr
            new.writestr(fresh, edit(entry.filename, old.read(entry.filename)))
    return target.getvalue()
