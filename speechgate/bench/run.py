"""``speechgate bench``: every case of one model, timed turn by turn, to bench.json and a figure."""

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from speechgate.bench.efficiency import skip_efficiency
from speechgate.bench.figure import write_figure
from speechgate.bench.machine import Crowding, describe
from speechgate.bench.profile import module_times
from speechgate.bench.ratios import HALVES, ratios
from speechgate.bench.subject import Found, Subject, same
from speechgate.bench.timing import Parts, Samples, take_turns
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.files import write_json
from speechgate.gates.sites import kinds_of, module_shares
from speechgate.model.build import count_parameters
from speechgate.runinfo import run_info

SCHEMA = 1
STACKS = ("encoder", "decoder")


@dataclass(frozen=True)
class BenchOptions:
    """What to measure; ``espnet`` runs ESPnet's search beside this engine, which takes most of the time.

    A Whisper has no CTC, and ESPnet's search cannot decode it: ``ctc_weight`` and ``espnet`` are not used then.
    """

    model: str = "small"
    vocabulary: int = 2000
    audio_s: float = 30.0
    tokens: int = 60
    beam: int = 5
    ctc_weight: float = 0.3
    batch: int = 8
    repeats: int = 3
    espnet: bool = True


@dataclass(frozen=True)
class Case:
    """One way of decoding: the engine, CTC's weight, the batch and the masks (B or 1, S) of its utterances.

    Where not ``compiled``, this engine's modules of the decoder are PyTorch's.
    """

    name: str
    engine: str
    ctc_weight: float
    batch: int
    open_BS: Tensor
    mask: str = "dense"
    compiled: bool = True


class Bench:
    """One run of the benchmark."""

    def __init__(self, options: BenchOptions, execution: Execution, device: torch.device) -> None:
        self.options, self.execution, self.device = options, execution, device
        self.subject = Subject(options.model, options.vocabulary, device)
        self._found: dict[str, Found] = {}
        self.subject.gates.force(torch.ones(1, len(self.subject.gates.sites), dtype=torch.bool))
        with torch.inference_mode():
            self._frames = int(self.subject.model.encode(*self.subject.audio(options.audio_s, 1))[1])
        self._ctc_weights = sorted({0.0, options.ctc_weight}) if self.subject.of_espnet else [0.0]
        self._compiled = (
            (True, False) if execution.compiles(self.subject.model.decoder.output_layer.weight) else (True,)
        )
        self._engines: dict[tuple[float, bool], Engine] = {}
        for ctc_weight in self._ctc_weights:
            search = SearchOptions(beam_size=options.beam, ctc_weight=ctc_weight, fixed_steps=options.tokens, nbest=3)
            for compiled in self._compiled:
                engine = self.subject.engine(search, execution if compiled else replace(execution, compiled=False))
                self._engines[ctc_weight, compiled] = engine

    def cases(self) -> list[Case]:
        subject, options = self.subject, self.options
        dense = torch.ones(1, len(subject.gates.sites), dtype=torch.bool)
        half = {name: subject.mask(stacks)[None] for name, stacks in HALVES.items()}
        mixed = torch.stack([subject.mask(("decoder",), seed) for seed in range(options.batch)])
        cases = []
        for ctc_weight in self._ctc_weights:
            for batch in sorted({1, options.batch}):
                tail = f"b{batch} ctc{ctc_weight:g}"
                if options.espnet and subject.of_espnet:
                    cases.append(Case(f"espnet dense {tail}", "espnet", ctc_weight, batch, dense))
                for compiled in self._compiled:
                    name = f"{'' if compiled else 'uncompiled '}dense {tail}"
                    cases.append(Case(name, "speechgate", ctc_weight, batch, dense, compiled=compiled))
                for name, open_BS in half.items():
                    cases.append(Case(f"{name} {tail}", "speechgate", ctc_weight, batch, open_BS, name))
                if batch > 1:
                    cases.append(Case(f"mixed decoder50 {tail}", "speechgate", ctc_weight, batch, mixed, "mixed"))
        for stack in STACKS:
            for kind in kinds_of(subject.gates.sites, stack):
                open_BS = subject.without(stack, kind)[None]
                cases.append(Case(f"no {stack}.{kind} b1 ctc0", "speechgate", 0.0, 1, open_BS, f"{stack}.{kind}"))
        return cases

    def runner(self, case: Case) -> Callable[[], Parts]:
        engine = self._engines[case.ctc_weight, case.compiled]
        speech_BN, lengths_B = self.subject.audio(self.options.audio_s, case.batch)

        def run() -> Parts:
            if case.engine == "espnet":
                parts, found = self.subject.run_espnet(engine.options, speech_BN, lengths_B, case.open_BS)
            else:
                parts, found = self.subject.run(engine, speech_BN, lengths_B, case.open_BS)
            self._found[case.name] = found
            return parts | {"total_ms": sum(parts[f"{name}_ms"] for name in ("encoder", "ctc_head", "decoder"))}

        return run

    def profile(self, batch: int, ctc_weight: float) -> dict[str, float]:
        """Milliseconds of each kind of module in the dense model, run without a CUDA graph, which has no modules."""
        engine = self._engines[ctc_weight, True]
        if self.execution.cuda_graph:
            engine = self.subject.engine(engine.options, replace(self.execution, cuda_graph=False))
        speech_BN, lengths_B = self.subject.audio(self.options.audio_s, batch)
        dense = torch.ones(1, len(self.subject.gates.sites), dtype=torch.bool)
        runs = []
        for _ in range(max(3, self.options.repeats)):
            with module_times(self.subject.model, self.device) as spent:
                self.subject.run(engine, speech_BN, lengths_B, dense)
            runs.append(spent)
        return {name: median(run[name] for run in runs) for name in runs[0]}

    def record(self, case: Case, samples: Samples, dense: Samples, profile: dict[str, float]) -> dict[str, Any]:
        options = self.options
        stacks = {stack: case.open_BS[:, self.subject.gates.sites_of(stack)].float().mean() for stack in STACKS}
        encoder, head, decoder = (samples.median(part) for part in ("encoder_ms", "ctc_head_ms", "decoder_ms"))
        steps = options.tokens * case.batch
        reference = self._found.get(f"espnet dense b{case.batch} ctc{case.ctc_weight:g}")
        compared = case.mask == "dense" and case.engine == "speechgate" and reference is not None
        total = samples.median("total_ms")
        return {
            "name": case.name,
            "audio_s": options.audio_s,
            "batch": case.batch,
            "beam": options.beam,
            "ctc_weight": case.ctc_weight,
            "tokens": options.tokens,
            "engine": case.engine,
            "sparsity_decoder": round(1 - float(stacks["decoder"]), 4),
            "sparsity_encoder": round(1 - float(stacks["encoder"]), 4),
            "encoder_ms": encoder,
            "ctc_head_ms": head,
            "decoder_ms": decoder,
            "total_ms": total,
            **{key: samples.median(key) for key in ("encoder_cpu_ms", "ctc_head_cpu_ms", "decoder_cpu_ms")},
            "ms_per_token": decoder / steps,
            "real_time_factor": total / 1e3 / (options.audio_s * case.batch),
            "same_hypotheses": same(self._found[case.name], reference or []) if compared else None,
            "skip_efficiency": None
            if case.engine != "speechgate"
            else skip_efficiency(case.open_BS, self.subject.gates, dense, samples, profile),
            **self.floors(case),
            "samples": len(samples.parts),
            "dropped": samples.dropped,
            "disturbed": samples.disturbed,
        }

    def floors(self, case: Case) -> dict[str, float]:
        """Multiply-accumulates of the case, by the table of ``gates.cost``, and bytes of weights its steps read."""
        table, options = self._engines[case.ctc_weight, case.compiled].cost, self.options
        features = int(options.audio_s * 16_000) // self.subject.model.frontend.hop_length + 1
        frames = self._frames
        rows = case.open_BS.expand(case.batch, -1)
        macs = sum(table.utterance_macs(row, features, frames, options.tokens, options.beam)[0] for row in rows)
        decoder = self.subject.stacks["decoder"]
        parts = {kind.name: kind.parts for kind in decoder.kinds}
        read = count_parameters(self.subject.model.decoder.output_layer)
        sites = self.subject.gates.sites
        for site, part, is_open in zip(sites, module_shares(sites), rows.any(0).tolist(), strict=True):
            if site.stack == "decoder" and is_open:
                layer = decoder.layers[site.layer]
                read += int(part * sum(count_parameters(getattr(layer, name)) for name in parts[site.kind]))
        width = 2 if self.execution.precision == "bfloat16" else 4
        return {"gmacs": macs / 1e9, "gbytes_read_by_steps": read * width * options.tokens / 1e9}


def run_bench(
    options: BenchOptions, execution: Execution, device: torch.device, out: Path, said: Callable[[str], None]
) -> dict[str, Any]:
    """Measure, and write bench.json and bench.png into ``out``; returns what bench.json holds."""
    said("the machine")
    machine = describe(device, execution)
    bench = Bench(options, execution, device)
    crowding = Crowding(torch.get_num_threads())
    cases = bench.cases()
    samples: dict[str, Samples] = {}
    for ctc_weight in sorted({case.ctc_weight for case in cases}):
        for batch in sorted({case.batch for case in cases}):
            group = [case for case in cases if (case.ctc_weight, case.batch) == (ctc_weight, batch)]
            runners = {case.name: bench.runner(case) for case in group}
            samples |= take_turns(runners, options.repeats, crowding, said)
    said("modules one by one")
    profiles = {key: bench.profile(*key) for key in {(case.batch, case.ctc_weight) for case in cases}}
    records = []
    for case in cases:
        dense = samples[f"dense b{case.batch} ctc{case.ctc_weight:g}"]
        profile = profiles[case.batch, case.ctc_weight]
        records.append(bench.record(case, samples[case.name], dense, profile))
    machine["others"] = crowding.summary
    machine["peak_memory_mb"] = _peak_memory_mb(device)
    result = {
        "schema": SCHEMA,
        "machine": machine,
        "model": {
            "name": options.model,
            "vocabulary": len(bench.subject.checkpoint.tokenizer.token_list),
            "parameters": count_parameters(bench.subject.model),
            **{f"{name}_layers": len(stack.layers) for name, stack in bench.subject.stacks.items()},
            "width": bench.subject.stacks["encoder"].width,
        },
        "cases": records,
        "profiles": [
            {"batch": batch, "ctc_weight": weight, "ms": profile} for (batch, weight), profile in profiles.items()
        ],
        "ratios": ratios(records, options.batch, max(case.ctc_weight for case in cases)),
        "run": run_info(device),
    }
    write_json(out / "bench.json", result)
    write_figure(result, out / "bench.png")
    return result


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
