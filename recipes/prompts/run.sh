#!/usr/bin/env bash
# The prompts corpus, from the recordings to the report. Each command is one call of the CLI and can be run by itself.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage="Usage: recipes/prompts/run.sh [--stage N] [--stop-stage M] [--source SOURCE] [--dry-run]

  --stage N        first stage to run (1)
  --stop-stage M   last stage to run (8)
  --source SOURCE  where the recordings come from: auto, apt, tarball, bundled, or a folder (auto)
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

corpus=prompts
sparsity=0.25,0.5,0.75

if in_range 1; then
  speechgate download --corpus $corpus --source "$source"
fi
if in_range 2; then
  speechgate prepare --corpus $corpus --source "$source"
fi
if in_range 3; then
  speechgate tokenize --corpus $corpus
fi
if in_range 4; then # the curriculum: acoustics through CTC alone, then the decoder, then recombined words
  speechgate train --corpus $corpus --conf acoustics,attention,dense
fi
if in_range 5; then
  speechgate train --corpus $corpus --conf gates --sparsity $sparsity --stack decoder
fi
if in_range 6; then
  speechgate decode --corpus $corpus --sparsity 0,$sparsity --stack decoder # 0: dense
fi
if in_range 7; then
  speechgate score --corpus $corpus
fi
if in_range 8; then
  speechgate report --corpus $corpus
fi
