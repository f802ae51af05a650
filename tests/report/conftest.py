"""Made-up decode directories: two kinds of task, three languages, a dense model that listens and gated ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechgate.gates.sites import stacks_of
from speechgate.scoring.score import score_directory

TASKS = ("asr:eng", "asr:fra", "asr:spa", "st:fra-eng", "st:spa-eng")
MODELS = (("none", 0.0), ("decoder", 0.3), ("decoder", 0.5), ("decoder", 0.7), ("encoder", 0.5))
LAYERS = {"encoder": 6, "decoder": 3}
KINDS = {"encoder": ("ffn1", "attn", "cgmlp", "ffn2"), "decoder": ("self_attn", "src_attn", "ffn")}
SITES = [[s, layer, kind] for s, kinds in KINDS.items() for layer in range(LAYERS[s]) for kind in kinds]
UTTERANCES = 20
SENTENCES = {
    "eng": "please enter your password followed by the pound key then press one to hear your new messages",
    "fra": "veuillez composer votre mot de passe puis la touche dièse pour écouter vos nouveaux messages",
    "spa": "por favor marque su clave seguida de la tecla numeral para escuchar sus mensajes nuevos",
}


@pytest.fixture(scope="session")
def write_decode_dir() -> Callable[..., Path]:
    """Return a function that writes one scored decode directory: (folder, stack, target) -> its path."""

    def write(folder: Path, stack: str, target: float) -> Path:
        directory = folder / f"{stack}_{100 * target:.0f}" / "decode_test"
        directory.mkdir(parents=True)
        rng = np.random.default_rng(7)
        damage = 0.15 + (0.25 if stack == "encoder" else 0.06) * target
        _write_lines(directory / "hypotheses.jsonl", _utterances(rng, stack, target, damage))
        info: dict[str, Any] = {
            "schema": 1,
            "corpus": "prompts",
            "split": "test",
            "checkpoint": f"exp/prompts/demo/gates_{stack}_{target:.2f}",
            "stack": stack,
            "sparsity_target": target,
            "sites": SITES,
            "options": {"beam": 4, "ctc_weight": 0.3},
            "device": "cpu",
            "threads": 2,
            "wall_seconds": 12.5,
            "seconds_per_utterance": dict.fromkeys(TASKS, 0.21 * (1 - 0.5 * target)),
            "time_vs_dense": {task: 1 - 0.45 * target - 0.01 * n for n, task in enumerate(TASKS)} if target else {},
            "run": {"commit": "0123abc", "dirty": False, "versions": {"torch": "2.11", "python": "3.12"}},
            "deaf": {},
        }
        if stack == "none":
            for condition in ("shuffled", "silent"):
                _write_lines(directory / f"hypotheses_{condition}.jsonl", _utterances(rng, stack, target, 0.95))
            info["deaf"] = {t: {c: {"path": f"hypotheses_{c}.jsonl"} for c in ("shuffled", "silent")} for t in TASKS}
        (directory / "decode.json").write_text(json.dumps(info), encoding="utf-8")
        score_directory(directory)
        return directory

    return write


@pytest.fixture(scope="session")
def decode_dirs(tmp_path_factory: pytest.TempPathFactory, write_decode_dir: Callable[..., Path]) -> list[Path]:
    folder = tmp_path_factory.mktemp("exp")
    return [write_decode_dir(folder, stack, target) for stack, target in MODELS]


def _utterances(rng: np.random.Generator, stack: str, target: float, damage: float) -> list[dict[str, Any]]:
    lines = []
    for task in TASKS:
        src, tgt = task[-7:-4] if task.startswith("st") else task[-3:], task[-3:]
        for number in range(UTTERANCES):
            words = SENTENCES[tgt].split()[number % 5 : number % 5 + 6 + number % 7]
            heard = [word if rng.random() > damage else "tone" for word in words]
            gates = "".join(str(int(_is_open(rng, stack, target, site, task))) for site in SITES)
            closed = gates.count("0") / len(gates)
            lines.append(
                {
                    "id": f"{src}-vm_{number:02d}",
                    "task": task,
                    "src": src,
                    "tgt": tgt,
                    "reference": " ".join(words).capitalize() + ".",
                    "hypothesis": " ".join(heard),
                    "ctc_hypothesis": " ".join(heard[:-1]) if task.startswith("asr") else None,
                    "score": -4.2,
                    "steps": 20,
                    "audio_seconds": 1.5 + 0.2 * number,
                    "macs": 1e9 * (1 - 0.8 * closed),
                    "macs_dense": 1e9,
                    "gates": gates,
                }
            )
    return lines


def _is_open(rng: np.random.Generator, stack: str, target: float, site: list[Any], task: str) -> bool:
    """Closed more often in deep layers; translation keeps its feed-forward modules."""
    if site[0] not in stacks_of(stack):
        return True
    depth = (site[1] + 0.5) / LAYERS[site[0]] - 0.5
    kept = 0.35 if site[2] == "ffn" and task.startswith("st") else -0.1 * (site[2] == "src_attn")
    return bool(rng.random() < np.clip(1 - target - 0.8 * depth + kept, 0, 1))


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
