"""``cpp/*.cpp`` compiled for this processor, once: the library is kept in the user's cache."""

import ctypes
import hashlib
import os
import shlex
import subprocess
import warnings
from functools import cache
from pathlib import Path

from speechgate.files import atomic_path

SOURCES = Path(__file__).with_name("cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
Address, Count = ctypes.c_void_p, ctypes.c_int64
ARGUMENTS = {
    "panel_width": (),
    "linear": (Address, Address, Count, Address, Count),
    "feed_forward": (Address, Address, Count, Address, Count),
    "attention": (Address, Address, Count, Count, Address, Count, Address, Address, Count),
    "ctc_scores": (Address, Address, Count, Address, Count),
    "ctc_advance": (Address, Address, Address, Count, Address, Address, Count),
}


class NoCompilerWarning(UserWarning):
    """There is no C++ compiler, or it cannot compile for this processor: decoding takes more time."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be compiled, which a ``NoCompilerWarning`` says once.

    The compiler is ``$CXX``, or ``c++``.  The library lies in ``$XDG_CACHE_HOME/speechgate`` (~/.cache/speechgate),
    named after all that it depends on: sources, flags, compiler, and what of the processor it makes use of.
    """
    try:
        functions = ctypes.CDLL(str(_compiled()))
    except (subprocess.CalledProcessError, OSError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        advice = "to have it compiled install a C++ compiler with OpenMP, or name it in CXX"
        warnings.warn(f"the search runs as PyTorch's operations: {advice} ({reason})", NoCompilerWarning, stacklevel=2)
        return None
    for name, arguments in ARGUMENTS.items():
        getattr(functions, name).argtypes = arguments
    return functions


def _compiled() -> Path:
    command = [*shlex.split(os.environ.get("CXX") or "c++"), *FLAGS]
    target = _run([*command, "-dM", "-E", "-x", "c++", os.devnull])  # macros of compiler and processor
    sources = sorted(SOURCES.iterdir())
    texts = [source.read_text() for source in sources]
    name = hashlib.sha256("\n".join([*texts, *command, target]).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speechgate"
    path = folder / f"search-{name}.so"
    if not path.is_file():
        with atomic_path(path) as temporary:
            _run([*command, *(str(source) for source in sources if source.suffix == ".cpp"), "-o", str(temporary)])
    return path


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
