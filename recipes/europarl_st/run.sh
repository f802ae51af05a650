#!/usr/bin/env bash
# Europarl-ST, from the recordings to the report.
# shellcheck disable=SC2034 # they are for the stages
corpus=europarl_st
tasks=asr,st
langs=de,fr,it
sources="the folder of the corpus; data/$corpus/source by default"
sparsity=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9
stack=encoder,decoder,both
source "$(dirname "${BASH_SOURCE[0]}")/../stages.sh"
