"""One training at a time in a folder."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from speechgate.errors import CheckpointError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` during the block; its content tells who does: host, pid, start.

    The kernel lets the lock go when the process ends, however it does.  A record lock is not inherited by the workers
    of a data loader, which may outlive a killed process by seconds, and it works over NFS between hosts.

    Raises:
        CheckpointError: another process holds it; the message names its host and pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise CheckpointError(_held(path, handle.read())) from error
        handle.truncate(0)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat("T", "seconds")}
        handle.write(json.dumps(owner) + "\n")
        handle.flush()
        yield


def _held(path: Path, content: str) -> str:
    try:
        owner = json.loads(content)
        who = f"process {owner['pid']} on {owner['host']} trains there since {owner['since']}"
    except ValueError:  # read between the other's truncation and its writing
        who = "another process has just begun to train there"
    return f"{path.parent.parent} is in use: {who}; wait for it, stop it, or choose another by --set name=..."
