import os
from collections.abc import Callable

from lhotse import MonoCut
from rich.console import Console

from speechgate.manifests.summary import Amount, manifest_table, summarize


def test_amounts_by_language(make_cut: Callable[..., MonoCut]) -> None:
    cuts = [make_cut("rus-1"), make_cut("rus-2", speaker="other"), make_cut("ita-1", language="ita", duration=1.8)]
    assert summarize(cuts) == {"ita": Amount(1, 1.8, {"maxim"}), "rus": Amount(2, 4.0, {"maxim", "other"})}
    assert summarize(cuts)["rus"].hours == 4 / 3600
    assert summarize([]) == {}


def test_table_shows_every_split(make_cut: Callable[..., MonoCut]) -> None:
    with open(os.devnull, "w") as nowhere:
        console = Console(width=100, record=True, file=nowhere)
        console.print(manifest_table({"train": [make_cut()] * 900, "test": [make_cut(speaker=None)]}))
    rows = [line.replace("│", "").split() for line in console.export_text().splitlines() if "rus" in line]
    assert rows == [["rus", "train", "900", "0.50", "1"], ["rus", "test", "1", "0.00", "unknown"]]
