"""Locks between processes, also of different hosts; the kernel lets them go when their holder ends, however it does.

Record locks, for they work over NFS, and the workers of a data loader, which may outlive a killed process by seconds,
do not inherit them.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from speechgate.errors import BusyError
from speechgate.files import naming


@contextmanager
def exclusive(path: Path, folder: Path, doing: str, advice: str) -> Iterator[None]:
    """Hold the lock file ``path`` during the block; its content tells who does: host, pid, start.

    Args:
        folder: what is locked, ``doing`` what the holder does there and ``advice`` what to do then, for the error.

    Raises:
        BusyError: another process holds it; the message names its host and pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        try:
            with naming(path):
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise BusyError(f"{folder} is in use: {_holder(handle.read(), doing)}; {advice}") from error
        handle.truncate(0)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat("T", "seconds")}
        handle.write(json.dumps(owner) + "\n")
        handle.flush()
        yield


def _holder(content: str, doing: str) -> str:
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']} {doing} since {owner['since']}"
    except ValueError:  # read between the other's truncation and its writing
        return f"another process, begun just now, {doing}"


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` during the block, after whoever holds it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        with naming(path):
            fcntl.lockf(handle, fcntl.LOCK_EX)
        yield
