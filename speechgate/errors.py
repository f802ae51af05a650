"""The errors that users can cause: each says what is wrong, where, and what to do.

Anything else that is raised is a bug.  The command line prints these as one line and exits with status 2.
"""


class SpeechgateError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(SpeechgateError):
    """A wrong option: unknown key, task, language or corpus, or two options that exclude each other."""


class ManifestError(SpeechgateError):
    """A manifest, transcript or cut that cannot be used; the message names the file or the cut id."""


class AudioError(SpeechgateError):
    """A recording that cannot be read or is not what its manifest says; the message names the file."""


class DownloadError(SpeechgateError):
    """A corpus archive that could not be fetched, or whose checksum differs."""


class CheckpointError(SpeechgateError):
    """A checkpoint that is missing, damaged, or belongs to another model; the message names the keys."""


class BusyError(SpeechgateError):
    """A folder that another process works in; the message names its host and pid."""


class TrainingError(SpeechgateError):
    """A training that cannot go on: numbers that are not finite, or no memory left; the message names the cuts."""


class Stopped(SpeechgateError):  # noqa: N818  (nothing went wrong)
    """A run that a signal ended in good order; ``signal`` is its number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
