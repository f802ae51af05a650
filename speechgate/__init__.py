"""speechgate: multilingual ASR and ST models that run only the modules a task needs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechgate.transcribe.transcriber import Transcriber

__all__ = ["Transcriber"]


def __getattr__(name: str) -> Any:
    """Load ``Transcriber`` when it is first asked for: torch and ESPnet take seconds."""
    if name != "Transcriber":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from speechgate.transcribe.transcriber import Transcriber

    return Transcriber
