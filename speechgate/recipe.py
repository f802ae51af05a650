"""Where the files of a corpus and its experiments lie, and the stages that turn one into the next.

data/<corpus>/                      manifests, audio, tokens
exp/<corpus>/<experiment>/          a checkpoint; decode_<split>/ below it
recipes/<corpus>/pretrained/        the small dense checkpoint that comes with the recipe
"""

import dataclasses
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lhotse.cut import Cut

from speechgate.config import CONF_DIR, Experiment, choices, from_mapping, load_yaml
from speechgate.corpus import prompts
from speechgate.data.tasks import has_task, parse_tasks, reference
from speechgate.decoding.decode import decode_split
from speechgate.decoding.search import SearchOptions
from speechgate.errors import CheckpointError, ManifestError
from speechgate.manifests.cuts import read_cuts, validate
from speechgate.model.checkpoint import load_checkpoint
from speechgate.runinfo import REPOSITORY, pick_device
from speechgate.task import Task
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Tokenizer
from speechgate.training.run import train

CORPORA: dict[str, ModuleType] = {"prompts": prompts}
ST_TARGET = "eng"  # the translations that recipes train and score


@dataclass(frozen=True)
class Recipe:
    """One corpus with its folders."""

    corpus: str
    data: Path = Path("data")
    exp: Path = Path("exp")

    def __post_init__(self) -> None:
        choices("corpus", self.corpus, CORPORA)

    @property
    def home(self) -> Path:
        return self.exp / self.corpus

    @property
    def pretrained(self) -> Path:
        return REPOSITORY / "recipes" / self.corpus / "pretrained"

    def cuts(self, split: str) -> list[Cut]:
        """The validated cuts of a split.

        Raises:
            ManifestError: the corpus is not prepared, or a cut is not what it should be.
        """
        path = CORPORA[self.corpus].manifest_paths(self.data)[split]
        if not path.is_file():
            raise ManifestError(f"{path} is missing: run speechgate prepare --corpus {self.corpus} first")
        cuts = list(read_cuts(path))
        validate(cuts)
        return cuts

    def available_tasks(self) -> list[Task]:
        """ASR in every language of the training manifest, and ST into English from those that have translations."""
        cuts = self.cuts("train")
        languages = sorted({cut.supervisions[0].language for cut in cuts})
        candidates = [Task.asr(src) for src in languages]
        candidates += [Task.st(src, ST_TARGET) for src in languages if src != ST_TARGET]
        return [task for task in candidates if any(has_task(cut, task) for cut in cuts)]

    def prepare(self, source: str) -> None:
        """Download and prepare the corpus and train its tokens; what is done already is left alone."""
        corpus = CORPORA[self.corpus]
        if not (corpus.is_downloaded(self.data, source) and corpus.is_prepared(self.data)):
            corpus.download(self.data, source)
            corpus.prepare(self.data)
        self.tokenizer()

    def tokenizer(self) -> Tokenizer:
        """The corpus's tokens: characters of the training transcripts and translations; trained on first use."""
        folder = self.data / self.corpus / "tokens"
        if (folder / "tokens.txt").is_file():
            return Tokenizer.load(folder)
        tasks, cuts = self.available_tasks(), self.cuts("train")
        texts = [normalize_for_training(reference(cut, t), t.tgt) for t in tasks for cut in cuts if has_task(cut, t)]
        tokenizer = Tokenizer.train(texts, tasks, units="char", vocab_size=200)
        tokenizer.save(folder)
        return tokenizer

    def folder_of(self, experiment: str) -> Path:
        """The checkpoint of an experiment: exp/<corpus>/<experiment>, for "dense" else the recipe's pretrained one.

        Raises:
            CheckpointError: there is none; the message lists what there is.
        """
        folder = self.home / experiment
        if (folder / "model.safetensors").is_file():
            return folder
        if experiment == "dense" and (self.pretrained / "model.safetensors").is_file():
            return self.pretrained
        known = sorted(str(path.parent.relative_to(self.home)) for path in self.home.glob("**/model.safetensors"))
        raise CheckpointError(f"no checkpoint {folder}; trained here: {', '.join(known) or 'none'}")

    def train(
        self,
        experiment: Experiment,
        kinds: Sequence[str] = (),
        languages: Sequence[str] = (),
        folder: Path | None = None,
        init: Path | None = None,
    ) -> Path:
        """Train one experiment; ``kinds`` and ``languages`` narrow its tasks down.  Returns the checkpoint's folder."""
        tasks = parse_tasks(kinds or experiment.tasks, languages, self.available_tasks())
        name = "_".join([experiment.name, *(kind.replace(":", "_") for kind in kinds), *languages])
        if experiment.init is not None and init is None:
            init = self.folder_of(experiment.init)
        cuts = {split: self.cuts(split) for split in ("train", "dev")}
        return train(experiment, tasks, cuts, self.tokenizer(), folder or self.home / name, init)

    def decode(
        self,
        folder: Path,
        split: str = "test",
        kinds: Sequence[str] = (),
        languages: Sequence[str] = (),
        options: SearchOptions | None = None,
        dense: Path | None = None,
        deaf: bool = False,
        limit: int | None = None,
    ) -> Path:
        """Decode a split with the checkpoint in ``folder``; timed against ``dense`` if given.  A whole one is kept."""
        out = (folder if folder != self.pretrained else self.home / "dense") / f"decode_{split}"
        if (out / "decode.json").is_file():
            return out
        device = pick_device()
        checkpoint = load_checkpoint(folder, device)
        tasks = parse_tasks(kinds, languages, self.available_tasks())
        return decode_split(
            checkpoint,
            str(folder.relative_to(REPOSITORY)) if folder.is_relative_to(REPOSITORY) else str(folder),
            _first_prompts(self.cuts(split), limit),
            tasks,
            options or decode_options("beam"),
            out,
            corpus=self.corpus,
            split=split,
            dense=None if dense is None else load_checkpoint(dense, device),
            deaf=deaf,
        )

    def copy_pretrained(self, folder: Path) -> Path:
        """Copy the recipe's dense checkpoint to ``folder``, the weights last, so that results can lie beside it."""
        if not (folder / "model.safetensors").is_file():
            if not (self.pretrained / "model.safetensors").is_file():
                raise CheckpointError(f"{self.pretrained} holds no checkpoint: train one from scratch")
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.pretrained.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                shutil.copy(path, folder / path.name)
        return folder


def decode_options(conf: str) -> SearchOptions:
    """The search options of a file of conf/decode, or of a YAML path."""
    path = Path(conf) if conf.endswith(".yaml") else CONF_DIR / "decode" / f"{conf}.yaml"
    return from_mapping(SearchOptions, load_yaml(path), str(path))


def with_gates(experiment: Experiment, stack: str | None, target: float | None) -> Experiment:
    """The experiment with another stack or target, and a name that says so: gates_decoder_0.50."""
    if experiment.gates is None:
        return experiment
    changes = {"stack": stack, "target": target}
    gates = dataclasses.replace(experiment.gates, **{k: v for k, v in changes.items() if v is not None})
    return dataclasses.replace(experiment, gates=gates, name=f"{experiment.name}_{gates.stack}_{gates.target:.2f}")


def _first_prompts(cuts: Iterable[Cut], limit: int | None) -> list[Cut]:
    """The cuts of the first ``limit`` prompt ids, so that every language keeps the same sentences."""
    cuts = list(cuts)
    if limit is None:
        return cuts
    ids = sorted({cut.supervisions[0].custom["prompt_id"] for cut in cuts})[:limit]
    return [cut for cut in cuts if cut.supervisions[0].custom["prompt_id"] in ids]
