"""The counts of a preparation as one HTML page without outside references, and as a table for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table

from speechgate.files import write_text
from speechgate.manifests.gate import issue_totals


def write_page(path: Path, section: Mapping[str, Any]) -> None:
    """Write the page of a preparation whose counts, as `Gate.plain` gives them, are in ``section``."""
    environment = Environment(
        loader=PackageLoader("speechgate.manifests", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("quality_report.html")
    write_text(path, template.render(section=section, totals=issue_totals(section), bars=_bars(section)))


def _bars(section: Mapping[str, Any]) -> dict[str, list[tuple[int, int, float]]]:
    """For each language the cuts of each whole second, all splits together: (second, cuts, share of the highest)."""
    bars = {}
    for language, splits in section["languages"].items():
        counts: dict[int, int] = {}
        for amount in splits.values():
            for second, count in amount["seconds_histogram"].items():
                counts[int(second)] = counts.get(int(second), 0) + count
        highest = max(counts.values())
        bars[language] = [(second, count, count / highest) for second, count in sorted(counts.items())]
    return bars


def quality_table(section: Mapping[str, Any]) -> Table:
    """Hours, utterances and speakers of each language and split, then every kind of problem."""
    title = f"{section['corpus']}: {section['kept_out']:,} of {section['seen']:,} utterances kept out"
    table = Table("language", "split", "utterances", "hours", "speakers", "translated into", title=title)
    for language, splits in section["languages"].items():
        for split, amount in splits.items():
            numbers = (f"{amount['utterances']:,}", f"{amount['hours']:.2f}", str(amount["speakers"] or "unknown"))
            table.add_row(language, split, *numbers, " ".join(amount["translated"]))
    table.add_section()
    for kind, count in sorted(issue_totals(section).items()):
        table.add_row("", kind, f"{count:,}")
    for row in section.get("leaks", ()):
        table.add_row("", f"{row['shared']} of {row['splits'][1]} also in {row['splits'][0]}", f"{row['count']:,}")
    return table
