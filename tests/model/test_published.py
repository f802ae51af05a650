"""Models in ESPnet's format, built by ESPnet's own code in the published configurations with random weights."""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
import yaml

from speechgate.config import CONF_DIR, GatesConfig, TrainConfig, load_yaml
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.searcher import search_tokens
from speechgate.errors import CheckpointError, ConfigError
from speechgate.gates.attach import attach
from speechgate.model.checkpoint import load_checkpoint, save_checkpoint
from speechgate.model.published import extend_tokens, import_espnet
from speechgate.task import Task
from speechgate.training.module import TrainingModule
from tests.decoding.reference import assert_same, espnet_search
from tests.gates.test_context import random_batch
from tests.model.tiny import randomise

TIMES = [f"<{step * 0.02:.2f}>" for step in range(1501)]
SYMBOLS = ["<na>", "<nolang>", "<deu>", "<eng>", "<asr>", "<st_deu>", "<st_eng>", "<notimestamps>", *TIMES]
TEXTS = ["Bitte versuchen Sie es noch einmal.", "please try again", "thank you very much indeed", "der die das und"]


def publish(folder: Path, name: str, normalize: str, **widths: Any) -> tuple[Any, Path]:
    """Write a checkpoint as OWSM's are laid out; returns ESPnet's own reading of it, and the folder."""
    from espnet2.tasks.s2t import S2TTask

    conf = load_yaml(CONF_DIR / "model" / f"owsm_{name}.yaml")
    mels = conf["frontend"].get("n_mels", 80)
    # What only says how ESPnet computes; v4's recipes have it.
    computing = {"use_flash_attn": True, "gradient_checkpoint_layers": [0, 1, 2]} if name.startswith("v4") else {}
    exp, stats, pieces = folder / "exp/s2t", folder / "exp/stats/feats_stats.npz", folder / "data/bpe/bpe.model"
    for path in (exp / "x", stats, pieces):
        path.parent.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type="unigram", vocab_size=len(SYMBOLS) + 40,
        user_defined_symbols=SYMBOLS, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    pieces.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    learnt = [processor.id_to_piece(i) for i in range(3, len(processor)) if processor.id_to_piece(i) not in SYMBOLS]
    random = np.random.default_rng(0)
    sums = random.normal(-300.0, 50.0, mels).astype(np.float32)
    np.savez(stats, count=100, sum=sums, sum_square=sums**2 / 100 + random.uniform(50, 400, mels).astype(np.float32))
    layers = ("output_size", "attention_heads", "linear_units", "cgmlp_linear_units", "num_blocks")
    values: dict[str, Any] = {
        "token_list": ["<blank>", "<unk>", *SYMBOLS, *learnt, "<sos>", "<eos>", "<sop>"],
        "token_type": "bpe",
        "bpemodel": "data/bpe/bpe.model",
        "input_size": None,
        "init": None,
        "frontend": "default",
        "frontend_conf": conf["frontend"] | {"fs": "16k"},
        "specaug": "specaug",
        "specaug_conf": conf["specaug"],
        "normalize": normalize,
        "normalize_conf": {"stats_file": str(stats)} if normalize == "global_mvn" else {},
        "preencoder": None,
        "encoder": "e_branchformer",
        "encoder_conf": conf["encoder"] | computing | {k: v for k, v in widths.items() if k in layers},
        "postencoder": None,
        "decoder": "transformer",
        "decoder_conf": conf["decoder"]
        | computing
        | {k: v for k, v in widths.items() if k in ("attention_heads", "linear_units", "num_blocks")},
        "ctc_conf": {},
        "model": "espnet",
        "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1, "length_normalized_loss": False, "sym_na": "<na>"},
        "preprocessor": "s2t",
        "preprocessor_conf": {"speech_length": 30.0},
    }
    (exp / "config.yaml").write_text(yaml.safe_dump(values))
    built = S2TTask.build_model(argparse.Namespace(**values))
    randomise(built, seed=1)
    torch.save(as_published(built.state_dict()), exp / "valid.acc.ave.pth")
    reference, _ = S2TTask.build_model_from_file(exp / "config.yaml", exp / "valid.acc.ave.pth", "cpu")
    return reference.eval(), folder


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by the names that ESPnet had when OWSM was trained: a layer was in a sequence with the positions."""
    old = {name.replace("encoder.embed.out.", "encoder.embed.out.0."): value for name, value in state.items()}
    assert old.keys() != state.keys()
    return old


TINY = {
    "output_size": 16,
    "attention_heads": 2,
    "linear_units": 24,
    "cgmlp_linear_units": 20,
    "num_blocks": 2,
}


def noise(seconds: tuple[float, ...], padded_to: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of noise of so many seconds, which counts as ``padded_to`` seconds if that is given; its lengths."""
    lengths = torch.tensor([int(16_000 * each) for each in seconds])
    generator = torch.Generator().manual_seed(0)
    speech_BN = torch.zeros(len(seconds), int(16_000 * max(padded_to, *seconds)))
    for row, length in zip(speech_BN, lengths.tolist(), strict=True):
        row[:length] = 0.1 * torch.randn(length, generator=generator)
    if padded_to:
        lengths[:] = int(16_000 * padded_to)
    return speech_BN, lengths


def outputs(model: Any, speech_BN: torch.Tensor, lengths_B: torch.Tensor) -> list[torch.Tensor]:
    """Encoder, CTC and decoder outputs."""
    with torch.inference_mode():
        encoder_out_BTD, frames_B = model.encode(speech_BN, lengths_B)
        tokens_BL = torch.tensor([[5, 4, 6, 9], [9, 8, 7, 5]])
        decoder_out_BLV, _ = model.decoder(encoder_out_BTD, frames_B, tokens_BL, torch.tensor([4, 3]))
        return [encoder_out_BTD, model.ctc.log_softmax(encoder_out_BTD), decoder_out_BLV.log_softmax(-1)]


@pytest.mark.parametrize(
    ("name", "normalize"),
    [
        ("v3.1_base", "global_mvn"),
        ("v3.1_small", "global_mvn"),
        ("v3.1_medium", "utterance_mvn"),
        ("v4_base", "global_mvn"),
        ("v4_small", "global_mvn"),
        ("v4_medium", "global_mvn"),
    ],
)
def test_outputs_equal_espnets(tmp_path: Path, name: str, normalize: str) -> None:
    reference, folder = publish(tmp_path / "published", name, normalize, **TINY)
    imported = import_espnet(folder)
    assert imported.config.min_seconds == 30.0
    save_checkpoint(tmp_path / "saved", imported, {})
    for model in (imported.model, load_checkpoint(tmp_path / "saved").model):
        for padded_to in (0.0, 30.0):
            batch = noise((1.5, 0.9), padded_to)
            for ours, theirs in zip(outputs(model, *batch), outputs(reference, *batch), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_tokens_are_espnets_and_gates_attach(tmp_path: Path) -> None:
    _, folder = publish(tmp_path, "v3.1_base", "global_mvn", **TINY)
    checkpoint = import_espnet(folder)
    tokenizer = checkpoint.tokenizer
    processor = sentencepiece.SentencePieceProcessor(model_file=str(next(folder.rglob("bpe.model"))))
    for text in TEXTS:
        assert [tokenizer.token_list[i] for i in tokenizer.encode(text)] == processor.encode(text, out_type=str)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    task = Task.st("deu", "eng")
    assert [tokenizer.token_list[i] for i in tokenizer.prompt(task)] == ["<deu>", "<st_eng>", "<notimestamps>"]
    assert {tokenizer.token_list.index(time) for time in TIMES} <= tokenizer.specials
    attach(checkpoint.model, GatesConfig(stack="both"), ["deu", "eng"])


@pytest.mark.parametrize("padded_to", [0.0, 30.0])
def test_a_search_over_v4_finds_what_espnets_does(tmp_path: Path, padded_to: float) -> None:
    reference, folder = publish(tmp_path, "v4_small", "global_mvn", **TINY)
    checkpoint = import_espnet(folder)
    tokenizer = checkpoint.tokenizer
    forbidden = sorted(tokenizer.specials - {tokenizer.eos})
    with torch.no_grad():
        for model in (reference, checkpoint.model):
            for layer in (model.decoder.output_layer, model.ctc.ctc_lo):
                layer.weight.mul_(4.0)
                layer.bias[forbidden] = -60.0  # the engine writes none of them
            model.ctc.ctc_lo.bias[tokenizer.blank] = 2.0
    options = SearchOptions(beam_size=4, nbest=3, max_length_ratio=-12.0 if padded_to else 0.0)
    task = Task.asr("deu")  # of translations the engine scores no CTC
    speech_BN, lengths_B = noise((1.5, 0.9), padded_to)
    with torch.inference_mode():
        encoder_out_BTD, frames_B = reference.encode(speech_BN, lengths_B)
    assert int(frames_B[0]) * 0.08 == pytest.approx(padded_to or 1.5, abs=0.1)
    expected = espnet_search(
        reference.decoder, reference.ctc, search_tokens(tokenizer), tokenizer.prompt(task), encoder_out_BTD, frames_B,
        options,
    )  # fmt: skip
    found = Engine(checkpoint, options).decode(speech_BN, lengths_B, [task] * 2)
    assert_same([list(each.hypotheses) for each in found], expected)
    assert any(each.text for each in found)


def test_v4_is_fine_tuned_with_gates(tmp_path: Path) -> None:
    _, folder = publish(tmp_path, "v4_base", "global_mvn", **TINY)
    checkpoint = import_espnet(folder)
    gates = GatesConfig(stack="both", scope="local")
    checkpoint.add_gates(gates, ["deu", "eng"])
    module = TrainingModule(checkpoint.model, TrainConfig(learning_rate=1e-2), gates, lambda: 0.0).train()
    batch = random_batch([24_000, 15_000], [Task.asr("deu"), Task.st("deu", "eng")])
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        torch.manual_seed(0)
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        assert all(each.grad is None or each.grad.isfinite().all() for each in module.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_new_symbols_change_nothing_for_the_old(tmp_path: Path) -> None:
    _, folder = publish(tmp_path, "v3.1_base", "global_mvn", **TINY)
    old = import_espnet(folder)
    new = extend_tokens(old, ["<swa>", "<st_swa>"])
    assert len(new.tokenizer) == len(old.tokenizer) + 2
    new.tokenizer.prompt(Task.st("eng", "swa"))
    kept = [new.tokenizer.token_list.index(token) for token in old.tokenizer.token_list]
    for name in ("decoder.embed.0.weight", "decoder.output_layer.bias", "ctc.ctc_lo.weight"):
        assert torch.equal(new.model.state_dict()[name][kept], old.model.state_dict()[name])
    rows = new.model.decoder.embed[0].weight
    index = new.tokenizer.token_list.index
    languages = torch.stack([rows[index(symbol)] for symbol in ("<deu>", "<eng>")])
    torch.testing.assert_close(rows[index("<swa>")], languages.mean(0))
    with pytest.raises(ConfigError, match="'<deu>' is known already"):
        extend_tokens(old, ["<deu>"])


def test_what_cannot_be_imported_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"should hold one config\.yaml of a model; found: none"):
        import_espnet(tmp_path)
    _, folder = publish(tmp_path, "v3.1_base", "utterance_mvn", **TINY)
    config = folder / "exp/s2t/config.yaml"
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(values | {"encoder": "conformer"}))
    with pytest.raises(CheckpointError, match="encoder is 'conformer'; only 'e_branchformer' can be imported"):
        import_espnet(folder)
    config.write_text(yaml.safe_dump(values))
    torch.save({"model": Path("x")}, folder / "exp/s2t/valid.acc.ave.pth")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        import_espnet(folder)
