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
from speechgate.gates.context import Context, frame_differences, pool
from speechgate.task import Task
from speechgate.training.objective import hybrid_loss, sparsity_penalty
from tests.gates.gated import batches, decode, encode, gated_model, padded_configs, seeds
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
@given(
    config=padded_configs, lengths=batches, tasks=st.lists(st.sampled_from(TASKS), min_size=4, max_size=4), seed=seeds
)
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
        (("source",), {"source"}),
        (("audio",), {"audio"}),
        (("task", "source", "audio"), {"task", "source", "audio"}),
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
        "source": decide(model, [loud], [Task.asr("eng")])["encoder"][0],
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


def scores(model, context: Context, samples=None) -> torch.Tensor:
    """The encoder's scores of an utterance in some context."""
    found = []
    handle = model.gates.predictors["encoder"].register_forward_hook(lambda _, inputs, out: found.append(out))
    model.gates.set_context(context)
    with torch.no_grad():
        encode(model, *pad_speech(samples or recordings([6_000]), min_seconds=0.0))
    handle.remove()
    return found[0]


def test_the_target_language_and_a_vector_decide_too():
    model, _ = gated_model(tiny_config(), context=("target", "vector:speaker:3"), stack="encoder")
    base = scores(model, Context([Task.asr("rus")], {"speaker": torch.tensor([[1.0, 2.0, 4.0]])}))
    for changed in (
        Context([Task.st("rus", "eng")], {"speaker": torch.tensor([[1.0, 2.0, 4.0]])}),
        Context([Task.asr("rus")], {"speaker": torch.tensor([[1.0, -2.0, 4.0]])}),
    ):
        assert not torch.equal(scores(model, changed), base)
    same = Context([Task.st("eng", "rus")], {"speaker": torch.tensor([[1.0, 2.0, 4.0]])})
    assert torch.equal(scores(model, same), base)


def test_frame_differences_leave_the_padding_out():
    x_BTD = torch.tensor([[[1.0], [3.0], [2.0], [1e9]], [[5.0], [1e9], [1e9], [1e9]]])
    mask_BT = torch.tensor([[True, True, True, False], [True, False, False, False]])
    found_B2 = frame_differences(x_BTD, mask_BT)
    torch.testing.assert_close(found_B2, torch.tensor([[1.5, 1.5], [0.0, 0.0]]), atol=1e-5, rtol=0)


def test_frame_differences_decide_the_same_alone_and_in_a_batch():
    model, _ = gated_model(tiny_config(), context=("difference",), stack="encoder")
    samples = recordings([6_000, 9_000])
    together_BS = scores(model, Context(TASKS[:2]), samples)
    for row, sample in enumerate(samples):
        alone_1S = scores(model, Context(TASKS[:1]), [sample])
        torch.testing.assert_close(alone_1S[0], together_BS[row], atol=2e-4, rtol=1e-4)


PARTS = ("task", "source", "target", "vector:speaker:3")


def test_what_is_not_known_has_an_entry_of_its_own():
    model, _ = gated_model(tiny_config(), context=PARTS, context_dropout=0.3, stack="encoder")
    speaker = {"speaker": torch.tensor([[1.0, 2.0, 4.0]])}
    unknown = scores(model, Context([None], {"speaker": torch.full((1, 3), float("nan"))}))
    assert unknown.isfinite().all()
    assert torch.equal(scores(model, Context([None])), unknown)
    everything = [scores(model, Context([TASKS[0]], speaker)), scores(model, Context([TASKS[0]])), unknown]
    everything.append(scores(model, Context([None], speaker)))
    assert len({tuple(found[0].tolist()) for found in everything}) == 4
    assert torch.equal(
        scores(model, Context([Task.asr("fra")], speaker)), scores(model, Context([Task.asr("deu")], speaker))
    )


def test_dropping_context_trains_the_unknown_entries():
    model, gates = gated_model(tiny_config(), context=PARTS, context_dropout=0.5, stack="encoder")
    model.train()
    torch.manual_seed(0)
    gates.set_context(Context(TASKS * 4, {"speaker": torch.randn(12, 3)}))
    encode(model, *speech([3_000] * 12))
    gates.gates_BS["encoder"].square().sum().backward()
    encoder = gates.predictors["encoder"].context
    for table in encoder.embeddings.values():
        assert table.weight.grad[-1].any()
    assert encoder.unknown["speaker"].grad.any()


def test_without_dropout_what_is_missing_is_an_error():
    model, _ = gated_model(tiny_config(), context=("vector:speaker:3",), stack="encoder")
    with pytest.raises(ConfigError, match="vector 'speaker' of every cut"):
        scores(model, Context(TASKS[:1]))
    model, _ = gated_model(tiny_config(), context=("task",), stack="encoder")
    with pytest.raises(ConfigError, match="unknown task"):
        scores(model, Context([None]))


def test_a_shuffled_context_is_another_utterance_s():
    model, gates = gated_model(tiny_config(), context=("task", "source"), shuffle_context=True, stack="encoder")
    encoder = gates.predictors["encoder"].context
    nothing_BTD, mask_BT = torch.zeros(3, 2, 16), torch.ones(3, 2, dtype=torch.bool)
    encoder.train()
    with torch.no_grad():
        shuffled_BC = encoder(Context(TASKS), nothing_BTD, mask_BT, None)
        bank = encoder.bank_NC[:3].clone()
        assert torch.equal(shuffled_BC, bank.roll(1, dims=0))
        encoder.eval()
        one, other = (
            encoder(Context([task], {}, torch.tensor([0.001])), nothing_BTD[:1], mask_BT[:1], None)
            for task in TASKS[:2]
        )
    assert torch.equal(one, other)
    assert torch.equal(one[0], bank[0])
    assert "gates.predictors.encoder.context.bank_NC" in model.state_dict()
