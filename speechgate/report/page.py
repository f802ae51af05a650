"""The report's page: one HTML file with everything inside, figures and results.json beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from speechgate.errors import ConfigError
from speechgate.files import write_json, write_text
from speechgate.report import figures, numbers
from speechgate.report.headlines import headlines, trade_offs
from speechgate.report.models import read_models
from speechgate.report.results import collect_results, write_results
from speechgate.report.rows import listening_rows, result_tables
from speechgate.report.samples import choose_samples
from speechgate.scoring.bootstrap import RESAMPLES
from speechgate.usage.summary import summarize_usage
from speechgate.usage.theme import DARK, LIGHT

EXTRA_KEYS = ("run", "preparation")


def write_report(decode_dirs: Sequence[Path], out_dir: Path, title: str, extra: dict[str, Any] | None = None) -> Path:
    """Compare scored decode directories, one of them dense, and write index.html, results.json, usage.json and PNGs.

    Args:
        decode_dirs: directories with decode.json, hypotheses.jsonl and scores.json, of one corpus and split.
        extra: "run": the run that made this report, nested mappings welcome (default: the dense decoding's run);
            "preparation": counts of the data preparation as {row: {column: value}}.

    Returns:
        The page's path.

    Raises:
        ConfigError: the directories do not belong together or are not scored, or ``extra`` has an unknown key.
    """
    extra = extra or {}
    if unknown := sorted(extra.keys() - set(EXTRA_KEYS)):
        raise ConfigError(f"report: unknown extra {', '.join(unknown)}; known are {', '.join(EXTRA_KEYS)}")
    models = read_models(decode_dirs)
    results = collect_results(models, extra.get("run", models[0].decoded.run))
    usage = [
        (model.decoded, summarize_usage(model.decoded), figures.draw(figures.usage_figures(model), out_dir))
        for model in models[1:]
    ]
    page = {
        "title": title,
        "light": LIGHT,
        "dark": DARK,
        "resamples": RESAMPLES,
        "models": models,
        "decoded": models[0].decoded,
        "headlines": headlines(results),
        "trade_offs": trade_offs(results),
        "quality": figures.draw(figures.quality_figures(results), out_dir),
        "time": figures.draw(figures.time_figures(results), out_dir),
        "usage": usage,
        "tables": result_tables(results),
        "listening": listening_rows(results),
        "samples": choose_samples(models),
        "preparation": extra.get("preparation", {}),
        "run": _flat(results["run"]),
        "signatures": sorted({row["signature"] for row in results["rows"]}),
    }
    write_results(out_dir / "results.json", results)
    write_json(out_dir / "usage.json", [summary for _, summary, _ in usage])
    write_text(out_dir / "index.html", _render(page))
    return out_dir / "index.html"


def _render(page: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("speechgate.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("points", "signed", "percent", "interval", "p_value"):
        environment.filters[name] = getattr(numbers, name)
    return environment.get_template("template.html").render(page)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
