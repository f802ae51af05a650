# shellcheck shell=bash
# What every recipe's run.sh begins with.  The script sets recipe (its folder), sources (what --source may be) and stages
# (their names, in order), and sources this, which reads its arguments; it goes on with in_range, run and $source.  It
# may have options of its own: their names in options, each with its default in the variable of that name, and about.
set -euo pipefail
: "${recipe:?}" "${sources:?}" "${stages:?}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage=1
stop_stage=${#stages[@]}
# shellcheck disable=SC2034 # for the stages
source=auto
dry_run=false
options+=()

numbered=$(for number in "${!stages[@]}"; do printf ', %s %s' "$((number + 1))" "${stages[number]}"; done)
usage="Usage: recipes/$recipe/run.sh [OPTIONS]

  --stage N        first stage to run (1)
  --stop-stage M   last stage to run ($stop_stage)
  --source SOURCE  $sources${about:+
$about}
  --dry-run        print the commands only

Stages: ${numbered#, }"

die() {
  printf 'run.sh: %s\n\n%s\n' "$1" "$usage" >&2
  exit 2
}
while (($#)); do
  case $1 in
    --dry-run) dry_run=true && shift ;;
    -h | --help) printf '%s\n' "$usage" && exit ;;
    *)
      name=${1#--}
      [[ $1 == --?* && " --stage --stop-stage --source ${options[*]/#/--} " == *" $1 "* ]] || die "unknown option $1"
      (($# > 1)) || die "$1 needs a value"
      printf -v "${name//-/_}" %s "$2"
      shift 2
      ;;
  esac
done
for number in "$stage" "$stop_stage"; do
  [[ $number == [1-9] && -n ${stages[number - 1]:-} ]] || die "there is no stage '$number'"
done
((stage <= stop_stage)) || die "--stage $stage comes after --stop-stage $stop_stage"

in_range() { ((stage <= $1 && $1 <= stop_stage)); }
run() { # a program of .venv/bin with its arguments
  printf '+%s\n' "$(printf ' %q' "$@")"
  "$dry_run" || ".venv/bin/$1" "${@:2}"
}
speechgate() { run speechgate "$@"; }
