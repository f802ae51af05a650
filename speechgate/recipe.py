"""Where the files of a corpus and its experiments lie, and the stages that turn one into the next.

data/<corpus>/                      manifests, audio, tokens
exp/<corpus>/<experiment>/          a checkpoint; decode_<split>/ below it
exp/<corpus>/<tasks>/<experiment>/  the same for some tasks or languages only, such as asr_fra
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
from speechgate.decoding.search import SearchOptions
from speechgate.errors import CheckpointError, ConfigError, ManifestError
from speechgate.files import naming
from speechgate.manifests.cuts import read_cuts, validate, write_cuts
from speechgate.runinfo import REPOSITORY, pick_device
from speechgate.task import Task, to_iso3
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Tokenizer

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

    def home_of(self, kinds: Iterable[str] = (), languages: Iterable[str] = ()) -> Path:
        """The folder of the experiments on some tasks only: exp/<corpus>/asr_fra; ``home`` where all are wanted."""
        parts = [*(kind.replace(":", "_") for kind in kinds), *(to_iso3(code) for code in languages)]
        return self.home / "_".join(parts) if parts else self.home

    @property
    def tokens(self) -> Path:
        return self.data / self.corpus / "tokens"

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
        try:
            validate(cuts)
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error
        return cuts

    def available_tasks(self) -> list[Task]:
        """ASR in every language of the training manifest, and ST into English from those that have translations."""
        cuts = self.cuts("train")
        languages = sorted({cut.supervisions[0].language for cut in cuts})
        candidates = [Task.asr(src) for src in languages]
        candidates += [Task.st(src, ST_TARGET) for src in languages if src != ST_TARGET]
        return [task for task in candidates if any(has_task(cut, task) for cut in cuts)]

    @property
    def is_prepared(self) -> bool:
        return CORPORA[self.corpus].is_prepared(self.data)

    def prepare(self, source: str) -> None:
        """Download and prepare the corpus and train its tokens; what is done already is left alone."""
        corpus = CORPORA[self.corpus]
        if not (corpus.is_downloaded(self.data, source) and self.is_prepared):
            corpus.download(self.data, source)
            shutil.rmtree(self.tokens, ignore_errors=True)  # they belong to the manifests written next
            corpus.prepare(self.data)
        self.tokenizer()

    def embed(self, split: str) -> Path:
        """Give the cuts of a split their speaker embeddings; returns the manifest, written anew."""
        from speechgate.data.speakers import embed_speakers, load_encoder

        path = CORPORA[self.corpus].manifest_paths(self.data)[split]
        write_cuts(embed_speakers(self.cuts(split), load_encoder(str(pick_device()))), path)
        return path

    def tokenizer(self) -> Tokenizer:
        """The corpus's tokens: characters of the training transcripts and translations; trained on first use."""
        if (self.tokens / "tokens.txt").is_file():
            return Tokenizer.load(self.tokens)
        tasks, cuts = self.available_tasks(), self.cuts("train")
        texts = [normalize_for_training(reference(cut, t), t.tgt) for t in tasks for cut in cuts if has_task(cut, t)]
        tokenizer = Tokenizer.train(texts, tasks, units="char", vocab_size=200)
        tokenizer.save(self.tokens)
        return tokenizer

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

        tasks = parse_tasks(kinds or experiment.tasks, languages, self.available_tasks())
        if experiment.init is not None and init is None:
            init = self.folder_of(experiment.init, kinds, languages)
        cuts: dict[str, Iterable[Cut]] = {split: self.cuts(split) for split in ("train", "dev")}
        folder = folder or self.home_of(kinds, languages) / experiment.name
        with naming(folder):
            return train(experiment, tasks, cuts, self.tokenizer(), folder, init)

    def decode(
        self,
        folder: Path,
        split: str = "test",
        kinds: Sequence[str] = (),
        languages: Sequence[str] = (),
        options: SearchOptions | None = None,
        dense: Path | None = None,
        deaf: bool = False,
        budget: float | None = None,
    ) -> Path:
        """Decode a split with the checkpoint in ``folder``; timed against ``dense`` if given.

        ``budget`` turns the dial of gates that have one, to results of their own: decode_test_0.30.
        What was decoded already, by the same weights from the same manifest with the same options, is kept.
        """
        from speechgate.decoding.decode import decode_split, is_decoded  # here, because ESPnet takes seconds to load
        from speechgate.model.checkpoint import load_checkpoint

        tasks = parse_tasks(kinds, languages, self.available_tasks())
        options = options or decode_options("beam")
        cuts = self.cuts(split)
        out = self._place_of(folder, kinds, languages) / decoded_name(split, budget)
        inputs = (folder / "model.safetensors", CORPORA[self.corpus].manifest_paths(self.data)[split])
        if is_decoded(out, inputs, tasks, options, timed=dense is not None, deaf=deaf):
            return out
        device = pick_device()
        return decode_split(
            load_checkpoint(folder, device),
            str(folder.relative_to(REPOSITORY)) if folder.is_relative_to(REPOSITORY) else str(folder),
            cuts,
            tasks,
            options,
            out,
            corpus=self.corpus,
            split=split,
            dense=None if dense is None else load_checkpoint(dense, device),
            deaf=deaf,
            budget=budget,
        )

    def _place_of(self, folder: Path, kinds: Sequence[str], languages: Sequence[str]) -> Path:
        """Where the results of a checkpoint lie: beside it, unless it serves more tasks or comes with the recipe."""
        home = self.home_of(kinds, languages)
        if folder == self.pretrained:
            return home / "dense"
        return folder if home in (self.home, folder.parent) else home / folder.name

    def copy_pretrained(self, folder: Path) -> Path:
        """Copy the recipe's dense checkpoint to ``folder``, the weights last, so that results can lie beside it."""
        if not (folder / "model.safetensors").is_file():
            if not (self.pretrained / "model.safetensors").is_file():
                raise CheckpointError(f"{self.pretrained} holds no checkpoint: train one from scratch")
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.pretrained.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                shutil.copy(path, folder / path.name)
        return folder


def decoded_name(split: str, budget: float | None) -> str:
    """The folder of a decoding: decode_test, or decode_test_0.30 at a setting of a budget dial."""
    return f"decode_{split}" if budget is None else f"decode_{split}_{budget:.2f}"


def decode_options(conf: str) -> SearchOptions:
    """The search options of a file of conf/decode, or of a YAML path."""
    path = Path(conf) if conf.endswith(".yaml") else CONF_DIR / "decode" / f"{conf}.yaml"
    return from_mapping(SearchOptions, load_yaml(path), str(path))


def with_gates(experiment: Experiment, stack: str | None, target: float | None) -> Experiment:
    """The experiment with another stack or target, and a name that says so: gates_decoder_0.50."""
    if experiment.gates is None:
        if stack is not None or target is not None:
            raise ConfigError(
                f"experiment {experiment.name} has no gates: --stack and --sparsity need a conf with them"
            )
        return experiment
    gates = experiment.gates
    if stack is not None:
        gates = dataclasses.replace(gates, stack=stack)
    if target is not None and gates.budget:
        raise ConfigError(f"experiment {experiment.name} has a budget dial: --sparsity belongs to its decoding")
    if target is not None:
        gates = dataclasses.replace(gates, target=target)
    name = f"{experiment.name}_{gates.stack}"  # one with a dial stands for all targets
    return dataclasses.replace(experiment, gates=gates, name=name if gates.budget else f"{name}_{gates.target:.2f}")
