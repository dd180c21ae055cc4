"""Refusals whose message is for people; loads nothing, so that ``--help`` need not wait."""


class DataError(ValueError):
    """The data break a rule; the message names the thing, the rule, what was found, what to do."""


class LeakError(DataError):
    """A row, a patient or a label is where it could flatter a score."""
