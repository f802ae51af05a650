# shellcheck shell=bash
# The stages of a recipe, from the recordings to the report; each is one call of the CLI.  recipes/<corpus>/run.sh sets
# corpus, tasks and langs (empty for all), sources (what --source may be), sparsity and stack, and sources this.  What is
# trained is in recipes/<corpus>/conf.
set -euo pipefail
: "${corpus:?}" "${tasks?}" "${langs?}" "${sources:?}" "${sparsity:?}" "${stack:?}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage="Usage: recipes/$corpus/run.sh [--stage N] [--stop-stage M] [--source SOURCE] [--dry-run]

  --stage N        first stage to run (1)
  --stop-stage M   last stage to run (8)
  --source SOURCE  $sources
  --dry-run        print the commands only

Stages: 1 download, 2 prepare, 3 tokenize, 4 train dense, 5 train gates, 6 decode, 7 score, 8 report"

stage=1
stop_stage=8
source=auto
dry_run=false

die() {
  printf 'run.sh: %s\n\n%s\n' "$1" "$usage" >&2
  exit 2
}
while (($#)); do
  case $1 in
    --stage | --stop-stage | --source)
      (($# > 1)) || die "$1 needs a value"
      name=${1#--}
      printf -v "${name//-/_}" %s "$2"
      shift 2
      ;;
    --dry-run) dry_run=true && shift ;;
    -h | --help) printf '%s\n' "$usage" && exit ;;
    *) die "unknown option $1" ;;
  esac
done
for number in "$stage" "$stop_stage"; do
  [[ $number == [1-8] ]] || die "there is no stage '$number'"
done
((stage <= stop_stage)) || die "--stage $stage comes after --stop-stage $stop_stage"

in_range() { ((stage <= $1 && $1 <= stop_stage)); }
speechgate() {
  printf '+ speechgate%s\n' "$(printf ' %q' "$@")"
  "$dry_run" || .venv/bin/speechgate "$@"
}

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
