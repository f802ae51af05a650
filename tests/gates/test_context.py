"""From an utterance's context to its gates: what decides, who is refused, and the gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speechgate.config import GatesConfig
from speechgate.data.batch import Batch, pad_speech
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach
from speechgate.gates.predictor import pool
from speechgate.task import Task
from speechgate.training.objective import hybrid_loss, sparsity_penalty
from tests.gates.gated import batches, configs, decode, encode, gated_model, seeds
from tests.model.tiny import LANGUAGES, TASKS, random_model, recordings, speech, tiny_config


def decide(model, samples, tasks) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Logits and gates of each stack for some recordings."""
    logits = {}
    handles = [
        predictor.register_forward_hook(lambda _, inputs, out, stack=stack: logits.update({stack: out}))
        for stack, predictor in model.gates.predictors.items()
    ]
    model.gates.set_context(tasks)
    with torch.no_grad():
        decode(model, *encode(model, *pad_speech(samples, min_seconds=0.0)))
    for handle in handles:
        handle.remove()
    return {stack: (logits[stack], model.gates.gates_BS[stack]) for stack in model.gates.stacks}


def random_batch(lengths: list[int], tasks: list[Task], seed: int = 0) -> Batch:
    """Noise and random text."""
    generator = torch.Generator().manual_seed(seed)
    speech_BN, lengths_B = speech(lengths, seed)
    tokens_BL = torch.randint(12, 20, (len(lengths), 6), generator=generator)
    steps_B = torch.full((len(lengths),), 6)
    out_BL = tokens_BL.roll(-1, dims=1)
    return Batch(
        [str(i) for i in steps_B],
        tasks,
        speech_BN,
        lengths_B,
        tokens_BL,
        steps_B,
        out_BL,
        tokens_BL[:, :3],
        steps_B // 2,
    )


@settings(max_examples=20, deadline=None)
@given(config=configs, lengths=batches, tasks=st.lists(st.sampled_from(TASKS), min_size=4, max_size=4), seed=seeds)
def test_a_padded_batch_gives_each_utterance_the_gates_that_it_gets_alone(config, lengths, tasks, seed):
    model, _ = gated_model(config, seed)
    samples, tasks = recordings(lengths, seed), tasks[: len(lengths)]
    together = decide(model, samples, tasks)
    # a logit of about 0 may fall on either side; the decoder's context then differs too
    assume(all(logits.abs().min() > 1e-3 for logits, _ in together.values()))
    for i, sample in enumerate(samples):
        alone = decide(model, [sample], [tasks[i]])
        for stack, (logits_BS, gates_BS) in together.items():
            torch.testing.assert_close(alone[stack][0], logits_BS[i : i + 1], atol=2e-4, rtol=1e-4)
            assert torch.equal(alone[stack][1], gates_BS[i : i + 1])


def test_pooling_leaves_the_padding_out():
    x_BTD = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [1e9, 1e9]], [[5.0, 5.0], [5.0, 5.0], [5.0, 8.0]]])
    mask_BT = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.equal(pool(x_BTD, mask_BT), torch.tensor([[2.0, 4.0], [5.0, 6.0]]))


@pytest.mark.parametrize(
    ("context", "changes"),
    [
        (("task",), {"task"}),
        (("language",), {"language"}),
        (("audio",), {"audio"}),
        (("task", "language", "audio"), {"task", "language", "audio"}),
        ((), set()),
    ],
)
def test_the_gates_depend_on_their_context_and_on_nothing_else(context, changes):
    model, _ = gated_model(tiny_config(), context=context, stack="encoder")
    loud, other = recordings([6_000, 6_000], seed=1)
    asr, st_eng = Task.asr("rus"), Task.st("rus", "eng")
    base = decide(model, [loud], [asr])["encoder"][0]
    changed = {
        "task": decide(model, [loud], [st_eng])["encoder"][0],
        "language": decide(model, [loud], [Task.asr("eng")])["encoder"][0],
        "audio": decide(model, [other], [asr])["encoder"][0],
    }
    assert {name for name, logits in changed.items() if not torch.equal(logits, base)} == changes


def test_every_gate_begins_open_with_the_same_odds():
    model = random_model(tiny_config())
    gates = attach(model, GatesConfig(stack="both", initial_logit=1.5), LANGUAGES)
    found = decide(model, recordings([5_000]), TASKS[:1])
    assert set(found) == {"encoder", "decoder"}
    for logits_BS, gates_BS in found.values():
        assert torch.equal(logits_BS, torch.full_like(logits_BS, 1.5))
        assert gates_BS.all()
    assert gates.mask_BS(1).all()


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_stack_that_is_not_gated_stays_open(stack):
    model, gates = gated_model(tiny_config(), stack=stack)
    decide(model, recordings([5_000, 4_000]), TASKS[:2])
    assert set(gates.gates_BS) == {stack}
    mask_BS = gates.mask_BS(2)
    other = "decoder" if stack == "encoder" else "encoder"
    assert mask_BS[:, gates.sites_of(other)].all()
    assert torch.equal(mask_BS[:, gates.sites_of(stack)], gates.gates_BS[stack])


def test_a_language_that_the_gates_do_not_know_is_refused():
    model, gates = gated_model(tiny_config())
    gates.set_context([Task.asr("fra")])
    with pytest.raises(ConfigError, match="no language 'fra', only: eng, rus"):
        encode(model, *speech([4_000]))


def test_context_of_another_batch_is_refused():
    model, gates = gated_model(tiny_config())
    with pytest.raises(ConfigError, match="context for 0 utterances, batch of 2"):  # none was ever set
        encode(model, *speech([4_000, 5_000]))
    gates.set_context(TASKS[:3])
    with pytest.raises(ConfigError, match="context for 3 utterances, batch of 2"):
        encode(model, *speech([4_000, 5_000]))


@pytest.mark.parametrize("relative", [True, False])
def test_gradients_reach_every_gate_the_predictor_and_the_model(relative):
    model, gates = gated_model(tiny_config(relative=relative))
    model.train()
    torch.manual_seed(0)
    batch = random_batch([6_000, 4_000, 5_000], list(TASKS))
    gates.set_context(batch.tasks)
    loss = hybrid_loss(model, batch, 0.3)[0]
    for gates_BS in gates.gates_BS.values():
        gates_BS.retain_grad()
        assert 0 < gates_BS.mean() < 1  # some are closed, some open
    loss.backward()
    for gates_BS in gates.gates_BS.values():
        assert (gates_BS.grad != 0).all()
    assert all(parameter.grad.any() for parameter in gates.parameters())
    # Closed modules too have a gradient, if only of zeros: the graph is the same whatever the gates.
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_gradients_of_the_penalty_alone_reach_the_predictor():
    model, gates = gated_model(tiny_config())
    model.train()
    gates.noise = 0.0
    batch = random_batch([6_000, 4_000], [TASKS[0], TASKS[2]])
    gates.set_context(batch.tasks)
    hybrid_loss(model, batch, 0.3)
    penalties = [sparsity_penalty(gates_BS, batch.tasks, 0.9)[0] for gates_BS in gates.gates_BS.values()]
    sum(penalties).backward()
    for predictor in gates.predictors.values():
        assert (predictor.network[-1].bias.grad > 0).all()  # a step against it closes gates


def test_without_noise_training_decides_as_inference_does():
    model, gates = gated_model(tiny_config())
    gates.noise = 0.0
    samples = recordings([6_000, 4_000, 5_000])
    chosen = []
    for training in (True, False):
        model.train(training)
        decide(model, samples, TASKS)
        chosen.append(gates.mask_BS(3))
    assert torch.equal(*chosen)


def test_gates_are_sampled_anew_for_each_batch_while_training():
    model, gates = gated_model(tiny_config(), initial_logit=0.0)
    model.train()
    chosen = []
    for _ in range(2):
        decide(model, recordings([6_000, 4_000, 5_000]), TASKS)
        chosen.append(gates.mask_BS(3))
    assert not torch.equal(*chosen)


def test_configuration_of_gates_that_makes_no_sense_is_refused():
    for keys, named in [
        ({"stack": "middle"}, "gates.stack"),
        ({"context": ("task", "speaker")}, "gates.context"),
        ({"target": 1.0}, "gates.target"),
        ({"ramp": 0.7, "settle": 0.6}, "gates.ramp"),
    ]:
        with pytest.raises(ConfigError, match=named):
            replace(GatesConfig(), **keys)
