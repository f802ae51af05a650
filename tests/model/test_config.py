"""Configurations: what is refused and how, and every file of conf/."""

from dataclasses import asdict, fields

import pytest
import torch

from speechgate.config import (
    CONF_DIR,
    Experiment,
    GatesConfig,
    ModelConfig,
    TrainConfig,
    from_mapping,
    load_experiment,
    load_yaml,
    phases,
    to_mapping,
)
from speechgate.errors import ConfigError
from speechgate.model.build import build_model, count_parameters
from tests.model.tiny import random_model, speech, tiny_config, tokenizer

MODELS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
TRAININGS = sorted(path.stem for path in (CONF_DIR / "train").glob("*.yaml"))
OWSM_VOCABULARY = 50_002
PUBLISHED = {
    "owsm_v3.1_base": "101M",
    "owsm_v3.1_small": "367M",
    "owsm_v3.1_medium": "1.02G",
    "owsm_v4_base": "102M",
    "owsm_v4_small": "370M",
    "owsm_v4_medium": "1.02G",
}


def model_config(name: str) -> ModelConfig:
    return from_mapping(ModelConfig, load_yaml(CONF_DIR / "model" / f"{name}.yaml"), name)


def symbols(count: int) -> list[str]:
    """A token list of ``count`` with OWSM's special symbols."""
    return ["<blank>", "<unk>", "<na>", *(f"piece{i}" for i in range(count - 6)), "<sos>", "<eos>", "<sop>"]


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith(("owsm", "whisper"))])
def test_a_model_of_conf_builds_and_runs(name):
    config = model_config(name)
    model = build_model(config, symbols(60)).eval()
    with torch.inference_mode():
        out_BTD, frames_B = model.encode(*speech([8_000, 5_000]))
    assert out_BTD.shape == (2, int(frames_B.max()), config.encoder["output_size"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_owsm_has_its_published_size(name):
    with torch.device("meta"):
        model = build_model(model_config(name), symbols(OWSM_VOCABULARY))
    count = count_parameters(model)
    shown = f"{count / 1e9:.2f}G" if count > 1e9 else f"{count / 1e6:.0f}M"
    assert shown == PUBLISHED[name]


def test_conf_holds_the_models_that_it_should():
    assert {"debug", "demo", "small", *PUBLISHED} <= set(MODELS)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_of_conf_loads(name):
    experiment = load_experiment(name)
    assert (experiment.model is None) != (experiment.init is None)
    if experiment.init is not None:
        assert experiment.init in {load_experiment(other).name for other in TRAININGS}
    assert all(isinstance(value, str) for value in experiment.tasks)
    assert isinstance(experiment.train, TrainConfig)


def test_what_is_saved_with_a_checkpoint_reads_back():
    config = GatesConfig(context=("task",), target=0.3)
    assert from_mapping(GatesConfig, to_mapping(config), "here") == config
    model = tiny_config()
    assert asdict(from_mapping(ModelConfig, to_mapping(model), "here")) == asdict(model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"lerning_rate": 1.0},
            r"here: 'lerning_rate' is not known; did you mean 'learning_rate'\? Choose from: .*clip",
        ),
        ({"xyz": 1}, "here: 'xyz' is not known"),  # nothing is near it
        ({"updates": "many"}, r"here\.updates: 'many' is not of type int"),
        ({"updates": 1.5}, r"here\.updates: 1\.5 is not of type int"),
        ({"updates": True}, r"here\.updates: True is not of type int"),
        ({"learning_rate": "fast"}, r"here\.learning_rate: 'fast' is not of type float"),
        ({"precision": 16}, r"here\.precision: 16 is not of type str"),
        ({"speed_perturb": 0.9}, r"here\.speed_perturb: 0\.9 is not of type tuple"),
        ({"teacher": {"model": "x", "wieght": 1.0}}, r"here\.teacher: 'wieght' is not known; did you mean 'weight'"),
        ({"noise": "musan"}, r"here\.noise is 'musan': give a mapping with any of the keys: sounds, share, snr_db"),
        ({"teacher": {}}, r"here\.teacher: .*model"),
    ],
)
def test_wrong_keys_and_types_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(TrainConfig, values, "here")


def test_whole_numbers_serve_as_floats_and_lists_as_tuples():
    config = from_mapping(TrainConfig, {"learning_rate": 1, "speed_perturb": [0.9, 1.1]}, "here")
    assert (config.learning_rate, config.speed_perturb) == (1.0, (0.9, 1.1))
    assert isinstance(config.learning_rate, float)


def test_every_field_has_a_default_of_its_type():
    for config in (TrainConfig(), GatesConfig()):
        assert from_mapping(type(config), {f.name: getattr(config, f.name) for f in fields(config)}, "here") == config


def test_an_experiment_is_read_with_overrides():
    experiment = load_experiment("debug", ["train.updates=7", "train.learning_rate=0.5"])
    assert (experiment.name, experiment.train.updates, experiment.train.learning_rate) == ("debug", 7, 0.5)
    assert experiment.model == model_config("debug")
    with pytest.raises(ConfigError, match=r"train: 'updats' is not known; did you mean 'updates'"):
        load_experiment("debug", ["train.updats=7"])
    with pytest.raises(ConfigError, match=r"no configuration .*; in that folder: .*debug"):
        load_experiment("debgu")


@pytest.mark.parametrize("text", ["train: {updates: 7\n", "name: ${nope}\n", "a: b: c\n"])
def test_a_file_that_is_not_yaml_is_named(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine.yaml cannot be read: "):
        load_experiment(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name", "--set 'name': give key=value"),
        ("train.updates=[1", "override of .*debug.yaml: "),
        ("train.seed=${nope}", "override of .*debug.yaml: "),
        ("train.max_duration=0", "train.max_duration is 0.0: give a number above 0"),
        ("train.task_temperature=0", "train.task_temperature is 0.0: give a number above 0"),
        ("train.speed_perturb=[fast]", r"train.speed_perturb is \['fast'\]: give speeds"),
        ("train.repeat={prompts: true}", "train.repeat.prompts is True: give a whole number"),
    ],
)
def test_an_override_that_cannot_be_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment("debug", [override])


def test_a_configuration_may_rest_on_one_that_rests_on_another(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: corpus_gates\ngates: {context: [task]}\ntrain: {updates: 7}\n")
    mine, corpus, gates = load_experiment(path), load_experiment("corpus_gates"), load_experiment("gates")
    assert (mine.name, mine.train.updates, mine.gates.context) == ("mine", 7, ("task",))
    assert mine.train.max_duration == corpus.train.max_duration != gates.train.max_duration
    assert mine.gates.rule == gates.gates.rule == "budget"
    assert mine.init == "dense"


def test_phases_go_back_to_the_one_that_begins_from_nothing(tmp_path):
    for name, text in {"a": "model: debug", "b": "init: a", "c": "init: b", "d": "init: elsewhere"}.items():
        (tmp_path / f"{name}.yaml").write_text(f"{text}\ntasks: [asr]\n")
    assert [path.stem for path in phases(tmp_path / "c.yaml")] == ["a", "b", "c"]
    assert [path.stem for path in phases(tmp_path / "d.yaml")] == ["d"]
    assert [path.stem for path in phases("dense")] == ["acoustics", "attention", "dense"]


def test_an_experiment_of_another_folder(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: debug\ntasks: [asr]\ngates: {stack: middle}\n")
    with pytest.raises(ConfigError, match=r"gates\.stack: 'middle' is not known.*encoder, decoder, both"):
        load_experiment(path)
    path.write_text("- a list\n")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_experiment(path)
    path.write_text("model: absent\ntasks: [asr]\n")
    with pytest.raises(ConfigError, match=r"no configuration .*absent\.yaml; in that folder: .*debug"):
        load_experiment(path)
    path.write_text("model: debug\ntasks: [asr]\n")
    assert load_experiment(path) == Experiment("mine", ("asr",), model_config("debug"))


@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        ("encoder", {"num_block": 2}, r"model\.encoder: 'num_block' is not known; did you mean 'num_blocks'"),
        ("encoder", {"num_blocks": "two"}, r"model\.encoder: .*num_blocks"),
        ("encoder", {"attention_heads": 3}, r"model\.encoder: EBranchformerEncoder refuses"),
        ("encoder", {"input_size": 3}, r"model\.encoder: 'input_size' is not known"),  # it follows from the frontend
        ("decoder", {"linear_unit": 2}, r"model\.decoder: 'linear_unit' is not known; did you mean 'linear_units'"),
        ("frontend", {"hop_len": 2}, r"model\.frontend: 'hop_len' is not known; did you mean 'hop_length'"),
        ("normalize", {"norm_var": True}, r"model\.normalize: 'norm_var' is not known; did you mean 'norm_vars'"),
        ("hybrid", {"lsm": 0.1}, r"model\.hybrid: 'lsm' is not known"),
        ("hybrid", {"ctc_weight": 1.0}, r"model\.hybrid\.ctc_weight"),
        ("hybrid", {"ctc_weight": 0.0}, r"model\.hybrid\.ctc_weight"),
        ("hybrid", {"ctc_weight": 2.0}, r"model\.hybrid: ESPnetS2TModel refuses"),
    ],
)
def test_what_espnet_s_classes_do_not_take_is_refused_by_section(section, keys, message):
    config = tiny_config()
    getattr(config, section).update(keys)
    with pytest.raises(ConfigError, match=message):
        random_model(config)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"encoder": 5}, r"\.encoder\b.* 5\b"),
        ({"decoder": None}, r"\.decoder\b.* None\b"),
        ({"specaug": True}, r"\.specaug\b.* True\b"),
        ({"init": "xavier"}, r"model\.init: .*xavier_uniform"),
    ],
)
def test_a_section_or_initialisation_that_is_none_is_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        build_model(from_mapping(ModelConfig, {**to_mapping(tiny_config()), **keys}, "here"), tokenizer().token_list)


def test_specaug_is_checked_too():
    config = from_mapping(ModelConfig, {**to_mapping(tiny_config()), "specaug": {"num_freq_masks": 2}}, "here")
    with pytest.raises(
        ConfigError, match=r"model\.specaug: 'num_freq_masks' is not known; did you mean 'num_freq_mask'"
    ):
        build_model(config, tokenizer().token_list)
    with pytest.raises(ConfigError, match="here: 'specaugment' is not known; did you mean 'specaug'"):
        from_mapping(ModelConfig, {"specaugment": None}, "here")
