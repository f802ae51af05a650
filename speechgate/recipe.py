"""Where the files of a corpus and its experiments lie, and the training of one.

data/<corpus>/                      manifests, audio, tokens
exp/<corpus>/<experiment>/          a checkpoint; decode_<split>/ below it
exp/<corpus>/<tasks>/<experiment>/  the same for some tasks or languages only, such as asr_fra
recipes/<corpus>/pretrained/        the small dense checkpoint that comes with the recipe
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lhotse.cut import Cut

from speechgate.config import CONF_DIR, Experiment, choices, load_yaml, phases
from speechgate.corpus.known import CORPORA
from speechgate.data.tasks import has_task, parse_tasks, reference
from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import naming
from speechgate.manifests.index import LARGE, ManifestIndex, index_manifest
from speechgate.manifests.large import LargeCuts
from speechgate.manifests.view import CorpusView
from speechgate.runinfo import REPOSITORY
from speechgate.task import Task, to_iso3
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Tokenizer, Units
from speechgate.text.vocabulary import FILE as VOCABULARY

TOKENIZER_TEXTS = 200_000  # a task; large manifests come in a random order, so the first ones are a fair sample


@dataclass(frozen=True)
class Recipe:
    """One corpus with its folders, or a mix of several: ``corpus`` may be "europarl_st,covost2".

    A mix trains on all of them and keeps its results in exp/covost2+europarl_st.  Its held-out sets stay apart: they
    are the splits covost2_test, europarl_st_test and so on.
    """

    corpus: str
    data: Path = Path("data")
    exp: Path = Path("exp")

    def __post_init__(self) -> None:
        for name in self.corpora:
            choices("corpus", name, CORPORA)

    @property
    def corpora(self) -> list[str]:
        return sorted({name.strip() for name in self.corpus.split(",")})

    @property
    def name(self) -> str:
        return "+".join(self.corpora)

    @property
    def home(self) -> Path:
        return self.exp / self.name

    def home_of(self, kinds: Iterable[str] = (), languages: Iterable[str] = ()) -> Path:
        """The folder of the experiments on some tasks only: exp/<corpus>/asr_fra; ``home`` where all are wanted."""
        parts = [*(kind.replace(":", "_") for kind in kinds), *(to_iso3(code) for code in languages)]
        return self.home / "_".join(parts) if parts else self.home

    @property
    def tokens(self) -> Path:
        return self.data / self.name / "tokens"

    @property
    def pretrained(self) -> Path:
        return REPOSITORY / "recipes" / self.name / "pretrained"

    def held_out(self, split: str) -> list[str]:
        """The splits that ``split`` stands for: of a mix, one for each corpus that has it."""
        if len(self.corpora) == 1 or split not in self._splits:
            return [split]
        return [f"{name}_{split}" for name in self.corpora if split in CORPORA[name].manifest_paths(self.data)]

    @property
    def _splits(self) -> set[str]:
        return {split for name in self.corpora for split in CORPORA[name].manifest_paths(self.data)}

    def manifests(self, split: str) -> dict[str, Path]:
        """The manifests of a split by corpus.

        Raises:
            ConfigError: no corpus has it.
        """
        found = {}
        for name in self.corpora:
            for each, path in CORPORA[name].manifest_paths(self.data).items():
                if split in (each, f"{name}_{each}"):
                    found[name] = path
        if not found:
            known = self._splits | {each for own in self._splits for each in self.held_out(own)}
            choices("split", split, sorted(known))
        return found

    def _indexes(self, split: str, repeat: Mapping[str, int] | None = None) -> dict[str, ManifestIndex]:
        """The indexes of a split by corpus, without the corpora that come 0 times."""
        times = repeat or {}
        if unknown := set(times) - set(self.corpora):
            raise ConfigError(
                f"train.repeat: {unknown.pop()!r} is not trained on here, only: {', '.join(self.corpora)}"
            )
        used = {name: path for name, path in self.manifests(split).items() if times.get(name, 1)}
        if not used:
            raise ConfigError(f"train.repeat leaves out every corpus with the split {split!r}: keep one")
        return {name: index_manifest(path) for name, path in used.items()}

    def cuts(self, split: str, repeat: Mapping[str, int] | None = None) -> list[Cut] | LargeCuts:
        """The cuts of a split: in memory, or as a stream where they are many.

        Args:
            repeat: how often the cuts of a corpus come, by its name; once where it is not named, with 0 not at all.

        Raises:
            ConfigError: no such split, a corpus to repeat that is not trained on, or none that is left.
            ManifestError: the corpus is not prepared, or a cut is not what it should be.
        """
        indexes = self._indexes(split, repeat)
        views = [CorpusView(name, named=len(self.corpora) > 1) for name in indexes]
        times = [(repeat or {}).get(name, 1) for name in indexes]
        shown = views if any(view.changes_anything for view in views) else ()
        cuts = LargeCuts(list(indexes.values()), shown, times)
        return cuts if cuts.count > LARGE else list(cuts)

    def available_tasks(self, repeat: Mapping[str, int] | None = None) -> list[Task]:
        """ASR in every language of the training manifests (``repeat`` as in ``cuts``), and ST into their targets."""
        tasks = {
            task
            for name, index in self._indexes("train", repeat).items()
            for task in index.tasks
            if task.kind == "asr" or not CORPORA[name].targets or task.tgt in CORPORA[name].targets
        }
        return sorted(tasks)

    @property
    def is_prepared(self) -> bool:
        """Whether all corpora are prepared, and a mix after the last of them."""
        prepared = all(CORPORA[name].is_prepared(self.data) for name in self.corpora)
        return prepared and (len(self.corpora) == 1 or self.leaks.is_file())

    @property
    def leaks(self) -> Path:
        """Of a mix: what its corpora share.  Gone, as its tokens are, once one of them is prepared anew."""
        return self.data / self.name / "leaks.json"

    def tokenizer(self) -> Tokenizer:
        """The tokens of the training transcripts and translations; trained on first use."""
        if (self.tokens / "tokens.txt").is_file():
            return Tokenizer.load(self.tokens)
        tasks, cuts = self.available_tasks(), self.cuts("train")
        texts = [text for task in tasks for text in islice(texts_of(cuts, task), TOKENIZER_TEXTS)]
        units: Units = "unigram" if any(CORPORA[name].units == "unigram" for name in self.corpora) else "char"
        vocab_size = max(CORPORA[name].vocab_size for name in self.corpora)
        tokenizer = Tokenizer.train(texts, tasks, units, vocab_size, byte_fallback=units != "char")
        tokenizer.save(self.tokens)
        return tokenizer

    def vocabulary_of(self, folder: Path) -> Path:
        """Where the vocabulary of a checkpoint lies: beside it, or beside its results if it comes with the recipe."""
        return (self.home / "dense" if folder == self.pretrained else folder) / VOCABULARY

    def configurations(self, gated: bool = False) -> list[Path]:
        """What is trained by default: the phases of the dense model, or the gates on it.

        Those of a corpus are recipes/<corpus>/conf/{dense,gates}.yaml, of `prompts` conf/train/{dense,gates}.yaml, of a
        mix conf/train/corpus_{dense,gates}.yaml.
        """
        name = "gates" if gated else "dense"
        conf = REPOSITORY / "recipes" / self.name / "conf" / f"{name}.yaml"
        if not conf.is_file():
            general = name if self.name == "prompts" else f"corpus_{name}"
            conf = CONF_DIR / "train" / f"{general}.yaml"
        return [conf] if gated else phases(conf)

    def folder_of(self, experiment: str, kinds: Iterable[str] = (), languages: Iterable[str] = ()) -> Path:
        """The checkpoint of an experiment: the one for these tasks only, else that for all of them.

        "dense" is the recipe's pretrained model where none was trained here.

        Raises:
            CheckpointError: there is none; the message lists what there is.
        """
        places = [self.home_of(kinds, languages) / experiment, self.home / experiment]
        if experiment == "dense":
            places.append(self.pretrained)
        for folder in places:
            if (folder / "model.safetensors").is_file():
                return folder
        known = sorted(str(path.parent.relative_to(self.home)) for path in self.home.glob("**/model.safetensors"))
        raise CheckpointError(f"no checkpoint {places[0]}; trained here: {', '.join(known) or 'none'}")

    def checkpoint_of(self, name: str) -> Path:
        """The checkpoint folder that ``name`` is, or that of the experiment ``name``."""
        return Path(name) if (Path(name) / "config.yaml").is_file() else self.folder_of(name)

    def train(
        self,
        experiment: Experiment,
        kinds: Sequence[str] = (),
        languages: Sequence[str] = (),
        folder: Path | None = None,
        init: Path | None = None,
    ) -> Path:
        """Train one experiment; ``kinds`` and ``languages`` narrow its tasks down.  Returns the checkpoint's folder."""
        from speechgate.training.run import train  # here, because Lightning takes seconds to load

        repeat = experiment.train.repeat
        tasks = parse_tasks(kinds or experiment.tasks, languages, self.available_tasks(repeat))
        if experiment.init is not None and init is None:
            init = self.folder_of(experiment.init, kinds, languages)
        cuts: dict[str, Iterable[Cut]] = {
            "train": self.cuts("train", repeat),
            "dev": self.cuts("dev", {name: min(times, 1) for name, times in repeat.items()}),
        }
        folder = folder or self.home_of(kinds, languages) / experiment.name
        with naming(folder):
            return train(experiment, tasks, cuts, self.tokenizer(), folder, init)

    def dense_of(self, folder: Path) -> Path | None:
        """The dense checkpoint that the gates in ``folder`` were trained on; None where there are no gates.

        Raises:
            CheckpointError: it is gone.
        """
        if not load_yaml(folder / "config.yaml").get("gates"):
            return None
        description = folder / "description.json"
        begun = json.loads(description.read_text())["init"] if description.is_file() else None
        dense = self.folder_of("dense") if begun is None else Path(begun)
        if not (dense / "model.safetensors").is_file():
            raise CheckpointError(f"{dense}, which {folder} was trained on, is gone: it is what it is timed against")
        return self.dense_of(dense) or dense


def texts_of(cuts: list[Cut] | LargeCuts, task: Task) -> Iterator[str]:
    """What the decoder is taught to write in ``task``."""
    of_task = cuts.of_language(task.src) if isinstance(cuts, LargeCuts) else cuts
    return (normalize_for_training(reference(cut, task), task.tgt) for cut in of_task if has_task(cut, task))
