#!/usr/bin/env bash
# Gates on a pretrained Whisper: recordings of people and a transfer set that synthesisers speak, to the report.
# shellcheck disable=SC2034 # some are for options.sh
recipe=whisper
sources="folder of sentences or messages (docs/whisper.md); /usr/share/locale by default"
stages=("prepare recordings" "choose sentences" speak "prepare both" "train dense" "train gates" decode "score and report")
options=(model count)
model=openai/whisper-base
count=40000
about="  --model WHISPER  name on transformers' hub, or a folder ($model)
  --count N        sentences a language, of those that the source has ($count)"
source "$(dirname "${BASH_SOURCE[0]}")/../options.sh"

home=data/whisper # apart from other data of one's own
texts=$home/texts
spoken=$home/transfer
mix=(--corpus "own,prompts" --exp exp/whisper)
dial=0.3,0.5,0.7
if [[ $source == auto ]]; then
  source=/usr/share/locale
fi

if in_range 1; then
  speechgate prepare --corpus prompts --data "$home"
fi
if in_range 2; then
  run python scripts/make_transfer_set.py sentences "$source" "$texts" --count "$count" \
    --without "$home"/prompts/cuts_{dev,test}.jsonl.gz
fi
if in_range 3; then
  run python scripts/make_transfer_set.py speak "$texts" "$spoken" --count "$count"
fi
if in_range 4; then
  speechgate prepare --corpus own --source "$spoken" --data "$home"
  speechgate prepare --corpus own,prompts --data "$home"
fi
if in_range 5; then
  speechgate train "${mix[@]}" --data "$home" --conf recipes/whisper/conf/dense.yaml --model "$model"
fi
if in_range 6; then
  speechgate train "${mix[@]}" --data "$home" --conf recipes/whisper/conf/gates.yaml --stack decoder --sparsity 0.5
  speechgate train "${mix[@]}" --data "$home" --conf recipes/whisper/conf/gates_dial.yaml --stack decoder
fi
if in_range 7; then
  speechgate decode "${mix[@]}" --data "$home" --split prompts_test --stack decoder --sparsity 0,0.5 # 0: dense
  speechgate decode "${mix[@]}" --data "$home" --split prompts_test --name gates_dial_decoder --sparsity "$dial"
fi
if in_range 8; then
  speechgate score "${mix[@]}" --split prompts_test
  speechgate report "${mix[@]}" --data "$home" --split prompts_test
fi
