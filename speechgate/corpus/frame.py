"""What all corpora share but `prompts`, which has a source and a report of its own.

A corpus gives a reader of its lists; from there recordings are converted, cuts judged and manifests written as a
stream, so that memory does not grow with the audio.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from speechgate.corpus.archives import Archive, fetch_archives, is_fetched, is_web
from speechgate.corpus.audio import convert_all
from speechgate.corpus.lists import lists_digest
from speechgate.corpus.splits import SPLITS
from speechgate.corpus.stream import counting, recordings, stream_cuts
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ConfigError, DownloadError, ManifestError
from speechgate.files import write_json
from speechgate.manifests.cuts import open_manifest
from speechgate.manifests.gate import open_gate
from speechgate.manifests.index import index_manifest
from speechgate.manifests.leaks import Repeats, find_leaks
from speechgate.manifests.quality import Quality, load_quality
from speechgate.manifests.quality_report import quality_table, write_page
from speechgate.shard import Shard, cores
from speechgate.text.tokenizer import Units

SCHEMA = 1
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@dataclass(frozen=True)
class Corpus:
    """One corpus, with the verbs that the recipe calls.

    ``read`` yields the utterances of a tree, those of one recording next to each other.  ``lacks`` names what a
    complete tree would have and this one has not.  ``steps`` tell how a person gets the corpus.  ``lists`` are glob
    patterns, below the root, of all that ``read`` reads but the recordings.  Splits beyond train, dev and test get
    manifests that nothing uses by default.  ``targets`` are the languages that ST is trained into, empty for all that
    there are; ``units`` and ``vocab_size`` are those of its tokens.  ``archives`` gives what "web:de,it" fetches, for a
    corpus whose licence and publisher allow it.
    """

    name: str
    read: Callable[[Path], Iterator[Utterance]]
    lacks: Callable[[Path], list[str]]
    steps: str
    lists: tuple[str, ...]
    splits: tuple[str, ...] = SPLITS
    targets: tuple[str, ...] = ()
    units: Units = "unigram"
    vocab_size: int = 5000
    archives: Callable[[str], list[Archive]] | None = None

    def home(self, data_dir: Path | str) -> Path:
        return Path(data_dir) / self.name

    def manifest_paths(self, data_dir: Path | str) -> dict[str, Path]:
        """Where `prepare` puts the manifest of each split."""
        return {split: self.home(data_dir) / f"cuts_{split}.jsonl.gz" for split in self.splits}

    def download(self, data_dir: Path | str, source: str = "auto") -> Path:
        """Find the corpus at ``source``, or in data/<corpus>/source for "auto", and remember where it is.

        "web" or "web:de,it" fetches it there first, going on where an earlier call broke off.

        Raises:
            ConfigError: ``source`` is no folder, or names something that the corpus has not.
            DownloadError: it cannot be fetched, is not there or not complete; the message has the steps to get it.
        """
        root = self._root(data_dir, source)
        if is_web(source) and fetch_archives(self._archives(source), self._store(data_dir), root):
            (self.home(data_dir) / "report.json").unlink(missing_ok=True)  # what was prepared lacks what is new
        if missing := self.lacks(root):
            raise DownloadError(
                f"{self.name} is not complete: {root} lacks {', '.join(missing[:5])}"
                f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}. {self.steps}"
            )
        write_json(self._record(data_dir), {"root": str(root)})
        return root

    def is_downloaded(self, data_dir: Path | str, source: str = "auto") -> bool:
        """Whether the corpus at ``source`` is the remembered one and complete; "auto" is any remembered one."""
        try:
            root = self._downloaded(data_dir)
        except DownloadError:
            return False
        if is_web(source):
            store = self._store(data_dir)
            if not all(is_fetched(archive, store, root) for archive in self._archives(source)):
                return False
        return (source == "auto" or root == self._root(data_dir, source)) and not self.lacks(root)

    def is_prepared(self, data_dir: Path | str) -> bool:
        """Whether all manifests are there, made from this source, its lists as they are, with these thresholds.

        A source that is gone has not changed.
        """
        try:
            report = json.loads((self.home(data_dir) / "report.json").read_text(encoding="utf-8"))
            inputs, made_from = self._inputs(data_dir), report["made_from"]
            made = report["schema"] == SCHEMA and all(made_from.get(key) == value for key, value in inputs.items())
        except (OSError, ValueError, KeyError, DownloadError):
            return False
        return made and all(path.is_file() for path in self.manifest_paths(data_dir).values())

    def convert(self, data_dir: Path | str, shard: Shard, workers: int | None = None) -> None:
        """Convert each ``shard.count``-th recording, in which `prepare`, on any machine, then finds its work done.

        Raises:
            DownloadError, ManifestError, OSError: as `prepare`.  A recording that cannot be read is left to it.
        """
        root, home = self._downloaded(data_dir), self.home(data_dir)
        jobs = islice(recordings(self.read(root), root, home), shard.index, None, shard.count)
        with counting("converting", "recordings") as count:
            for _ in convert_all(jobs, workers or cores(), reuse=True):
                count(1)

    def prepare(self, data_dir: Path | str, workers: int | None = None) -> dict[str, Path]:
        """Convert the recordings and write manifests, report.json, report.html and quarantine.jsonl.

        A broken-off preparation goes on where it was: recordings converted already are kept.

        Raises:
            DownloadError: the corpus has not been downloaded.
            ManifestError: a list is damaged, nothing is usable for training, or more is bad than allowed (the report
                is written then, the manifests are not).
            OSError: a file cannot be written.
        """
        home, paths, inputs = self.home(data_dir), self.manifest_paths(data_dir), self._inputs(data_dir)
        root, quality = self._downloaded(data_dir), self.quality
        (home / "report.json").unlink(missing_ok=True)  # it says that all else is there, so it comes last
        with open_gate(quality, home / "quarantine.jsonl") as gate, ExitStack() as manifests:
            write = {split: manifests.enter_context(open_manifest(path)) for split, path in paths.items()}
            repeats = Repeats()
            for split, cut in stream_cuts(self.read(root), root, home, gate, workers or cores()):
                if gate.passes(cut, split):
                    repeats.add(cut, split)
                    write[split](cut)
            section = {"schema": SCHEMA, "corpus": self.name, **gate.plain()}
            section["repeated_texts"] = repeats.repeated_texts()
            write_page(home / "report.html", section)
            gate.check_share(self.name, home / "report.html")
            for split, count in repeats.repeated_ids().items():
                if count:
                    raise ManifestError(f"{self.name}: {count} ids occur twice in {split} of {root}")
            if not any(split == "train" for _, split in gate.amounts):
                raise ManifestError(f"nothing usable for training in {root}: see {home / 'report.html'}")
        for path in paths.values():
            index_manifest(path)  # now, so that a training need not
        section["leaks"] = find_leaks({split: [path] for split, path in paths.items()})
        write_page(home / "report.html", section)
        write_json(home / "report.json", {**section, "made_from": inputs})
        return paths

    def summary(self, data_dir: Path | str) -> Table:
        """The counts of the last preparation."""
        return quality_table(json.loads((self.home(data_dir) / "report.json").read_text(encoding="utf-8")))

    def counts(self, data_dir: Path | str) -> dict[str, dict[str, float]]:
        """Utterances and hours of the last preparation by language; empty before the first."""
        path = self.home(data_dir) / "report.json"
        if not path.is_file():
            return {}
        languages = json.loads(path.read_text(encoding="utf-8"))["languages"]
        return {
            language: {
                f"{split} {what}": amount[what] for split, amount in splits.items() for what in ("utterances", "hours")
            }
            for language, splits in languages.items()
        }

    @property
    def quality(self) -> Quality:
        return load_quality(RECIPES / self.name / "conf" / "quality.yaml")

    def _inputs(self, data_dir: Path | str) -> dict[str, Any]:
        """What decides the manifests, as plain values; without ``lists`` where the source is gone."""
        root = self._downloaded(data_dir)
        digest = lists_digest(root, (path for pattern in self.lists for path in root.glob(pattern)))
        inputs = {"root": str(root), "quality": asdict(self.quality)}
        return inputs if digest is None else {**inputs, "lists": digest}

    def _record(self, data_dir: Path | str) -> Path:
        return self.home(data_dir) / "source.json"

    def _root(self, data_dir: Path | str, source: str) -> Path:
        if source == "auto" or is_web(source):
            return (self.home(data_dir) / "source").resolve()
        if not Path(source).exists():
            raise ConfigError(
                f"source {source!r} of {self.name} does not exist: give the corpus's folder. {self.steps}"
            )
        return Path(source).resolve()

    def _store(self, data_dir: Path | str) -> Path:
        return self.home(data_dir) / "archives"

    def _archives(self, source: str) -> list[Archive]:
        if self.archives is None:
            raise ConfigError(f"{self.name} does not fetch itself. {self.steps}")
        return self.archives(source)

    def _downloaded(self, data_dir: Path | str) -> Path:
        try:
            return Path(json.loads(self._record(data_dir).read_text(encoding="utf-8"))["root"])
        except (OSError, ValueError, KeyError) as error:
            raise DownloadError(f"the corpus {self.name} is not in {data_dir}: run `download` first") from error
