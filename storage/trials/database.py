"""Database of trials: its URL without the password, and retries while the server restarts."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import (
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)

from outerfold.storage.errors import DataError, first_line

_log = logging.getLogger("outerfold")

T = TypeVar("T")

DATABASE_SECONDS = 300.0
"""Seconds for which a run waits for a database that does not answer."""


def without_password(url: str) -> str:
    """Database URL, or a command with it, with ``***`` for the password, to be printed and kept.

    Example:
        >>> without_password("postgresql://me:secret@host/db?sslpassword=other&x=1")
        'postgresql://me:***@host/db?sslpassword=***&x=1'
    """
    named = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", url)
    return re.sub(
        r"([?&][^=&\s]*(?:passw(?:or)?d|pwd|passphrase|secret|token)=)[^&\s'\"]*", r"\1***", named
    )


def retry(call: Callable[[], T], seconds: float = DATABASE_SECONDS) -> T:
    """Return the result of ``call``, which is repeated each second while the database is silent.

    Raises:
        DataError: the database did not answer for ``seconds``.
    """
    until, warned = time.monotonic() + seconds, False
    while True:
        try:
            return call()
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            # A dropped connection may show first when the transaction on it is taken up again.
            if not isinstance(cause, (OperationalError, InterfaceError, PendingRollbackError)):
                raise
            reason = first_line(cause)
            if time.monotonic() > until:
                raise DataError(
                    f"--storage: the database has not answered for {seconds:.0f} s ({reason}); "
                    "ended trials are kept: start the database, and give the same command again"
                ) from None
        if not warned:
            _log.warning("the database of the trials does not answer (%s); trying again", reason)
        warned = True
        time.sleep(1.0)
