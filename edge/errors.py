"""Errors a user can mend: each names the fact and the remedy."""

from __future__ import annotations


class EdgeError(Exception):
    """Something a user can mend. The command prints `message`, then `remedy`, and exits 1.

    message: the fact, one sentence without a full stop. remedy: what to do about it, likewise.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class PictureError(EdgeError):
    """A picture that cannot be screened: unreadable, cut short, of an unknown kind, too large."""


class DataError(EdgeError):
    """A data set that cannot be used as it is: missing, malformed, leaking."""


class RecipeError(EdgeError):
    """A recipe with an unknown key, a value out of range, or a contradiction."""


class BundleError(EdgeError):
    """A bundle that must not be used: damaged, altered, of an unknown schema."""


class InterpreterError(EdgeError):
    """No interpreter here, or one that refuses the model."""


class DelegateError(EdgeError):
    """A delegate that was asked for in a way that cannot be understood."""


class CameraError(EdgeError):
    """A camera that is not there, may not be opened, or gives nothing that can be screened."""


class StoreError(EdgeError):
    """A site's file of known cases that cannot be used: damaged, another network's, not writable, in use."""


class StreamError(EdgeError):
    """Nobody reads standard output any more."""


class GateError(EdgeError):
    """A network that missed a gate of its recipe; the bundle is not made."""
