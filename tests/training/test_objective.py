"""The loss against ESPnet's own, and the sparsity penalty by hand."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from speechgate.data.batch import IGNORE, Batch
from speechgate.task import Task
from speechgate.training.objective import hybrid_loss, sparsity_penalty
from tests.model.tiny import TASKS, random_model, speech, tiny_config, tokenizer

ENG, RUS, ST = TASKS


def text_batch(lengths: list[int], texts: list[list[int]], transcripts: list[list[int]]) -> Batch:
    """Noise with such target and CTC tokens."""
    sos, eos = tokenizer().sos, tokenizer().eos
    width, ctc_width = max(map(len, texts)) + 1, max(map(len, transcripts))
    speech_BN, lengths_B = speech(lengths)
    return Batch(
        cut_ids=[str(i) for i in range(len(texts))],
        tasks=[TASKS[i % 3] for i in range(len(texts))],
        speech_BN=speech_BN,
        speech_lengths=lengths_B,
        decoder_in_BL=torch.tensor([[sos, *text] + [eos] * (width - 1 - len(text)) for text in texts]),
        decoder_in_lengths=torch.tensor([len(text) + 1 for text in texts]),
        decoder_out_BL=torch.tensor([[*text, eos] + [IGNORE] * (width - 1 - len(text)) for text in texts]),
        ctc_BL=torch.tensor([transcript + [0] * (ctc_width - len(transcript)) for transcript in transcripts]),
        ctc_lengths=torch.tensor([len(transcript) for transcript in transcripts]),
    )


def espnet_loss(model, batch: Batch) -> tuple[torch.Tensor, dict]:
    """The loss of ``ESPnetS2TModel.forward`` on the same batch, which has no previous text."""
    text_lengths = batch.decoder_in_lengths - 1
    text = batch.decoder_in_BL[:, 1:].clone()
    text[torch.arange(text.size(1)) >= text_lengths[:, None]] = -1
    text_ctc = batch.ctc_BL.masked_fill(torch.arange(batch.ctc_BL.size(1)) >= batch.ctc_lengths[:, None], -1)
    previous = torch.full((len(batch), 1), tokenizer().na)
    loss, stats, weight = model(
        speech=batch.speech_BN,
        speech_lengths=batch.speech_lengths,
        text=text,
        text_lengths=text_lengths,
        text_prev=previous,
        text_prev_lengths=torch.ones(len(batch), dtype=torch.long),
        text_ctc=text_ctc,
        text_ctc_lengths=batch.ctc_lengths,
    )
    assert int(weight) == len(batch)
    return loss, stats


def target_entropy(smoothing: float, vocabulary: int) -> float:
    """Of one smoothed target; ESPnet's divergence leaves it out."""
    wrong = smoothing / (vocabulary - 1)
    return -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(wrong)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("ctc_weight", [0.3, 0.7])
def test_equals_espnet(ctc_weight, relative):
    config = tiny_config(relative=relative)
    config.hybrid["ctc_weight"] = ctc_weight
    model = random_model(config).train()
    theirs = copy.deepcopy(model)
    batch = text_batch(
        [9_000, 5_000, 7_000],
        [[5, 7, 10, 14, 15, 16, 15], [4, 8, 10, 20], [5, 9, 10, 13, 12, 18]],
        [[14, 15, 16, 16], [20], [21, 22, 23]],  # the last is another text than the target, as in translation
    )
    loss, parts, encoder_out_BTD, lengths_B = hybrid_loss(model, batch, ctc_weight)
    expected, stats = espnet_loss(theirs, batch)

    tokens = int((batch.decoder_out_BL != IGNORE).sum())
    constant = target_entropy(0.1, model.vocab_size) * tokens / len(batch)
    assert float(parts["ctc"]) == pytest.approx(float(stats["loss_ctc"]), rel=1e-5)
    assert float(parts["attention"]) == pytest.approx(float(stats["loss_att"]) + constant, rel=1e-5)
    assert float(parts["accuracy"]) == pytest.approx(float(stats["acc"]))
    assert loss.item() == pytest.approx(expected.item() + (1 - ctc_weight) * constant, rel=1e-5)
    assert lengths_B.device.type == "cpu"
    assert encoder_out_BTD.shape[:2] == (3, int(lengths_B.max()))

    loss.backward()
    expected.backward()
    for (name, ours), other in zip(model.named_parameters(), theirs.parameters(), strict=True):
        scale = max(float(other.grad.abs().max()), 1e-3)  # the bias of keys has none but rounding
        torch.testing.assert_close(ours.grad / scale, other.grad / scale, atol=1e-4, rtol=1e-4, msg=name)


def test_a_weight_of_one_or_nought_leaves_the_other_loss_out():
    model = random_model(tiny_config())
    batch = text_batch([6_000], [[5, 7, 10, 14]], [[14, 15]])
    calls = []
    model.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    loss, parts, *_ = hybrid_loss(model, batch, 1.0)
    assert set(parts) == {"ctc"}
    assert calls == []
    assert loss.item() == float(parts["ctc"])
    loss, parts, *_ = hybrid_loss(model, batch, 0.0)
    assert set(parts) == {"attention", "accuracy"}
    assert loss.item() == float(parts["attention"])


def test_a_teacher_takes_its_share_of_the_loss_and_costs_nothing_where_the_two_agree():
    model = random_model(tiny_config())
    batch = text_batch([6_000, 9_000], [[5, 7, 10, 14], [4, 8, 10]], [[14, 15], [20]])
    own_BLV, _ = model.decoder(
        *model.encode(batch.speech_BN, batch.speech_lengths), batch.decoder_in_BL, batch.decoder_in_lengths
    )
    alike, parts, *_ = hybrid_loss(model, batch, 0.0, 0.25, lambda *_: own_BLV.detach())
    assert float(parts["distill"]) == pytest.approx(0.0, abs=1e-5)
    assert alike.item() == pytest.approx(0.75 * float(parts["attention"]), rel=1e-4)

    certain_BLV = torch.full_like(own_BLV, -1e4)  # of the very tokens of the reference: then it is the cross-entropy
    certain_BLV.scatter_(2, batch.decoder_out_BL.clamp(min=0)[..., None], 0.0)
    loss, parts, *_ = hybrid_loss(model, batch, 0.0, 1.0, lambda *_: certain_BLV)
    plain = F.cross_entropy(own_BLV.flatten(0, 1), batch.decoder_out_BL.flatten(), ignore_index=IGNORE, reduction="sum")
    assert loss.item() == float(parts["distill"])
    assert loss.item() == pytest.approx(plain.item() / len(batch), rel=1e-4)


def test_a_transcript_longer_than_its_audio_counts_as_nought():
    model = random_model(tiny_config()).train()
    short = text_batch([2_000, 9_000], [[5, 7, 10]] * 2, [[14, 15] * 20, [14, 15]])
    loss, parts, *_ = hybrid_loss(model, short, 1.0)
    alone = hybrid_loss(model, text_batch([2_000, 9_000], [[5, 7, 10]] * 2, [[14], [14, 15]]), 1.0)[1]
    assert 0 < float(parts["ctc"]) < float(alone["ctc"])
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_padding_does_not_change_the_loss():
    model = random_model(tiny_config())
    texts, transcripts = [[5, 7, 10, 14, 15], [4, 8, 10]], [[14, 15, 16], [20]]
    together = hybrid_loss(model, text_batch([9_000, 4_000], texts, transcripts), 0.5)[0]
    single = text_batch([9_000, 4_000], texts, transcripts)
    alone = []
    for i in range(2):
        batch = text_batch([9_000, 4_000], texts, transcripts)
        batch.speech_BN, batch.speech_lengths = single.speech_BN[i : i + 1], single.speech_lengths[i : i + 1]
        batch.speech_BN = batch.speech_BN[:, : int(batch.speech_lengths[0])]
        for name in ("decoder_in_BL", "decoder_in_lengths", "decoder_out_BL", "ctc_BL", "ctc_lengths"):
            setattr(batch, name, getattr(single, name)[i : i + 1])
        batch.tasks = batch.tasks[i : i + 1]
        steps = int(batch.decoder_in_lengths[0])
        batch.decoder_in_BL, batch.decoder_out_BL = batch.decoder_in_BL[:, :steps], batch.decoder_out_BL[:, :steps]
        alone.append(hybrid_loss(model, batch, 0.5)[0].item())
    assert together.item() == pytest.approx(sum(alone) / 2, rel=1e-5)


def gates(*rows: str) -> torch.Tensor:
    """Gates written as strings of 0 and 1."""
    return torch.tensor([[float(gate) for gate in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "tasks", "target", "penalty", "sparsity"),
    [
        (["1010"], [ENG], 0.5, 0.0, {ENG: 0.5}),
        (["1111"], [ENG], 0.5, 0.75, {ENG: 0.0}),
        (["0000"], [ENG], 0.5, 0.75, {ENG: 1.0}),
        (["1110"], [ENG], 0.5, 0.25 + 0.0625, {ENG: 0.25}),
        (["1111", "0000"], [ENG, ENG], 0.5, 0.0, {ENG: 0.5}),  # utterances of one task may differ
        (["1111", "0000"], [ENG, RUS], 0.5, 0.75, {ENG: 0.0, RUS: 1.0}),  # languages may not
        (["11110", "00001"], [RUS, ST], 0.5, 0.3 + 0.09, {RUS: 0.2, ST: 0.8}),  # nor tasks: the mean of both is 50%
        (["1111", "1111", "0000"], [ENG, ENG, RUS], 0.5, 0.75, {ENG: 0.0, RUS: 1.0}),  # each task counts once
        (["1111", "0000", "1100"], [ENG, ENG, RUS], 0.0, 0.75, {ENG: 0.5, RUS: 0.5}),
    ],
)
def test_penalty_by_hand(rows, tasks, target, penalty, sparsity):
    found, shares = sparsity_penalty(gates(*rows), tasks, target)
    assert float(found) == pytest.approx(penalty, abs=1e-6)
    assert {task: float(share) for task, share in shares.items()} == pytest.approx(sparsity)
    assert not any(share.requires_grad for share in shares.values())


def test_penalty_pulls_each_task_towards_the_target():
    gates_BS = gates("11110", "00001").requires_grad_()
    sparsity_penalty(gates_BS, [Task.asr("rus"), Task.st("rus", "eng")], 0.5)[0].backward()
    assert (gates_BS.grad[0] > 0).all()  # a step against the gradient closes where too much is open
    assert (gates_BS.grad[1] < 0).all()


def test_penalty_is_not_rounded_under_autocast():
    rows = ["1" * 50 + "0" * 51]
    with torch.autocast("cpu", torch.bfloat16):
        share = sparsity_penalty(gates(*rows), [ENG], 0.5)[1][ENG]
    assert float(share) == pytest.approx(51 / 101, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "penalty"),
    [("absolute", 0.25), ("squared", 0.0625), ("both", 0.3125), ("lagrangian", 2 * 0.25 + 3 * 0.0625)],
)
def test_forms_of_the_penalty(form, penalty):
    multipliers_2 = torch.tensor([2.0, 3.0])
    found, _ = sparsity_penalty(gates("1000"), [ENG], 0.5, form, multipliers_2=multipliers_2)
    assert float(found) == pytest.approx(penalty)


def test_each_task_has_its_own_target():
    rows, tasks = gates("1110", "1000", "1111"), [ENG, RUS, ENG]
    found, shares = sparsity_penalty(rows, tasks, [0.125, 0.75, 0.125])
    assert float(found) == pytest.approx(0.0, abs=1e-6)
    assert {task: float(share) for task, share in shares.items()} == pytest.approx({ENG: 0.125, RUS: 0.75})


def test_the_share_may_be_one_of_cost():
    _, shares = sparsity_penalty(gates("0111"), [ENG], 0.5, cost_S=torch.tensor([3.0, 1.0, 1.0, 1.0]))
    assert float(shares[ENG]) == pytest.approx(0.5)
