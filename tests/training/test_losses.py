from pathlib import Path

from speechgate.training.losses import merged


def session(work: Path, start: int, text: str) -> None:
    path = work / "metrics" / f"from-{start:08d}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_sessions_become_one_table_with_a_row_an_update(tmp_path: Path) -> None:
    session(tmp_path, 0, "step,lr,train/loss\n0,0.1,\n0,,5.0\n1,,4.0\n2,,3.9\n")
    session(tmp_path, 2, "step,train/loss,valid/loss\n2,3.0,\n2,,2.5\n")
    assert merged(tmp_path) == "step,lr,train/loss,valid/loss\n0,0.1,5.0,\n1,,4.0,\n2,,3.0,2.5\n"
