#!/usr/bin/env bash
# The prompts corpus, from the recordings to the report.
# shellcheck disable=SC2034 # they are for the stages
corpus=prompts
tasks=
langs=
sources="where the recordings come from: auto, apt, tarball, bundled, or a folder (auto)"
sparsity=0.25,0.5,0.75
stack=decoder
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
