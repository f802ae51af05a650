"""The device of a process, on a machine that says it has two GPUs."""

import pytest
import torch

from speechgate.runinfo import pick_device


@pytest.mark.parametrize(
    ("environment", "index", "said"),
    [
        ({}, 0, ""),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, 0, ""),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, 1, ""),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "5"}, 0, "5 processes share the 2 GPUs of this machine"),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "5"}, 1, ""),
        ({"SLURM_LOCALID": "1"}, 1, ""),
    ],
)
def test_each_process_takes_a_gpu_and_too_many_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, environment: dict[str, str], index: int, said: str
) -> None:
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: None)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pick_device() == torch.device("cuda", index)
    assert chosen == [torch.device("cuda", index)]
    printed = capsys.readouterr().err
    assert printed.startswith(said) if said else not printed


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")
