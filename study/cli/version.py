"""Version of outerfold."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Version of the installed outerfold; ``(checkout)`` if it is not installed."""
    try:
        return version("outerfold")
    except PackageNotFoundError:
        return "(checkout)"
