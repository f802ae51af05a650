"""The command line: parse, compose, call."""

import logging
import os
import sys
import warnings

from speechgate.cli import corpora, stages, models, tools, whisper  # isort: skip (the order of --help)
from speechgate.cli.options import app
from speechgate.errors import SpeechgateError, Stopped

__all__ = ["app", "corpora", "main", "models", "stages", "tools", "whisper"]


def main() -> None:
    """Entry point: user errors become one line on standard error and exit status 2."""
    # Large tensors on huge pages, which PyTorch looks up before its first: a process otherwise spends much of its time
    # on being given small ones, such as 36,000 for the CTC head's output of 30 s and 50,002 tokens.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from speechgate.decoding.memory import BatchHalvedWarning
    from speechgate.decoding.search.compiler import NoCompilerWarning

    warnings.filterwarnings("ignore")
    for said_once in (BatchHalvedWarning, NoCompilerWarning):
        warnings.filterwarnings("once", category=said_once)
    logging.disable(logging.WARNING)
    try:
        app()
    except Stopped as stop:
        print(f"speechgate: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(130)
    except SpeechgateError as error:
        print(f"speechgate: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"speechgate: {what}", file=sys.stderr)
        sys.exit(2)


def _one_line(error: SpeechgateError) -> str:
    """The message.  An error from a worker of a data loader has that process's traceback before it."""
    message = str(error).strip()
    if "Original Traceback" in message:
        message = message.rpartition(f"{type(error).__qualname__}: ")[2]
    return " ".join(message.split())
