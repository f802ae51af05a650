"""What is benchmarked: a model with gates that can be forced, audio for it, and how each engine decodes it.

Shapes: B utterances, N samples, T frames, D width, V tokens, S gate sites.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.bench.timing import Parts, Stopwatch
from speechgate.config import CONF_DIR, GatesConfig, ModelConfig, from_mapping, load_yaml
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.errors import ConfigError
from speechgate.gates.espnet import known_stacks
from speechgate.gates.sites import kinds_of
from speechgate.model.build import build_model
from speechgate.model.checkpoint import Checkpoint, load_checkpoint
from speechgate.model.espnet_compat import BatchBeamSearch, CTCPrefixScorer
from speechgate.task import Task

SAMPLE_RATE = 16_000
IMPOSSIBLE = -1.0e4  # added to a logit: neither engine ever chooses the token
TASK = Task.asr("eng")
Found = list[list[tuple[tuple[int, ...], float]]]  # the n best of each utterance: tokens and score


class NumberedTokens:
    """Stands for a tokenizer where there is no text: tokens are numbers."""

    def __init__(self, count: int) -> None:
        self.token_list = ["<blank>", "<unk>", "<na>", *(f"<{i}>" for i in range(count - 6)), "<sos>", "<eos>", "<sop>"]
        self.blank, self.sos, self.eos, sop = 0, count - 3, count - 2, count - 1
        self.specials = frozenset((self.blank, self.sos, self.eos, sop))
        self.suppressed = self.suppressed_first = frozenset[int]()

    def prompt(self, task: Task) -> list[int]:
        return [3, 4, 5]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(map(str, ids))


def random_checkpoint(name: str, vocabulary: int, device: torch.device, seed: int = 0) -> Checkpoint:
    """A file of conf/model with random weights and ``vocabulary`` tokens."""
    path = CONF_DIR / "model" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.yaml")))
        raise ConfigError(f"--model {name!r} is neither a checkpoint folder nor one of conf/model: {known}")
    torch.manual_seed(seed)
    config = from_mapping(ModelConfig, load_yaml(path), str(path))
    tokens = NumberedTokens(vocabulary)
    model = build_model(config, tokens.token_list).eval()
    # Without sharper logits all tokens are about equal, and rounding would choose among hypotheses.
    for layer in (model.decoder.output_layer, model.ctc.ctc_lo):
        nn.init.normal_(layer.weight, std=4.0 / layer.in_features**0.5)
    return Checkpoint(model.to(device), tokens, config)  # type: ignore[arg-type]


class Subject:
    """A model, gated on both stacks with gates that are forced, so that any mask can be timed."""

    def __init__(self, model: str, vocabulary: int, device: torch.device) -> None:
        folder = Path(model)
        self.name, self.device = model, device
        is_folder = (folder / "config.yaml").is_file()
        self.checkpoint = load_checkpoint(folder, device) if is_folder else random_checkpoint(model, vocabulary, device)
        if self.checkpoint.gates is None:
            self.checkpoint.add_gates(GatesConfig(stack="both"), (TASK.src,))
        self.model: Any = self.checkpoint.model
        self.gates = self.model.gates
        tokenizer = self.checkpoint.tokenizer
        self.task = TASK if isinstance(tokenizer, NumberedTokens) else _task_of(tokenizer)
        self.stacks = {stack.name: stack for stack in known_stacks(self.model)}
        self.of_espnet = self.model.ctc is not None  # a Whisper has neither CTC nor a search of ESPnet's
        if self.of_espnet:
            with torch.no_grad():  # equal output lengths: nothing ends, and special symbols are for neither engine
                forbidden = torch.tensor(sorted(tokenizer.specials), device=device)
                self.model.decoder.output_layer.bias[forbidden] += IMPOSSIBLE

    def engine(self, options: SearchOptions, execution: Execution) -> Engine:
        return Engine(self.checkpoint, options, execution)

    def audio(self, seconds: float, batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Noise whose loudness and colour change, (B, N), and its lengths."""
        generator = torch.Generator().manual_seed(seed)
        samples = int(seconds * SAMPLE_RATE)
        white_BN = torch.randn(batch, samples, generator=generator)
        loud_BN = torch.rand(batch, samples // 1600 + 1, generator=generator).repeat_interleave(1600, 1)[:, :samples]
        speech_BN = 0.1 * loud_BN * (white_BN + 0.9 * white_BN.roll(1, 1))
        return speech_BN.to(self.device), torch.full((batch,), samples)

    def mask(self, stacks: Sequence[str], seed: int | None = None) -> Tensor:
        """(S,) booleans: half the modules of ``stacks`` closed, of every kind every other layer, or at random."""
        open_S = torch.ones(len(self.gates.sites), dtype=torch.bool)
        for stack in stacks:
            at = torch.tensor(self.gates.sites_of(stack))
            if seed is None:
                kinds = kinds_of(self.gates.sites, stack)
                sites = [self.gates.sites[index] for index in at]
                closed = torch.tensor([(site.layer + kinds.index(site.kind)) % 2 == 1 for site in sites])
            else:
                order = torch.randperm(len(at), generator=torch.Generator().manual_seed(seed))
                closed = order < len(at) // 2
            open_S[at[closed]] = False
        return open_S

    def without(self, stack: str, kind: str) -> Tensor:
        """(S,) booleans: all modules of one kind closed."""
        return torch.tensor([(site.stack, site.kind) != (stack, kind) for site in self.gates.sites])

    def run(self, engine: Engine, speech_BN: Tensor, lengths_B: Tensor, open_BS: Tensor) -> tuple[Parts, Found]:
        """Decode with this engine, the gates forced to ``open_BS`` (B or 1, S)."""
        tasks = [self.task] * len(lengths_B)
        self.gates.force(open_BS)
        watch = Stopwatch(self.device)
        encoded = engine.encode(speech_BN, lengths_B, tasks)
        watch.lap("encoder")
        encoded = engine.with_ctc(encoded) if engine.options.ctc_weight > 0 else encoded
        watch.lap("ctc_head")
        found = engine.search(encoded)
        watch.lap("decoder")
        return watch.parts, [[(h.tokens, h.score) for h in nbest] for nbest in found]

    @torch.inference_mode()
    def run_espnet(
        self, options: SearchOptions, speech_BN: Tensor, lengths_B: Tensor, open_BS: Tensor
    ) -> tuple[Parts, Found]:
        """Decode with ESPnet's encoder and BatchBeamSearch, whose scores of CTC are its own too."""
        tokenizer = self.checkpoint.tokenizer
        prompt = [tokenizer.sos, *tokenizer.prompt(self.task)]
        search = BatchBeamSearch(
            scorers={"decoder": self.model.decoder, "ctc": CTCPrefixScorer(self.model.ctc, tokenizer.eos)},
            weights={"decoder": 1.0 - options.ctc_weight, "ctc": options.ctc_weight},
            beam_size=options.beam_size,
            vocab_size=len(tokenizer.token_list),
            sos=tokenizer.sos,
            eos=tokenizer.eos,
            pre_beam_ratio=options.pre_beam_ratio,
            pre_beam_score_key="full",
        )
        search.set_hyp_primer(prompt)
        self.gates.force(open_BS)
        self.gates.set_context([self.task] * len(lengths_B))
        watch = Stopwatch(self.device)
        out_BTD, frames_B = self.model.encode(speech_BN, lengths_B)
        watch.lap("encoder")
        self.gates.decide("decoder", out_BTD, torch.ones(out_BTD.shape[:2], device=self.device))
        limit = -float(options.fixed_steps or 0)
        if len(lengths_B) == 1:
            found = [search(out_BTD[0], limit, 0.0)]
        else:
            found = search(out_BTD, limit, 0.0, x_lengths=frames_B)
        watch.lap("decoder")
        watch.parts |= {"ctc_head_ms": 0.0, "ctc_head_cpu_ms": 0.0}  # within the search
        return watch.parts, [
            [
                (tuple(token for token in h.yseq[len(prompt) :].tolist() if token != tokenizer.eos), float(h.score))
                for h in nbest[: options.nbest]
            ]
            for nbest in found
        ]


def same(found: Found, expected: Found) -> bool:
    """Whether two engines found the same n best."""
    return [[tokens for tokens, _ in nbest] for nbest in found] == [[t for t, _ in nbest] for nbest in expected]


def _task_of(tokenizer: Any) -> Task:
    for language in tokenizer.languages:
        task = Task.asr(language.strip("<>"))
        if task.task_symbol in tokenizer.tasks:
            return task
    raise ConfigError("the checkpoint knows no ASR task to benchmark")
