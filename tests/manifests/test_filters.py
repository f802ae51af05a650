import pickle
from collections.abc import Callable
from pathlib import Path

from lhotse import CutSet, MonoCut

from speechgate.manifests.cuts import read_cuts, write_cuts
from speechgate.manifests.filters import DurationBetween


def test_both_limits_are_allowed(make_cut: Callable[..., MonoCut]) -> None:
    cuts = CutSet([make_cut(f"rus-{seconds}", duration=seconds) for seconds in (0.4, 0.5, 1.0, 2.0, 2.1)])
    assert [cut.duration for cut in cuts.filter(DurationBetween(0.5, 2.0))] == [0.5, 1.0, 2.0]


def test_lazy_stays_lazy_and_can_be_pickled(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    write_cuts([make_cut("rus-1"), make_cut("rus-2", duration=0.1)], tmp_path / "cuts.jsonl.gz")
    kept = read_cuts(tmp_path / "cuts.jsonl.gz").filter(DurationBetween(0.3, 30.0))
    assert kept.is_lazy
    assert [cut.id for cut in pickle.loads(pickle.dumps(kept))] == ["rus-1"]
