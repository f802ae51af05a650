"""The stages of a recipe from training to the report, and the demo.  Each is a few lines over ``speechgate.recipe``."""

from pathlib import Path
from typing import Annotated

import typer

from speechgate.cli.options import (
    DATA,
    EXP,
    Corpus,
    CudaGraph,
    Data,
    Exp,
    Int8Output,
    Langs,
    Name,
    Precision,
    Source,
    Sparsity,
    Split,
    Stack,
    Tasks,
    app,
    experiments_of,
    parts_of,
    targets_of,
)
from speechgate.errors import ConfigError


@app.command()
def train(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[
        str, typer.Option(help="conf/train name or path, several with commas; the recipe's own otherwise")
    ] = "",
    sparsity: Sparsity = "",
    stack: Stack = "",
    init: Annotated[Path | None, typer.Option(help="checkpoint folder to continue from")] = None,
    model: Annotated[str, typer.Option(help="Whisper to begin from, with --conf whisper: hub name or folder")] = "",
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value of the configuration")] = None,
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Train a model as the recipe says (its conf folder), or gates (with --sparsity) on a trained one.

    Prepares the corpus first if it is not.  With --task or --lang the results go to a folder of their own:
    exp/prompts/asr_fra for --task asr --lang fr.
    """
    from speechgate import preparation
    from speechgate.config import load_experiment
    from speechgate.recipe import Recipe

    recipe = Recipe(corpus, data, exp)
    override = [*(override or ()), *([f"model.whisper={model}"] if model else ())]
    stacks: list[str | None] = [*parts_of(stack)] or [None]
    targets: list[float | None] = [*targets_of(sparsity)] or [None]
    names: list[str] | list[Path] = parts_of(conf) or recipe.configurations(gated=bool(sparsity or stack))
    experiments = [
        load_experiment(name, override).with_gates(each, target)
        for name in names
        for each in stacks
        for target in targets
    ]
    if not recipe.is_prepared:
        preparation.prepare(recipe, "auto")
    for experiment in experiments:
        print(recipe.train(experiment, parts_of(task), parts_of(lang), init=init))


@app.command()
def decode(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[str, typer.Option(help="conf/decode name or path; beam by default, whisper for Whisper")] = "",
    name: Name = "",
    sparsity: Sparsity = "",
    stack: Stack = "decoder",
    split: Split = "test",
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary", help="write each language with the tokens that `vocabulary` learnt alone")
    ] = False,
    precision: Precision = "float32",
    int8_output: Int8Output = False,
    cuda_graph: CudaGraph = False,
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Write the hypotheses of trained models; gated ones are timed against the dense one.

    --name with --sparsity turns the budget dial of gates that have one: a decoding for each setting.
    Started by torchrun or as a Slurm array, each process decodes its shard, and the last one joins them.
    """
    from speechgate import hypotheses
    from speechgate.decoding.execution import Execution
    from speechgate.recipe import Recipe
    from speechgate.shard import started_shard

    recipe, execution = Recipe(corpus, data, exp), Execution(precision, int8_output=int8_output, cuda_graph=cuda_graph)
    tasks, langs, options = parts_of(task), parts_of(lang), hypotheses.decode_options(conf) if conf else None
    shard = started_shard()
    for experiment, budget in experiments_of(name, stack, sparsity):
        folder = recipe.folder_of(experiment, tasks, langs)
        dense = recipe.dense_of(folder)
        for each in recipe.held_out(split):
            out = hypotheses.decode(
                recipe,
                folder,
                each,
                tasks,
                langs,
                options,
                dense=dense,
                deaf=dense is None,
                budget=budget,
                shard=shard,
                vocabulary=vocabulary,
                execution=execution,
            )
            if (out / "decode.json").is_file():  # no shard is missing
                print(out)


@app.command()
def score(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    name: Name = "",
    sparsity: Sparsity = "",
    stack: Stack = "decoder",
    split: Split = "test",
    exp: Exp = EXP,
) -> None:
    """WER, CER, BLEU and chrF of what was decoded; everything decoded by default."""
    from speechgate.hypotheses import decoded_name, decodings
    from speechgate.recipe import Recipe
    from speechgate.scoring.score import score_directory

    recipe = Recipe(corpus, exp=exp)
    home = recipe.home_of(parts_of(task), parts_of(lang))
    chosen = experiments_of(name, stack, sparsity) if name or sparsity else []
    folders = [
        folder
        for held_out in recipe.held_out(split)
        for folder in [home / each / decoded_name(held_out, budget) for each, budget in chosen]
        or decodings(home, held_out)
    ]
    if not folders:
        raise ConfigError(f"nothing is decoded in {home}: run speechgate decode first")
    for folder in folders:
        for row in score_directory(folder)["rows"]:
            low, high = row["ci95"]
            print(f"{folder}  {row['task']}  {row['metric']} {row['value']:.1f} [{low:.1f}, {high:.1f}]")


@app.command()
def sweep(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    conf: Annotated[str, typer.Option(help="conf/train name or path of the gates; the recipe's own otherwise")] = "",
    sparsity: Sparsity = "0.25,0.5,0.75",
    stack: Annotated[str, typer.Option(help="stacks to gate, several with commas")] = "decoder",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Train gates at several targets, decode and score each beside the dense model, and report."""
    from speechgate.config import load_experiment
    from speechgate.demo import Point, run_points
    from speechgate.recipe import Recipe

    recipe, tasks, langs = Recipe(corpus, data, exp), parts_of(task), parts_of(lang)
    if len(recipe.corpora) > 1:
        raise ConfigError(f"--corpus {corpus}: a sweep takes one corpus; train, decode and score take a mix")
    points = [Point(each, target) for each in parts_of(stack) for target in targets_of(sparsity)]
    gates = Path(conf) if conf.endswith(".yaml") else conf or recipe.configurations(gated=True)[0]
    dense = recipe.folder_of(load_experiment(gates).init or "dense", tasks, langs)
    run_points(recipe, points, gates, recipe.home_of(tasks, langs), tasks, langs, dense)


@app.command()
def report(
    corpus: Corpus = "prompts",
    task: Tasks = "",
    lang: Langs = "",
    name: Name = "",
    split: Split = "test",
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """Write one page and results.json over everything that is decoded and scored: exp/<corpus>/report.

    --name narrows it down to some experiments, of which one is dense.
    """
    from speechgate.demo import write_page
    from speechgate.hypotheses import decodings
    from speechgate.recipe import Recipe

    recipe = Recipe(corpus, data, exp)
    home = recipe.home_of(parts_of(task), parts_of(lang))
    for each in recipe.held_out(split):
        chosen = parts_of(name)
        found = [folder for folder in decodings(home, each) if not chosen or folder.parent.name in chosen]
        if unknown := set(chosen) - {folder.parent.name for folder in found}:
            raise ConfigError(f"nothing of {each} is decoded in {home} by {', '.join(sorted(unknown))}")
        scored = [folder for folder in found if (folder / "scores.json").is_file()]
        if unscored := [str(folder) for folder in found if folder not in scored]:
            raise ConfigError(f"not scored since it was decoded: {', '.join(unscored)}; run speechgate score first")
        if not scored:
            raise ConfigError(f"nothing of {each} is decoded in {home}: run speechgate decode and score first")
        print(write_page(recipe, scored, home / ("report" if each == split else f"report_{each}")))


@app.command()
def demo(
    source: Source = "auto",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="train the dense model too (needs a GPU)")
    ] = False,
    data: Data = DATA,
    exp: Exp = EXP,
) -> None:
    """The main job, end to end: prepare prompts, train gates, decode, score, report."""
    from speechgate.demo import run_demo

    run_demo(source, from_scratch, data, exp)
