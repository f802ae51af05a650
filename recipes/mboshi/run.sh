#!/usr/bin/env bash
# Mboshi-French, from the recordings to the report.
# shellcheck disable=SC2034 # they are for the stages
corpus=mboshi
tasks=
langs=
sources="the folder of the corpus; data/$corpus/source by default"
sparsity=0.3,0.5,0.7
stack=decoder
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
