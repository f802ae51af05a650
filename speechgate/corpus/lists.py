"""Reading the text files of corpora: plain lines and tables.

Lines end at a line feed only: str.splitlines would also cut at U+2028 and the like, which occur inside sentences and
would shift all parallel lines after them.
"""

import csv
import gzip
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from speechgate.errors import ManifestError

csv.field_size_limit(1 << 24)  # the default loses rows with whole speeches


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, without their ends and a byte-order mark.

    Raises:
        ManifestError: it is missing, cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"list {path} cannot be read: {error}") from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_parallel(*paths: Path) -> Iterator[tuple[str, ...]]:
    """Lines of files that belong together.

    Raises:
        ManifestError: one has more lines than another, as after a broken download.
    """
    files = [read_lines(path) for path in paths]
    for path, lines in zip(paths, files, strict=True):
        if len(lines) != len(files[0]):
            raise ManifestError(
                f"{path} has {len(lines)} lines, but {paths[0].name} beside it {len(files[0])}: fetch the corpus again"
            )
    return zip(*files, strict=True)


def read_table(path: Path, columns: Collection[str], delimiter: str = "\t") -> Iterator[Mapping[str, str]]:
    """The rows of a table with a header, .gz or not; a field that a row lacks is empty.  Quotes are letters.

    Raises:
        ManifestError: it is missing, cannot be read, or lacks one of ``columns``.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="\n") as lines:
            ended = (line.rstrip("\r\n") for line in lines)
            rows = csv.DictReader(ended, delimiter=delimiter, quoting=csv.QUOTE_NONE, restval="")
            if lacking := [column for column in columns if column not in (rows.fieldnames or ())]:
                raise ManifestError(f"{path} has no column {', '.join(lacking)}: another release, or not this corpus")
            yield from rows
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"table {path} cannot be read: {error}") from error


def lists_digest(root: Path, paths: Iterable[Path]) -> str | None:
    """A digest of the sizes and times of the files below ``root``, for a cheap look at whether they changed.

    None where none of them is there.
    """
    states = []
    for path in sorted(paths):
        if path.is_file():
            status = path.stat()
            states.append((path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16] if states else None


def absent(paths: Iterable[Path]) -> list[str]:
    """Those of ``paths`` that are not there or are empty, as text for a message."""
    return [str(path) for path in paths if not path.exists() or (path.is_file() and path.stat().st_size == 0)]
