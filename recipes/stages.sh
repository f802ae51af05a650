# shellcheck shell=bash
# The stages of a corpus's recipe, from the recordings to the report; each is one call of the CLI.
# recipes/<corpus>/run.sh sets corpus, tasks and langs (empty for all), sources (what --source may be), sparsity and
# stack, and sources this.  What is trained is in recipes/<corpus>/conf.
: "${corpus:?}" "${tasks?}" "${langs?}" "${sparsity:?}" "${stack:?}"
recipe=$corpus
stages=(download prepare tokenize "train dense" "train gates" decode score report)
source "$(dirname "${BASH_SOURCE[0]}")/options.sh"

chosen=(${tasks:+--task "$tasks"} ${langs:+--lang "$langs"})

if in_range 1; then
  speechgate download --corpus "$corpus" --source "$source"
fi
if in_range 2; then
  speechgate prepare --corpus "$corpus" --source "$source"
fi
if in_range 3; then
  speechgate tokenize --corpus "$corpus"
fi
if in_range 4; then
  speechgate train --corpus "$corpus" "${chosen[@]}"
fi
if in_range 5; then
  speechgate train --corpus "$corpus" "${chosen[@]}" --sparsity "$sparsity" --stack "$stack"
fi
if in_range 6; then
  speechgate decode --corpus "$corpus" "${chosen[@]}" --sparsity "0,$sparsity" --stack "$stack" # 0: dense
fi
if in_range 7; then
  speechgate score --corpus "$corpus" "${chosen[@]}"
fi
if in_range 8; then
  speechgate report --corpus "$corpus" "${chosen[@]}"
fi
