"""Pack the recordings of a manifest into lhotse Shar: FLAC in tar files, a thousand recordings each.

A corpus of millions of small files burdens a cluster's file system, and reading them in random order more so.  In the
shards of a large manifest the recordings of each language lie in the random order in which a training asks for them.
"""

import json
import math
import multiprocessing
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import batched, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

from lhotse.cut import MonoCut
from lhotse.shar import SharWriter
from rich.progress import track

from speechgate.data.batch import load_audio
from speechgate.data.shar import Place, at_place
from speechgate.errors import ManifestError
from speechgate.files import atomic_path, write_json
from speechgate.manifests.cuts import is_packed, read_cuts, write_cuts
from speechgate.manifests.index import LARGE, index_manifest

SHARD_CUTS = 1_000


def pack(manifest: Path, workers: int = 1, shard_cuts: int = SHARD_CUTS, large: int = LARGE) -> Path:
    """Write the shards of a manifest and then the manifest anew, with each recording's place in them.

    Ids, texts and, of a small manifest, the order stay.  What was interrupted goes on with the shards that are missing;
    a packed manifest is left as it is.

    Returns:
        the folder of the shards, data/<corpus>/shar/<split>; of a large manifest, with a folder for each language.

    Raises:
        ManifestError: no manifest, or a cut is not what it should be.
        AudioError: a recording cannot be read.
    """
    folder = manifest.parent / "shar" / manifest.name.removesuffix(".jsonl.gz").removeprefix("cuts_")
    index = index_manifest(manifest, large)
    if is_packed(manifest):
        return folder
    scratch = _begin(manifest, folder, shard_cuts)
    groups = {folder / language: path for language, path in index.shards.items()} or {folder: manifest}
    jobs = (
        (cuts, target, number)
        for target, path in groups.items()
        for number, cuts in enumerate(batched(read_cuts(path), shard_cuts))
        if not _cuts_path(target, number).is_file()
    )
    shown = track(jobs, "packing", total=math.ceil(index.cuts / shard_cuts))  # or some more: a last one a language
    if workers == 1:
        for job in shown:
            _write_shard(*job, scratch)
    else:
        # As in speechgate.corpus.audio: forking a process that holds threads may hang the child.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for some in batched(shown, 4 * workers):
                list(pool.map(_write_shard, *zip(*some, strict=True), repeat(scratch)))
    shutil.rmtree(scratch)
    write_cuts((cut for target in groups for cut in _placed(target)), manifest)
    return folder


def _begin(manifest: Path, folder: Path, shard_cuts: int) -> Path:
    """Make room, keeping the shards that an interrupted call made of this very manifest; returns a scratch folder."""
    status = manifest.stat()
    made_from = {"bytes": status.st_size, "time_ns": status.st_mtime_ns, "shard_cuts": shard_cuts}
    record = folder.with_name(f"{folder.name}.json")
    if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(record, made_from)
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return scratch


def _cuts_path(folder: Path, number: int) -> Path:
    """The one of a shard's two files that is there last."""
    return folder / f"cuts.{number:06d}.jsonl.gz"


def _tar_path(folder: Path, number: int) -> Path:
    return folder / f"recording.{number:06d}.tar"


def _write_shard(cuts: Sequence[MonoCut], folder: Path, number: int, scratch: Path) -> None:
    with TemporaryDirectory(dir=scratch) as temporary:
        writer = SharWriter(
            temporary, {"recording": "flac"}, shard_size=None, shard_suffix=f".{number:06d}", warn_unused_fields=False
        )
        with writer:
            for cut in cuts:
                try:
                    writer.write(cut)
                except Exception:  # of whichever decoder lhotse tried last
                    load_audio(cut)  # which says what is wrong with the recording, if that is it
                    raise
        for path in (_tar_path(folder, number), _cuts_path(folder, number)):
            with atomic_path(path) as place:
                os.replace(Path(temporary) / path.name, place)


def _placed(folder: Path) -> Iterator[MonoCut]:
    """The cuts of all shards in a folder, each with its place.

    Raises:
        ManifestError: a shard's two files do not belong together.
    """
    for number in range(len(list(folder.glob("cuts.*.jsonl.gz")))):
        path = _tar_path(folder, number)
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.endswith(".flac")]
        cuts = list(read_cuts(_cuts_path(folder, number)))
        if [f"{cut.id}.flac" for cut in cuts] != [member.name for member in members]:
            raise ManifestError(f"{path} does not have the recordings of its cuts: remove {folder} and pack again")
        for cut, member in zip(cuts, members, strict=True):
            yield at_place(cut, Place(path, member.offset_data, member.size))
