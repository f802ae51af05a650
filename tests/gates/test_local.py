"""The local scope: each layer decides from its own input, in training, at inference and in the engine."""

import pytest
import torch
from hypothesis import assume, given, settings

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from tests.gates.gated import batches, encode, gated_model, padded_configs, seeds, train
from tests.model.tiny import TASKS, checkpoint_of, recordings, searchable, speech, tiny_config, tokenizer

LOCAL = {"scope": "local", "context": ("task", "audio")}


def run(model, samples, tasks) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The decoder's logits of some recordings and the gates of both stacks."""
    model.gates.set_context(tasks)
    prompts = [[tokenizer().sos, *tokenizer().prompt(task), 15, 16] for task in tasks]
    tokens_BL, lengths_B = torch.tensor(prompts), torch.full((len(tasks),), 6)
    logits_BLV, _ = model.decoder(*encode(model, *pad_speech(samples, min_seconds=0.0)), tokens_BL, lengths_B)
    return logits_BLV, dict(model.gates.gates_BS)


def scores_of(model) -> list[torch.Tensor]:
    """Collects the scores of all layers as they are decided."""
    found: list[torch.Tensor] = []
    for predictor in model.gates.predictors.values():
        predictor.register_forward_hook(lambda _, inputs, out: found.append(out.detach()))
    return found


@settings(max_examples=8, deadline=None)
@given(config=padded_configs, lengths=batches, seed=seeds)
def test_multiplied_equals_skipped_and_padding_does_not_count(config, lengths, seed):
    model, gates = gated_model(config, seed, **LOCAL)
    scores = scores_of(model)
    samples, tasks = recordings(lengths, seed), (TASKS * 2)[: len(lengths)]
    with torch.no_grad():
        skipped, chosen = run(model, samples, tasks)
        assume(all(float(score.abs().min()) > 1e-3 for score in scores))
        forced_BS = gates.mask_BS(len(lengths))
        gates.force(forced_BS.float())
        train(model)
        multiplied, _ = run(model, samples, tasks)
        model.eval()
        gates.force(None)
        torch.testing.assert_close(multiplied, skipped, atol=1e-5, rtol=1e-4)
        for row, sample in enumerate(samples):
            _, alone = run(model, [sample], [tasks[row]])
            for stack, gates_BS in chosen.items():
                assert torch.equal(alone[stack][0], gates_BS[row])


def test_a_layer_decides_from_its_own_input():
    model, _ = gated_model(tiny_config(encoder_layers=3), seed=1, **LOCAL)
    scores = scores_of(model)
    with torch.no_grad():
        run(model, recordings([6_000]), TASKS[:1])
        first = [score.clone() for score in scores]
        layer = model.encoder.encoders[1]
        layer.norm_final.weight.mul_(-2.0)  # what comes after decides otherwise
        scores.clear()
        run(model, recordings([6_000]), TASKS[:1])
    changed = [not torch.equal(before, after) for before, after in zip(first, scores, strict=True)]
    assert changed[:3] == [False, False, True]


def test_later_tokens_do_not_change_the_gates_of_the_decoder():
    model, gates = gated_model(tiny_config(), seed=2, **LOCAL)
    with torch.no_grad():
        gates.set_context(TASKS[:1])
        encoded = encode(model, *speech([6_000]))
        tokens_1L = torch.tensor([[4, 7, 10, 9, 15, 16, 14, 17]])
        chosen = []
        for length in (4, 6, 8):
            model.decoder(*encoded, tokens_1L[:, :length], torch.tensor([length]))
            chosen.append(gates.gates_BS["decoder"])
    assert torch.equal(chosen[0], chosen[1])
    assert torch.equal(chosen[0], chosen[2])


@pytest.mark.parametrize("options", [SearchOptions(beam_size=1, ctc_weight=0.0), SearchOptions(beam_size=3, nbest=2)])
def test_the_engine_decides_from_the_prompt(options):
    config = tiny_config()
    model, gates = gated_model(config, seed=3, **LOCAL)
    engine = Engine(checkpoint_of(searchable(model), config), options)
    samples, tasks = recordings([9_000, 4_000, 7_000, 5_000]), [TASKS[0], TASKS[2], TASKS[1], TASKS[2]]
    decoded = engine.decode(*pad_speech(samples, min_seconds=0.0), tasks)
    masks_BS = torch.tensor([result.open_S for result in decoded])
    assert len({result.open_S for result in decoded}) > 1
    decoder = masks_BS[:, gates.sites_of("decoder")]
    assert 0 < int(decoder.sum()) < decoder.numel()
    with torch.no_grad():  # as in training, with the text that was found
        for row, result in enumerate(decoded):
            gates.set_context([tasks[row]])
            encoded = model.encode(*pad_speech([samples[row]], min_seconds=0.0))
            prompt = [engine.tokens.sos, *engine.tokenizer.prompt(tasks[row]), *result.hypotheses[0].tokens]
            model.decoder(*encoded, torch.tensor([prompt]), torch.tensor([len(prompt)]))
            assert torch.equal(gates.mask_BS(1)[0], masks_BS[row])
    gates.force(masks_BS)
    forced = engine.decode(*pad_speech(samples, min_seconds=0.0), tasks)
    assert [result.hypotheses for result in forced] == [result.hypotheses for result in decoded]


def test_gradients_reach_the_predictors_of_all_layers():
    model, gates = gated_model(tiny_config(), seed=4, **LOCAL)
    model.train()
    logits_BLV, chosen = run(model, recordings([6_000, 4_000]), TASKS[:2])
    assert {stack: gates_BS.shape[1] for stack, gates_BS in chosen.items()} == {"encoder": 8, "decoder": 6}
    logits_BLV.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in gates.parameters())
