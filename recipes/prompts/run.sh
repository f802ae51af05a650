#!/usr/bin/env bash
# The prompts corpus, from the recordings to the report.
# shellcheck disable=SC2034 # they are for the stages
corpus=prompts
tasks=
sources="where the recordings come from: auto, apt, tarball, bundled, or a folder (auto)"
dense=acoustics,attention,dense # first hearing, through CTC alone; then the decoder; then recombined words
gates=gates
sparsity=0.25,0.5,0.75
stack=decoder
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
