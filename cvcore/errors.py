"""Errors whose message is one sentence a user can act on: the rule, what was received, what to do."""


class CvcoreError(Exception):
    """Base of every error meant for a user; its text is shown as it is, never a traceback."""


class InvalidRecipe(CvcoreError):
    """A recipe breaks a rule."""


class DatasetError(CvcoreError):
    """A dataset cannot be used as it is."""


class RunNotFound(CvcoreError):
    """No run with this id."""


class RunDamaged(CvcoreError):
    """A run directory whose run.json cannot be read."""


class WeightsNotFound(CvcoreError):
    """Pretrained weights are neither here nor to be had."""


class StoppedOnRequest(CvcoreError):
    """A run was asked to stop; what it has is kept."""


class SupersededAttempt(CvcoreError):
    """A newer attempt at the same run has taken over; this one must not write any more."""


class InvalidHistory(CvcoreError):
    """A history saved elsewhere cannot be taken over."""


class NotAllowed(CvcoreError):
    """Only its owner or a teacher may do this with a run."""


class LineFull(CvcoreError):
    """An owner has as many launches waiting as one may have."""


class TooLarge(CvcoreError):
    """A run would take more memory than there is."""


class AlreadyThere(CvcoreError):
    """The same run is done, training or waiting.

    Attributes:
        run_id: that run.
        status: its status.
    """

    def __init__(self, message: str, run_id: str, status: str) -> None:
        super().__init__(message)
        self.run_id, self.status = run_id, status
