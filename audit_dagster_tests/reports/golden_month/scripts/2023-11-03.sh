#!/bin/bash
# Reproduction script generated on …
# Original execution timespan: 2023-11-03 to 2023-11-03
#
# Operations to run again, in the order in which they started: 0
# Operations left out, listed with the reasons below the commands: 3
#
# Usage: bash SCRIPT [--repo DIR] [OPTIONS]    (--help tells all of them)
# Below, operation_N says what operation N was; the part after the operations runs it and compares what it made.
# shellcheck disable=SC2317,SC2329  # operations are called by their number

set -e  # Exit on error
set -Euo pipefail
shopt -u xpg_echo
unset CDPATH GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR
plan=e3b0c44298fc total=0 any_commit=''
keep_going='' timing='' tree='' clone=''
outside='^(/|\.\./)' # such a path is not in the tree; with ../ it is beside the clone

starting() {
echo "Starting reproduction of RTGS Lab Tools operations..."
}

completed() {
echo "There is nothing to run again."
}

# Left out:
# - 2023-11-03 09:00:00 sensing-data extract: it failed: disk full
# - 2023-11-03 10:00:00 sensing-data extract: it failed: disk full
# - 2023-11-03 11:00:00 decode extract: it failed


# ---- From here on: what the lines above are made of ----

load() { # NUMBER: what its lines say is what the functions below know of "the operation"
  step=$1 commit='' state='' recorded_tree='' folder='' code_file='' recorded_program='' beyond='' note=''
  operation_id='' tool='' operation='' started='' recorded_seconds='' expected=0 shown='' origin=''
  inputs=() input_hashes=() input_makers=() input_origins=()
  outputs=() output_hashes=() output_sizes=() output_again=() secrets=() words=()
  "operation_$1"
}

git_checkout() { commit=$1 state=${2-} recorded_tree=${3-}; } # COMMIT [clean | PATCH [TREE]]
record() { operation_id=$1 tool=$2 operation=$3 started=$4 recorded_seconds=$5 expected=$6 shown=$7; }
of_repository() { origin=$1; }             # the one that had its commit
inside() { folder=$1; }                    # the folder in which it runs, below the tree's root
code_in() { code_file=$1; }                # the Python file that it runs, below the tree's root
program_was() { recorded_program=$1; }     # where the program lay that now is looked for in the tree
asks_first() { beyond=$1; }                # what it changes that no working tree holds
needs_secret() { secrets+=("$1"); }        # a value that was not recorded
note() { note=$1 && printf '%s\n' "$1"; }
run() { words=("$@"); }
reads() { # PATH SHA256 [MADE_BY [RECORDED_PATH]]
  fill "$1"
  inputs+=("$filled") input_hashes+=("$2") input_makers+=("${3-0}") input_origins+=("${4-}")
}
makes() { # PATH SHA256 SIZE [again: the patch brings it already, and it was no input]
  fill "$1"
  outputs+=("$filled") output_hashes+=("$2") output_sizes+=("$3") output_again+=("${4-}")
}
fill() { # PATH: sets filled, the path with the values that were not recorded in their places
  local secret variable mark rest
  filled=$1
  for secret in ${secrets[@]+"${secrets[@]}"}; do
    variable=SECRET_$secret mark="\${SECRET:$secret}" rest=$filled filled=''
    while [[ $rest == *"$mark"* ]]; do
      filled+=${rest%%"$mark"*}${!variable-$mark}
      rest=${rest#*"$mark"}
    done
    filled+=$rest
  done
}

# ---- Running ----

reproduce() {
  local number
  starting
  for number in "${wanted[@]}"; do
    load "$number"
    verdict='' why='' exit_code=- seconds=- same=0 differ=0 missing=0 differing=() started_at='' ran_in=$tree
    if [[ -n $beyond && -z $yes ]] && ! agreed; then
      continue
    fi
    if prepare; then
      find_unlike_inputs
      execute
      compare
    else
      verdict=broken
      printf 'Operation %s failed: %s\n' "$step" "$why" >&2
    fi
    conclude
    if [[ $verdict == broken && -z $keep_going ]]; then
      exit 1
    fi
  done
}

agreed() {
  local answer=''
  printf 'Operation %s, %s %s, %s. Run it? [y/N] ' "$step" "$tool" "$operation" "$beyond" >/dev/tty
  read -r answer </dev/tty || true
  [[ $answer == [yY]* ]]
}

prepare() { # sets why where it fails
  if ! check_out; then
    return 1
  fi
  ran_in=$tree${folder:+/$folder}
  if [[ -z $in_place ]]; then
    make_folders
    bring_inputs || return 1
  fi
  if [[ ! -d $ran_in ]]; then
    printf -v why 'there is no folder %q' "$ran_in"
    return 1
  fi
  find_program
}

make_folders() { # which git does not keep: where it runs, and where its outputs go unless it makes that itself
  local path
  [[ -d $ran_in ]] || mkdir -p -- "$ran_in" 2>/dev/null || true
  [[ ${words[*]} != *mkdir* ]] || return 0
  for path in ${outputs[@]+"${outputs[@]}"}; do
    if [[ $path == */* && ! $path =~ $outside && ! -d $tree/${path%/*} ]]; then
      mkdir -p -- "$tree/${path%/*}" 2>/dev/null || true
    fi
  done
}

bring_inputs() { # those that the checkout has with another content than recorded
  local index number
  for ((number = 0; number < ${#over[@]}; number++)); do
    for ((index = 0; index < ${#inputs[@]}; index++)); do
      placed "${inputs[index]}"
      if [[ ${inputs[index]} == "${over_path[number]}" && ${input_hashes[index]} == "${over_hash[number]}" ]] &&
        ! has_hash "$place" "${over_hash[number]}"; then
        touched=1
        why="an input cannot be put in its place"
        rm -f -- "$place" && cp -p -- "${over[number]}" "$place" || return 1
      fi
    done
  done
}

find_program() { # where it was recorded, if it is there and here; else the one of its name on PATH
  local place
  if [[ ${words[0]} == /* ]]; then
    for place in "${words[0]}" "$recorded_program" "$top${words[0]#"$tree"}"; do
      if [[ -f $place && -x $place ]]; then
        words[0]=$place
        return
      fi
    done
    words[0]=${words[0]##*/}
  fi
}

execute() {
  local log began
  printf -v log '%s/step-%03d.log' "$work" "$step"
  find_code
  : >"$work/began"
  if [[ -n $report ]]; then
    started_at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  fi
  began=${EPOCHREALTIME-$SECONDS.000000}
  in_group "$log" "$ran_in" "${words[@]}"
  elapsed "$began" "${EPOCHREALTIME-$SECONDS.000000}"
}

in_group() { # LOG FOLDER COMMAND...: in a process group of its own, so that a signal reaches all of it; sets exit_code
  local log=$1 where=$2
  shift 2
  exit_code=0
  if [[ ! -p $work/output || ! -p $work/logged ]]; then
    rm -f -- "$work/output" "$work/logged"
    mkfifo -m 600 -- "$work/output" "$work/logged"
  fi
  set -m
  (
    hurry='' code=0
    trap 'hurry=1' INT TERM HUP # what they do is the command's choice
    # Both ends are open before anything starts, so that whoever dies, the other sees the end and does not wait for it.
    exec 3<>"$work/output" 6<>"$work/logged"
    exec 4<"$work/output"
    exec 5>"$work/output" 3>&-
    (
      trap '' INT TERM HUP
      tee -- "$log" <&4 4<&- 5>&- 6>&- || true
      echo >&6
    ) 5>&- &
    exec 4<&-
    (
      cd -- "$where" || exit
      if [[ -n $programs ]]; then
        export PATH=$programs:$PATH
      fi
      export PYTHONDONTWRITEBYTECODE=1 # a commit's bytecode must not serve another's source
      if [[ -n $python_root ]]; then
        export PYTHONPATH=$python_root${PYTHONPATH:+:$PYTHONPATH}
      fi
      exec -- "$@"
    ) >&5 2>&1 5>&- 6>&- || code=$?
    exec 5>&-
    if [[ -n $hurry ]] || ! IFS= read -r -t 1 -u 6; then # what the command left running may hold the log open
      rm -f -- "$work/output" "$work/logged"
    fi
    exit "$code"
  ) </dev/null &
  wait "$!" || exit_code=$?
  while ((exit_code > 128)) && [[ -n $(jobs -ps) ]]; do # it stopped to ask at the terminal, which the foreground may
    exit_code=0
    fg >/dev/null || exit_code=$?
  done
  set +m
}

find_code() { # what --setup installed; of a Python file in the tree that is the operation's code, where its packages start
  python_root='' programs=''
  if [[ -n $set_up_for && -d $tree/.venv/bin ]]; then
    programs=$tree/.venv/bin
  fi
  if [[ -n $code_file && -f $tree/$code_file ]]; then
    python_root=$tree/$code_file
    python_root=${python_root%/*}
    while [[ $python_root != "$tree" && -f $python_root/__init__.py ]]; do
      python_root=${python_root%/*}
    done
  fi
}

elapsed() { # FROM TO: sets seconds, to a thousandth where this bash has such a clock
  local micros=$((${2//[!0-9]/} - ${1//[!0-9]/}))
  printf -v seconds '%d.%03d' "$((micros / 1000000))" "$((micros % 1000000 / 1000))"
}

compare() { # what it made with what was recorded
  local index path
  if ((exit_code != expected)); then
    verdict=broken
    printf 'Operation %s failed with exit code %s%s\n' "$step" "$exit_code" "$(expectation)" >&2
  fi
  for ((index = 0; index < ${#outputs[@]}; index++)); do
    path=${outputs[index]}
    placed "$path"
    if [[ ! -f $place ]]; then
      missing=$((missing + 1))
      unlike missing "$path" ''
    elif [[ -n ${output_again[index]} && "$work/began" -nt $place ]] && only_brought "$path"; then
      missing=$((missing + 1))
      unlike "not made" "$path" ''
    elif [[ ${output_hashes[index]} == - || ($path =~ $outside && "$work/began" -nt $place) ]]; then
      continue # nothing to compare with, or not made now
    elif hash_of "$place" && [[ $digest == "${output_hashes[index]}" ]]; then
      same=$((same + 1))
      unlike_now=${unlike_now//$'\n'"$path"$'\n'/$'\n'}
    else
      differ=$((differ + 1))
      unlike differs "$path" " (SHA-256 ${digest:0:12}…, recorded ${output_hashes[index]:0:12}…)"
    fi
  done
  if ((differ + missing > 0)) && [[ -n $read_unlike ]]; then
    printf 'Operation %s: its inputs were not as recorded already:%s\n' "$step" "$read_unlike" >&2
  fi
  touched=$((touched + ${#outputs[@]}))
  if [[ -z $verdict ]]; then
    verdict=reproduced
    if ((differ + missing > 0)); then
      verdict=differing
    fi
  fi
}

only_brought() { # PATH: whether the patch made it
  local path
  while IFS= read -r -d '' path; do
    if [[ $path == "$1" ]]; then
      return 0
    fi
  done <"$work/patch-files"
  return 1
}

expectation() {
  if ((expected != 0)); then
    printf '; it was %s' "$expected"
  fi
}

unlike() { # HOW PATH MORE
  differing+=("$2")
  [[ $unlike_now == *$'\n'"$2"$'\n'* ]] || unlike_now+=$2$'\n'
  printf 'Operation %s: %s: %q%s\n' "$step" "$1" "$2" "$3" >&2
}

find_unlike_inputs() { # sets read_unlike, of what earlier operations made otherwise than recorded
  local path
  read_unlike=''
  [[ $unlike_now != $'\n' ]] || return 0
  for path in ${inputs[@]+"${inputs[@]}"}; do
    if [[ $unlike_now == *$'\n'"$path"$'\n'* ]]; then
      printf -v path ' %q' "$path"
      read_unlike+=$path
    fi
  done
}

placed() { # PATH: sets place
  case $1 in
    /*) place=$1 ;;
    ../*) place=$clone/$1 ;;
    *) place=$tree/$1 ;;
  esac
}

hash_of() { # FILE: sets digest
  digest=''
  digest=$("${hasher[@]}" <"$1") || return 1
  digest=${digest%% *}
}

has_hash() { # FILE SHA256
  [[ -f $1 ]] && hash_of "$1" && [[ $digest == "$2" ]]
}

conclude() {
  local names='' name row recorded
  for name in ${differing[@]+"${differing[@]}"}; do
    printf -v name '%q' "$name"
    names+=${names:+ }$name
  done
  printf -v row '%s\t' "$step" "$operation_id" "$tool" "$operation" "$exit_code" "$expected" "$seconds" \
    "$recorded_seconds" "$same" "$differ" "$missing" "$verdict"
  row+=$names
  rows[step]=$row
  printf '%s\n' "$row" >>"$work/results.tsv"
  if [[ -n $timing ]]; then
    recorded=${recorded_seconds}s
    [[ $recorded != -s ]] || recorded=unknown
    printf 'Operation %s took %ss (recorded: %s)\n' "$step" "$seconds" "$recorded"
  fi
  if [[ -n $report ]]; then
    report_it || printf 'Operation %s: its reproduction could not be recorded\n' "$step" >&2
  fi
  case $verdict in
    broken) failures=$((failures + 1)) ;;
    differing) differences=$((differences + 1)) ;;
  esac
}

# ---- The code of each operation ----

git_here() { # in the tree, all of it; without hooks and programs of the repository's configuration
  local whole=(-c core.sparseCheckout=false)
  if [[ -n $in_place ]]; then
    whole=()
  fi
  git -C "$tree" ${whole[@]+"${whole[@]}"} -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.detachedHead=false "$@"
}

check_out() { # the operation's commit and patch; outputs of earlier operations stay. Sets why where it fails
  local target=${commit:-${at_commit:-$head}} patch=''
  if [[ -z $any_commit || -z $target ]]; then
    return 0
  fi
  case $state in
    clean) ;;
    '') # nobody knows what else was there: as it is
      if [[ $target == "$at_commit" ]]; then
        return 0
      fi
      ;;
    *) patch=$state ;;
  esac
  if [[ $target == "$at_commit" && $patch == "$at_patch" && ($touched -eq 0 || -n $in_place) ]]; then
    return 0
  fi
  leave_patch
  if ! check_out_commit "$target"; then
    at_commit=''
    why="commit $target cannot be checked out"
    return 1
  fi
  if [[ -n $patch ]] && ! apply_patch "$patch"; then
    return 1
  fi
  printf 'Code: %s (%s)\n' "$target" "$(git_here describe --always --dirty)"
  set_up "$target"
}

check_out_commit() { # COMMIT (with ^{commit} a branch of that name is not meant)
  local found forced=(--force)
  if [[ -n $in_place ]]; then
    forced=()
  fi
  git_here checkout ${forced[@]+"${forced[@]}"} --quiet --detach "$1^{commit}" -- || return 1
  found=$(git_here rev-parse HEAD) || return 1
  at_commit=$1 touched=0
  [[ $found == "$1"* ]]
}

set_up() { # COMMIT
  if [[ -n $setup && $set_up_for != "$1" ]]; then
    set_up_for=''
    python_root='' programs=''
    in_group "$work/setup-$1.log" "$tree" bash -c "$setup"
    if ((exit_code != 0)); then
      why="the command of --setup ended with exit code $exit_code"
      exit_code=-
      return 1
    fi
    set_up_for=$1
  fi
}

scratch_git() { # with an index and an object folder of its own
  GIT_INDEX_FILE=$work/index GIT_OBJECT_DIRECTORY=$work/objects GIT_ALTERNATE_OBJECT_DIRECTORIES=$objects git_here "$@"
}

apply_patch() { # SHA256: to a clean checkout; what it makes is checked before anything is written
  local made base="$at_commit^{commit}" kind path
  why="the patch of its uncommitted changes cannot be applied"
  if ! "patch_$1" | "${decode[@]}" >"$work/patch" || ! hash_of "$work/patch" || [[ $digest != "$1" ]]; then
    why="the patch of its uncommitted changes is damaged in this script"
    return 1
  fi
  rm -rf -- "$work/index" "$work/objects" "$work/patch-files"
  mkdir "$work/objects"
  scratch_git read-tree "$base" || return 1
  if [[ -s $work/patch ]]; then
    scratch_git apply --cached --binary --whitespace=nowarn "$work/patch" || return 1
  fi
  made=$(scratch_git write-tree) || return 1
  if [[ -n $recorded_tree && $made != "$recorded_tree" ]]; then
    why="its uncommitted changes make the tree $made, and $recorded_tree was recorded"
    return 1
  fi
  while IFS= read -r -d '' kind && IFS= read -r -d '' path; do
    if [[ $kind == D ]]; then
      rm -f -- "$tree/$path"
    elif [[ $kind == A && ! -e $tree/$path && ! -L $tree/$path ]]; then
      printf '%s\0' "$path"
    fi
  done < <(scratch_git diff-tree -r -z --no-renames --name-status "$base" "$made") >"$work/patch-files"
  scratch_git diff-tree -r -z --no-renames --name-only --diff-filter=d "$base" "$made" |
    scratch_git checkout-index --force --index --quiet -z --stdin || return 1
  at_patch=$1
}

leave_patch() { # files that only the patch brought go; one that was changed since is an output, and stays
  local path changed='' more=1 untouched=() LC_ALL=C # git sorts by bytes
  at_patch=''
  if [[ ! -s $work/patch-files ]]; then
    return 0
  fi
  while IFS= read -r -d '' path; do
    while [[ -n $more && $changed < $path ]]; do
      IFS= read -r -d '' changed <&3 || more=''
    done
    if [[ $changed != "$path" ]]; then
      untouched+=("$path")
    fi
  done <"$work/patch-files" 3< <(scratch_git diff-files -z --name-only)
  if ((${#untouched[@]} > 0)); then
    git_here --literal-pathspecs clean -f -d -x --quiet -- "${untouched[@]}" || true
  fi
  rm -f -- "$work/patch-files"
}

# ---- The working tree ----

attach_tree() { # a working tree of the repository, around the files that an earlier run left, if any
  local admin new=$work/reproduction
  mkdir -p -- "$tree"
  git -C "$repo" -c core.hooksPath=/dev/null worktree add --quiet --force --detach --no-checkout "$new" "${head:-$first}"
  admin=$(git -C "$new" rev-parse --absolute-git-dir)
  mv -- "$new/.git" "$tree/.git"
  rmdir -- "$new"
  printf '%s\n' "$tree/.git" >"$admin/gitdir"
}

detach_tree() { # the repository knows no more of it; its files stay
  local admin link back
  for link in "$tree/.git" "$work/reproduction/.git"; do # it is attached there, and then moved
    if [[ -f $link ]]; then
      IFS= read -r admin <"$link" || true
      admin=${admin#gitdir: } back=''
      if [[ -f $admin/gitdir ]]; then
        IFS= read -r back <"$admin/gitdir" || true
      fi
      if [[ $back == "$tree/.git" || $back == "$work/reproduction/.git" ]]; then
        rm -rf -- "$admin"
        rmdir -- "${admin%/*}" 2>/dev/null || true
      fi
      rm -f -- "$link"
    fi
  done
  rm -rf -- "$work/reproduction"
}

remove_tree() {
  detach_tree
  if [[ -e $tree ]]; then
    rm -rf -- "$tree" 2>/dev/null || { chmod -R u+rwx -- "$tree" && rm -rf -- "$tree"; }
  fi
}

start_work() { # afresh, or with what an earlier run left
  local index row number
  rm -f -- "$work/output" "$work/logged"
  if [[ -z $in_place ]]; then
    detach_tree
    if ((from == 0)); then
      remove_tree
    fi
  fi
  if ((from == 0)); then
    rm -rf -- "$work"/step-*.log "$work"/setup-*.log "$work/results.tsv" "$work/patch-files" "$work/index" "$work/objects"
  elif [[ -f $work/results.tsv ]]; then
    while IFS= read -r row; do
      number=${row%%$'\t'*}
      if [[ $number =~ ^[1-9][0-9]*$ ]]; then
        rows[number]=$row
      fi
    done <"$work/results.tsv"
  fi
  for number in "${wanted[@]}"; do
    unset "rows[number]"
  done
  if [[ -z $in_place ]]; then
    if [[ -n $any_commit ]]; then
      attach_tree
    fi
    mkdir -p -- "$tree"
    for ((index = 0; index < ${#copies[@]}; index++)); do
      placed "${copy_targets[index]}"
      mkdir -p -- "${place%/*}"
      cp -p -- "${copies[index]}" "$place"
    done
  fi
}

# ---- The end ----

# shellcheck disable=SC2317,SC2329  # a trap calls it
interrupted() { # SIGNAL CODE: the running operation ends first, with all its children
  local group
  group=$(jobs -p)
  if [[ -n $group ]]; then
    trap 'kill -s KILL -- "-$group"' INT TERM HUP # asked twice
    kill -s "$1" -- "-$group" || true
    kill -s CONT -- "-$group" || true
    wait || true
    kill -s TERM -- "-$group" || true
  fi 2>/dev/null
  exit "$2"
}

# shellcheck disable=SC2317,SC2329  # a trap calls it
conclude_all() {
  local code=$? reached=${step-}
  trap '' INT TERM HUP
  trap - EXIT
  set +e
  if ((code == 0)); then
    code=$(((differences > 0) * 4))
    if ((failures > 0)); then
      code=1
      printf '%s of %s operations failed\n' "$failures" "$total" >&2
    fi
  fi
  write_results
  if [[ -n $in_place ]]; then
    restore || code=$((code == 0 ? 1 : code))
  elif [[ -n $all_reproduced && -z $keep ]]; then
    remove_tree
  elif [[ -z $keep || $code -gt 4 ]]; then
    detach_tree
  fi
  rm -f -- "$work/running"
  show_end "$code" "$reached"
  if ((code == 0)); then
    completed
  fi
  exit "$code"
}

restore() { # what was checked out before
  if [[ -z $any_commit ]]; then
    return 0
  fi
  if ! git_here checkout --quiet "${before[@]}" --; then
    printf 'Could not go back to what was checked out before (git says why above). It was:%s\n' \
      "$(printf ' %q' "${before[@]}")" >&2
    return 1
  fi
}

write_results() { # all of them, in their order
  local number row
  all_reproduced=1
  {
    printf 'step\toperation_id\ttool\toperation\texit_code\texpected_exit_code\tseconds\trecorded_seconds\tsame\tdiffer\tmissing\tverdict\tnames\n'
    for ((number = 1; number <= total; number++)); do
      if [[ -z ${rows[number]-} ]]; then
        load "$number" >/dev/null 2>&1
        printf -v row '%s\t' "$step" "$operation_id" "$tool" "$operation" - "$expected" - "$recorded_seconds" 0 0 0 \
          'not tried'
        rows[number]=$row
      fi
      if [[ ${rows[number]} != *$'\treproduced\t' ]]; then # the last but one, and the last is empty then
        all_reproduced=''
      fi
      printf '%s\n' "${rows[number]}"
    done
  } >"$work/results.new"
  mv -f -- "$work/results.new" "$work/results.tsv"
}

show_end() { # EXIT_CODE STEP: the last that was begun
  local number row fields counts bare=0
  printf '\n%5s %5s %10s %10s %5s %6s %7s  %-11s %s\n' \
    Step Exit Seconds Recorded Same Differ Missing Verdict Operation
  for ((number = 1; number <= total; number++)); do
    row=${rows[number]//$'\t'/$'\x1f'} # a tab between them would swallow what is empty
    IFS=$'\x1f' read -r -a fields <<<"$row"
    printf -v counts '%5s %6s %7s' "${fields[@]:8:3}"
    if [[ ${fields[*]:8:4} == "0 0 0 reproduced" ]]; then
      bare=$((bare + 1)) counts='      exit code only'
    fi
    printf '%5s %5s %10s %10s %s  %-11s %s %s\n' "${fields[0]}" "${fields[4]}" "${fields[6]}" "${fields[7]}" \
      "$counts" "${fields[11]}" "${fields[2]}" "${fields[3]}"
  done
  if ((bare > 0)); then
    printf '%s of %s had no recorded files to compare: their exit codes are the same, nothing more is known\n' \
      "$bare" "$total"
  fi
  printf 'Logs and results: %s\n' "$work"
  if [[ -z $in_place && -e $tree ]]; then
    printf 'Files: %s\n' "$tree"
    if (($1 != 0)) && [[ -n $2 ]]; then
      printf 'Go on from operation N with what is there: --from N'
      if (($1 > 4)) || [[ $1 -eq 1 && -z $keep_going ]]; then
        printf ' (it was at %s)' "$2"
      fi
      printf '\n'
    fi
  fi
}

# ---- Before the first operation ----

problem() { # TEXT
  problems+=("$1")
}

check_all() { # lists all that is missing; nothing was run or changed by then
  local number made_work=''
  problems=() query=() query_kind=() query_path=() query_hash=() query_origin=() query_maker=() query_step=()
  copies=() copy_targets=() over=() over_path=() over_hash=() unlike_now=$'\n' needed_bytes=0 asked_commit='' first=''
  check_hasher
  check_repository
  check_work
  for number in "${wanted[@]}"; do
    load "$number" >/dev/null 2>&1
    check_operation
  done
  check_objects
  check_space
  if [[ -n $report ]] && ! type -P audit-dagster >/dev/null; then
    problem "--report needs audit-dagster, and it is not on PATH"
  fi
  if ((${#problems[@]} > 0)); then
    if [[ -n $made_work ]]; then
      rmdir -- "$work" 2>/dev/null || true
    fi
    refuse
  fi
}

refuse() {
  printf 'Nothing was run. What is missing:\n' >&2
  printf -- '- %s\n' "${problems[@]}" | awk '!told[$0]++' >&2
  exit 3
}

check_hasher() {
  if type -P sha256sum >/dev/null; then
    hasher=(sha256sum)
  elif type -P shasum >/dev/null; then
    hasher=(shasum -a 256)
  else
    hasher=(false)
    problem "sha256sum or shasum is needed to compare files, and neither is on PATH"
  fi
  decode=(base64 -d)
  if ! "${decode[@]}" <<<"YQ==" >/dev/null 2>&1; then
    decode=(base64 -D)
  fi
}

check_repository() {
  local said
  top='' head='' repository=''
  if [[ ! -d $repo ]]; then
    problem "there is no folder $repo"
    return
  fi
  repo=$(cd -- "$repo" && pwd -P)
  top=$repo
  if [[ -z $any_commit ]]; then
    return
  fi
  if ! type -P git >/dev/null; then
    problem "the operations need git, and it is not on PATH"
  elif ! said=$(git -C "$repo" rev-parse --git-path objects 2>&1); then
    problem "$repo cannot be used as a git repository (${said%%$'\n'*}): name a clone with --repo DIR"
  else
    repository=1
    objects=$said
    if [[ $objects != /* ]]; then
      objects=$(cd -- "$repo" && cd -- "$objects" && pwd -P)
    fi
    objects=${objects//\\/\\\\}
    objects=\"${objects//\"/\\\"}\"
    top=$(git -C "$repo" rev-parse --show-toplevel 2>/dev/null) || top=''
    head=$(git -C "$repo" rev-parse --quiet --verify 'HEAD^{commit}') || head=''
    check_place
  fi
}

check_place() { # of the work, in the repository
  local changed branch common
  if [[ -z $in_place ]]; then
    common=$(git -C "$repo" rev-parse --git-common-dir)
    if ! (cd -- "$repo" && [[ -w $common ]]); then
      problem "$repo takes no working tree, since its .git may not be written: name another clone with --repo DIR"
    fi
    return
  fi
  changed=$(git -C "$repo" status --porcelain --untracked-files=no 2>&1) || changed="git cannot read it"
  if [[ -n $changed || -z $top ]]; then
    problem "$repo has uncommitted changes. Commit or stash them, or name another clone with --repo DIR"
  fi
  if branch=$(git -C "$repo" symbolic-ref --quiet HEAD); then
    before=("${branch#refs/heads/}")
  else
    before=(--detach "$head^{commit}")
  fi
}

check_work() {
  local parent owner=''
  if [[ $work != /* ]]; then
    work=$PWD/$work
  fi
  if [[ -L $work ]]; then
    problem "the work folder $work is a link: name another with --work DIR"
  elif [[ -d $work ]]; then
    if [[ -f $work/.reproduction ]]; then
      IFS= read -r owner <"$work/.reproduction" || true
    fi
    if [[ ! -O $work || ! -w $work ]]; then
      problem "the work folder $work belongs to somebody else: name another with --work DIR"
    elif [[ $owner != "$plan" && -n $(ls -A -- "$work") ]]; then
      problem "the work folder $work holds other things: name another with --work DIR"
    elif [[ -f $work/running ]] && kill -0 "$(<"$work/running")" 2>/dev/null; then
      problem "another run of this script is at work in $work"
    fi
  elif [[ -n $dry_run ]]; then
    parent=$work
    while [[ -n $parent && ! -e $parent ]]; do
      parent=${parent%/*}
    done
    if [[ ! -d ${parent:-/} || ! -w ${parent:-/} ]]; then
      problem "the work folder $work cannot be made: name another with --work DIR"
    fi
  elif (umask 077 && mkdir -p -- "$work") 2>/dev/null && [[ -w $work ]]; then
    made_work=1
  else
    problem "the work folder $work cannot be made: name another with --work DIR"
  fi
  if [[ -d $work ]]; then
    work=$(cd -- "$work" && pwd -P)
  fi
  tree=$work/tree clone=${top:-$repo}
  if [[ -n $in_place ]]; then
    tree=$clone
  fi
}

check_operation() { # the loaded one
  local index path maker secret name kind
  if [[ -n $commit ]]; then
    first=${first:-$commit}
    if [[ $commit != "$asked_commit" ]]; then
      ask commit "$commit^{commit}" "$commit" '' '' ''
      asked_commit=$commit
    fi
  fi
  if [[ -n $state && $state != clean ]]; then
    if [[ -n $in_place ]]; then
      problem "operation $step ran with uncommitted changes, which --in-place does not make"
    elif ! declare -F "patch_$state" >/dev/null; then
      problem "operation $step ran with uncommitted changes, and this script was made without their patch ($state)"
    fi
  fi
  for secret in ${secrets[@]+"${secrets[@]}"}; do
    name=SECRET_$secret
    if [[ -z ${!name-} ]]; then
      problem "the variable $name is not set, and operation $step needs its value"
    fi
  done
  if [[ -n $beyond && -z $yes && -z $terminal ]]; then
    problem "operation $step, $tool $operation, $beyond: allow it with --yes, or leave it out with --only"
  fi
  check_program
  for ((index = 0; index < ${#inputs[@]}; index++)); do
    path=${inputs[index]} maker=${input_makers[index]}
    if ((maker > 0)) && [[ -n ${is_wanted[maker]-} ]]; then
      continue
    elif [[ ! $path =~ $outside && -n $commit && -n $repository ]]; then
      kind=input
      [[ $state == clean || -n $recorded_tree || ${input_hashes[index]} == - ]] || kind=unsure
      ask "$kind" "$commit:$path" "$path" "${input_hashes[index]}" "${input_origins[index]}" "$maker"
    else
      look_for_input "$path" "${input_hashes[index]}" "${input_origins[index]}" "$maker"
    fi
  done
  for ((index = 0; index < ${#outputs[@]}; index++)); do
    needed_bytes=$((needed_bytes + output_sizes[index]))
  done
}

check_program() {
  local program=${words[0]} place
  case $program in
    "$tree"/*)
      if [[ -n $commit && -n $repository ]]; then
        ask program "$commit:${program#"$tree"/}" "$program" '' "$recorded_program" ''
      else
        look_for_program "$program" "$recorded_program"
      fi
      ;;
    /*) look_for_program "$program" '' ;;
    *..*/*) ;; # who knows where that is
    */*)
      while [[ $program == ./* ]]; do
        program=${program#./}
      done
      place=${folder:+$folder/}$program
      if [[ -n $commit && -n $repository && ($state == clean || -z $state) ]]; then
        ask program "$commit:$place" "./$program" '' "$top/$place" ''
      fi
      ;;
    *)
      if [[ -z $setup ]] && ! type -P -- "$program" >/dev/null; then
        problem "there is no program $(printf '%q' "$program") on PATH, for operation $step"
      fi
      ;;
  esac
}

look_for_program() { # PLACE RECORDED_PLACE
  local place
  for place in "$1" "$2" "$top${1#"$tree"}"; do
    if [[ -f $place && -x $place ]]; then
      return
    fi
  done
  if [[ -z $setup ]] && ! type -P -- "${1##*/}" >/dev/null; then
    problem "there is no program $(printf '%q' "${2:-$1}"), nor one of that name on PATH"
  fi
}

ask() { # KIND OBJECT PATH HASH ORIGIN MAKER
  if [[ $2 == *$'\n'* ]]; then # git reads a question a line; only a program is named so
    look_for_program "$3" "$5"
    return
  fi
  query_kind+=("$1") query+=("$2") query_path+=("$3") query_hash+=("$4") query_origin+=("$5") query_maker+=("$6")
  query_step+=("$step")
}

check_objects() { # all questions to git in one process
  local index=0 answer lacking=''
  if ((${#query[@]} == 0)) || [[ -z $repository ]]; then
    return 0
  fi
  while IFS= read -r answer; do
    step=${query_step[index]}
    case ${query_kind[index]}:$answer in
      commit:commit | input:blob | program:blob) ;;
      commit:*)
        lacking+=" ${query_path[index]} "
        ;;
      program:*) look_for_program "${query_path[index]}" "${query_origin[index]}" ;;
      unsure:blob) # uncommitted changes that nobody has may have been of this file
        blob_is "${query[index]}" "${query_hash[index]}" ||
          look_for_input "${query_path[index]}" "${query_hash[index]}" "${query_origin[index]}" \
            "${query_maker[index]}" over
        ;;
      input:* | unsure:*)
        look_for_input "${query_path[index]}" "${query_hash[index]}" "${query_origin[index]}" "${query_maker[index]}"
        ;;
    esac
    index=$((index + 1))
  done < <(printf '%s\n' "${query[@]}" | git -C "$repo" cat-file --batch-check='%(objecttype)' 2>/dev/null)
  if [[ -n $lacking ]]; then
    name_lacking "$lacking"
  fi
}

name_lacking() { # COMMITS, each between spaces: their operations, by the repository in which those ran
  local number index most=10 advice origins=() numbers=() commits=() counts=()
  for number in "${wanted[@]}"; do
    load "$number" >/dev/null 2>&1
    if [[ -z $commit || $1 != *" $commit "* ]]; then
      continue
    fi
    for ((index = 0; index < ${#origins[@]}; index++)); do
      [[ ${origins[index]} != "$origin" ]] || break
    done
    origins[index]=$origin counts[index]=$((${counts[index]-0} + 1))
    if ((counts[index] <= most)); then
      numbers[index]=${numbers[index]-}${numbers[index]+, }$number
      [[ ", ${commits[index]-}, " == *", $commit, "* ]] || commits[index]=${commits[index]-}${commits[index]+, }$commit
    fi
  done
  advice="git fetch --all$(is_shallow) there, or give a clone that has it with --repo DIR"
  for ((index = 0; index < ${#origins[@]}; index++)); do
    number=operation
    ((counts[index] == 1)) || number=operations
    ((counts[index] <= most)) || numbers[index]+=" and $((counts[index] - most)) more"
    problem "$number ${numbers[index]} ran${origins[index]:+ in ${origins[index]}} at commit ${commits[index]}, \
which $repo lacks: $advice and choose its operations with --only"
  done
}

is_shallow() {
  if [[ $(git -C "$repo" rev-parse --is-shallow-repository) == true ]]; then
    printf ' and git fetch --unshallow'
  fi
}

blob_is() { # OBJECT SHA256: whether it is that when checked out
  [[ $(git -C "$repo" cat-file --filters "$1" 2>/dev/null </dev/null | "${hasher[@]}") == "$2"* ]]
}

look_for_input() { # PATH HASH RECORDED_PATH MAKER [over]: one that no operation of this run makes and git does not have
  local path=$1 hash=$2 found=${5+$1} fitting='' candidate name
  name=seen_${5-}_${hash//[!0-9a-f]/}
  if [[ ${!name-} == *$'\n'"$path"$'\n'* ]]; then
    return
  fi
  printf -v "$name" '%s\n%s\n' "${!name-}" "$path"
  placed "$path"
  local target=$place candidates=()
  if [[ $path =~ $outside || -n $in_place ]] || [[ $from -gt 0 && -z ${5-} ]]; then
    candidates=("$target")
  fi
  if [[ ! $path =~ $outside && -z $in_place ]]; then
    candidates+=("$top/$path" "$3")
  fi
  for candidate in "${candidates[@]}"; do
    if [[ -f $candidate ]]; then
      found=$candidate
      if [[ $hash == - ]] || { hash_of "$candidate" && [[ $digest == "$hash" ]]; }; then
        fitting=$candidate
        break
      fi
    fi
  done 2>/dev/null
  if [[ -z $found ]]; then
    problem "there is no file $(printf '%q' "$path"), which operation $step reads"
  elif [[ -z $fitting && $4 -gt 0 ]]; then
    printf 'Warning: %q is not as it was when operation %s read it\n' "$path" "$step" >&2
    unlike_now+=$path$'\n'
  elif [[ -z $fitting ]]; then
    problem "the file $(printf '%q' "$found") is not as it was when operation $step read it"
  elif [[ -n ${5-} && $fitting != "$target" ]]; then
    over+=("$fitting") over_path+=("$path") over_hash+=("$hash")
  elif [[ $fitting != "$target" ]]; then
    copies+=("$fitting") copy_targets+=("$path")
  fi
}

check_space() {
  local place=$work free
  while [[ ! -d $place ]]; do
    place=${place%/*}
    place=${place:-/}
  done
  free=$(df -Pk -- "$place" 2>/dev/null | awk 'NR == 2 { print $4 }')
  if [[ $free =~ ^[0-9]+$ ]] && ((free < needed_bytes / 1024 + 51200)); then
    problem "$place has $((free / 1024)) MB left, and the outputs take $((needed_bytes / 1048576 + 50)) MB"
  fi
}

# ---- Recording what happened, for --report ----

report_it() {
  local json verdict_text=$verdict
  (
    hide_secrets
    load "$step" >/dev/null 2>&1
    json_object tool_name "$tool" operation "$operation" note "${note:-Reproduction: of operation $operation_id}"
    made=${json%\}}
    if [[ -n $started_at ]]; then
      json_list "${words[@]}"
      made+=", \"timestamp\": \"$started_at\", \"duration_seconds\": $seconds, \"command\": $json"
    fi
    made+=", \"success\": $([[ $verdict_text == broken ]] && printf false || printf true)"
    if [[ $exit_code != - ]]; then
      made+=", \"results\": {\"exit_code\": $exit_code}"
    fi
    json_text "${why:-exit code $exit_code}"
    if [[ $verdict_text == broken ]]; then
      made+=", \"error_message\": $json"
    fi
    json_text "$ran_in"
    made+=", \"working_directory\": $json"
    if [[ -n $at_commit ]]; then
      made+=", \"git_commit\": \"$at_commit\", \"git_dirty\": $([[ -n $at_patch ]] && printf true || printf false)"
    fi
    json_list ${differing[@]+"${differing[@]}"}
    made+=", \"context\": {\"reproduces\": \"$operation_id\", \"verdict\": \"$verdict_text\", \"differing\": $json}}"
    printf '%s\n' "$made" | audit-dagster log --json - >/dev/null
  )
}

json_text() { # TEXT: sets json
  local text=$1 code character escaped
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  if [[ $text == *[[:cntrl:]]* ]]; then
    for ((code = 1; code < 32; code++)); do
      printf -v character '%b' "\\x$(printf '%02x' "$code")."
      character=${character%.}
      printf -v escaped '\\u%04x' "$code"
      text=${text//"$character"/"$escaped"}
    done
  fi
  json=\"$text\"
}

json_list() { # TEXT...: sets json
  local made='' text
  for text in "$@"; do
    json_text "$text"
    made+=${made:+, }$json
  done
  json="[$made]"
}

json_object() { # NAME TEXT...: sets json
  local made=''
  while (($# > 0)); do
    json_text "$2"
    made+="${made:+, }\"$1\": $json"
    shift 2
  done
  json="{$made}"
}

hide_secrets() { # from what is shown and recorded
  local secret
  for secret in ${secrets[@]+"${secrets[@]}"}; do
    printf -v "SECRET_$secret" '%s' "\${SECRET:$secret}"
  done
}

# ---- The script's arguments ----

usage() {
  cat <<'USAGE'
Usage: bash SCRIPT [OPTIONS]

Runs the recorded operations again, each with the code that it ran with, and compares what they make with what was
recorded. It works in a working tree of its own: yours stays as it is.

  --repo DIR    a clone of the repository (default: the current directory)
  --work DIR    the folder for the working tree, logs and results (default: one in $TMPDIR or /tmp)
  --in-place    work in the clone itself, with git checkout; at the end your branch is checked out again
  --list        show the operations, and end
  --dry-run     check that everything needed is there, show what would run, and end
  --from N      begin with operation N, in what an earlier run left in the work folder; an operation that was ended in
                its middle may have appended to a file or edited it, and does so again
  --to N        end with operation N
  --only N,N-M  only these operations
  --keep-going  go on after an operation that failed
  --keep        leave the working tree in place at the end
  --yes         do not ask before operations that change more than files here
  --setup CMD   run CMD in the working tree whenever another commit is checked out, such as 'uv sync --frozen'; what it
                puts into .venv/bin there comes before what is on PATH
  --report      record each reproduction with audit-dagster
  -h, --help    this text

Exit codes: 0 reproduced, 1 an operation failed, 2 wrong usage, 3 something is missing and nothing was run,
4 outputs differ, 129, 130 and 143 interrupted by a signal.
USAGE
}

misuse() {
  printf '%s\n' "$1" >&2
  usage >&2
  exit 2
}

read_arguments() {
  local option
  repo=$PWD work=${TMPDIR:-/tmp}/reproduction-$plan-$UID
  in_place='' list='' dry_run='' from=0 to=$total only='' keep='' yes='' setup='' report=''
  while (($# > 0)); do
    option=$1
    shift
    if [[ $option == --*=* ]]; then
      set -- "${option#*=}" "$@"
      option=${option%%=*}
    fi
    case $option in
      --repo | --work | --from | --to | --only | --setup)
        (($# > 0)) || misuse "$option needs a value"
        case $option in
          --repo) repo=$1 ;;
          --work) work=$1 ;;
          --from) from=$(number_of "$option" "$1") ;;
          --to) to=$(number_of "$option" "$1") ;;
          --only) only=${1:-,} ;; # an empty one names none, and is no wish for all
          --setup) setup=$1 ;;
        esac
        shift
        ;;
      --in-place) in_place=1 ;;
      --list) list=1 ;;
      --dry-run) dry_run=1 ;;
      --keep-going) keep_going=1 ;;
      --keep) keep=1 ;;
      --yes) yes=1 ;;
      --report) report=1 ;;
      -h | --help)
        usage
        exit
        ;;
      *) misuse "unknown option: $option" ;;
    esac
  done
  choose
}

number_of() { # OPTION TEXT
  if [[ ! $2 =~ ^[1-9][0-9]{0,8}$ ]] || (($2 > total)); then
    misuse "$1 needs the number of an operation, from 1 to $total"
  fi
  printf '%s' "$2"
}

choose() { # sets wanted, the numbers of the operations to run, and is_wanted
  local part first_ last_ number parts chosen=()
  wanted=() is_wanted=()
  if [[ -n $only ]]; then
    IFS=, read -r -a parts <<<"$only"
    for part in "${parts[@]}"; do
      first_=$(number_of --only "${part%%-*}")
      last_=$(number_of --only "${part#*-}")
      for ((number = first_; number <= last_; number++)); do
        chosen[number]=1
      done
    done
  fi
  for ((number = from > 0 ? from : 1; number <= to; number++)); do
    if [[ -z $only || -n ${chosen[number]-} ]]; then
      wanted+=("$number")
      is_wanted[number]=1
    fi
  done
  if ((${#wanted[@]} == 0 && total > 0)); then
    misuse "no operation is left to run"
  fi
}

show_list() {
  local number
  for number in "${wanted[@]}"; do
    load "$number" >/dev/null 2>&1
    printf '%5s  %s  %s %s\n       %s\n' "$step" "$started" "$tool" "$operation" "$shown"
    [[ -z $note ]] || printf '       %s\n' "${note#Reproduction: }"
  done
}

show_plan() {
  local number
  for number in "${wanted[@]}"; do
    load "$number" >/dev/null 2>&1
    hide_secrets
    load "$number" >/dev/null 2>&1
    printf '%5s  %s  %s %s\n       code: %s\n       in: %s\n       run:' "$step" "$started" "$tool" "$operation" \
      "${commit:-what is there}$([[ -z $state || $state == clean ]] || printf ' with a patch')" "$tree${folder:+/$folder}"
    printf ' %q' "${words[@]}"
    printf '\n'
    ((${#inputs[@]} == 0)) || printf '       reads: %q\n' "${inputs[@]}"
    ((${#outputs[@]} == 0)) || printf '       makes: %q\n' "${outputs[@]}"
  done
}

main() {
  step='' at_commit='' at_patch='' set_up_for='' python_root='' touched=0 failures=0 differences=0
  terminal='' rows=()
  read_arguments "$@"
  if ((total == 0)); then
    completed
    exit
  elif [[ -n $list ]]; then
    show_list
    exit
  fi
  if { : >/dev/tty; } 2>/dev/null; then
    terminal=1
  fi
  check_all
  if [[ -n $dry_run ]]; then
    show_plan
    exit
  fi
  step=''
  trap 'interrupted INT 130' INT
  trap 'interrupted TERM 143' TERM
  trap 'interrupted HUP 129' HUP
  trap conclude_all EXIT
  printf '%s\n' "$plan" >"$work/.reproduction"
  printf '%s\n' "$$" >"$work/running"
  start_work
  reproduce
}

main "$@"; exit
