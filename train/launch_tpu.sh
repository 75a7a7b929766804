#!/usr/bin/env bash
# Trains on a Google Cloud TPU VM: a single host, or a slice of several workers.
#
# Usage:   train/launch_tpu.sh --name=NAME --zone=ZONE [FLAG ...] -- [ARGUMENT OF train.main ...]
# Example: train/launch_tpu.sh --name=first --zone=us-west4-a --spot --mount=my-bucket -- --config.mix.policy='mixup(alpha=0.2)'
#
# Creates the TPU VM, or uses the one with that name. Copies the tracked files of this checkout to ~/jaxmix on every
# worker, where it replaces older files, and installs them into ~/jaxmix-venv. Starts train.main --distributed on all
# workers, follows worker 0's ~/jaxmix-log.txt until the run ends, and returns the run's exit code. If you interrupt
# this script, the run continues. The TPU VM stays, and costs money, until you delete it.
#
#   --name=NAME        name of the TPU VM
#   --zone=ZONE        zone of the TPU VM
#   --project=PROJECT  project of Google Cloud (gcloud's own setting)
#   --type=TYPE        accelerator type (v5litepod-8); up to 8 is a single host
#   --version=VERSION  software version of the TPU VM (v2-alpha-tpuv5-lite)
#   --spot             take a cheaper TPU VM, which may be preempted at any time
#   --mount=BUCKET     mount the bucket at ~/bucket on every worker, for a run folder that outlives the TPU VM, and
#                      for data prepared elsewhere: --config.data.data_dir='~/bucket/FOLDER' after the --
#   --workdir=PATH     run folder, in the home folder unless PATH begins with / (~/bucket/NAME with a mounted bucket,
#                      else ~/runs/NAME, which is lost with the TPU VM)
#   --resume           continue a run: follow it if it still runs, else start the same command again, on a new TPU VM
#                      if the old one was preempted; give all other flags as before
#   --dry-run          print the commands and run none; assumes that there is no TPU VM, or a preempted one with --resume
#
# A run resumes from the checkpoints in its run folder. After a preemption this needs a folder on storage that outlives
# the TPU VM: a mounted bucket or a network file system. Several workers always need a shared folder: use --mount, or
# --workdir on storage that you mounted on each. The last step of a checkpoint renames a folder. Only a bucket created
# with --enable-hierarchical-namespace does that atomically. The service account of the TPU VM needs
# roles/storage.objectUser on it. For several workers, first run: ssh-add ~/.ssh/google_compute_engine

# shellcheck disable=SC2016 # what is in single quotes is for the shells of the workers to expand
set -euo pipefail
shopt -s extglob

fail() { # MESSAGE [EXIT CODE, 2 for a mistake in the arguments]
  echo "launch_tpu: $1" >&2
  exit "${2:-2}"
}

name='' zone='' project='' type=v5litepod-8 version='' mount='' workdir='' spot=false resume=false dry_run=false
while (($#)); do
  case $1 in
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
    --) shift && break ;;
    --*=) fail "$1 has no value" ;;
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --mount=*) mount=${1#*=} ;;
    --workdir=*) workdir=${1#*=} ;;
    --spot) spot=true ;;
    --resume) resume=true ;;
    --dry-run) dry_run=true ;;
    *) fail "cannot read '$1': take --name=, --zone=, --project=, --type=, --version=, --mount=, --workdir=, --spot,\
 --resume, --dry-run, and after a -- the arguments of train.main" ;;
  esac
  shift
done
[[ -n $name && -n $zone ]] || fail "--name and --zone are needed, such as --name=first --zone=us-west4-a"
[[ $type =~ -([0-9]+)$ ]] || fail "--type=$type must end in a size, such as v5litepod-8"
workers=$((10#${BASH_REMATCH[1]} > 8 ? 2 : 1)) # one or several; a TPU VM that is there already knows better
[[ $type == v5litepod-* || -n $version ]] ||
  fail "--type=$type needs its --version: v2-alpha-tpuv6e for v6e, v2-alpha-tpuv5 for v5p, tpu-ubuntu2204-base for v4"
mount=${mount#gs://} && mount=${mount%/}
[[ $mount != */* ]] || fail "--mount=$mount is not a bucket: --mount=${mount%%/*} --workdir=bucket/${mount#*/}/$name"
[[ $workdir != gs://* ]] || fail "a run folder is a path: --mount=BUCKET mounts gs://BUCKET and puts it there"
folder=${workdir:-${mount:+bucket/$name}}
folder=${folder:-runs/$name} && folder=${folder#\~/}
[[ $folder/ != jaxmix/* ]] || fail "--workdir=$workdir lies in the checkout, which is replaced: take a folder outside ~/jaxmix"
quoted=$(printf %q "$folder") && [[ $folder == /* ]] || quoted='"$HOME"/'$quoted
train='"$HOME"/jaxmix-venv/bin/python -u -m train.main --distributed --workdir='$quoted
for argument; do
  [[ ! $argument =~ ^--?(workdir|distributed)(=|$) ]] || fail "this script sets $argument: give --workdir before the --"
  train+=" $(printf %q "$argument")"
done

where=(--zone="$zone")
[[ -z $project ]] || where+=(--project="$project")
create=(create "$name" --accelerator-type="$type" --version="${version:-v2-alpha-tpuv5-lite}")
! $spot || create+=(--spot)

run() { # COMMAND ...: runs it, or prints it as a line for the shell
  if ! $dry_run; then
    "$@"
    return
  fi
  local word escaped line='' quote="'\\''"
  for word; do
    printf -v escaped %q "$word"
    [[ $word == "$escaped" ]] || word="'${word//\'/$quote}'"
    line+=" $word"
  done
  echo "${line# }"
}
tpu() { run gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
on() { tpu ssh "$name" --worker="$1" --command="${2//$'\n'*( )/ }"; } # WORKERS SCRIPT: runs it in their home folder

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A describe that fails is taken for a missing TPU VM: if it failed otherwise, so does the creation, and says why.
state=MISSING
describe=(describe "$name" --format='value(state,networkEndpoints.len())')
if $dry_run; then
  ! $resume || state=PREEMPTED
elif found=$(tpu "${describe[@]}" 2> /dev/null); then
  read -r state endpoints <<< "$found"
  [[ $state != READY ]] || workers=$endpoints
fi
((workers <= 1)) || [[ -n $mount$workdir ]] ||
  fail "several workers need a shared run folder: --mount=BUCKET, or --workdir=PATH on a shared file system"
! $dry_run || tpu "${describe[@]}"
case $state in
  READY) ;;
  MISSING) tpu "${create[@]}" ;;
  PREEMPTED | TERMINATED)
    $resume || fail "$name is $state: --resume deletes it, creates it again and continues the run" 1
    [[ -n $mount$workdir ]] || echo "launch_tpu: ~/$folder is lost with the old $name: the run starts from the beginning" >&2
    tpu delete "$name" --quiet
    tpu "${create[@]}"
    ;;
  *) fail "$name is $state: wait until it is READY, or delete it" 1 ;;
esac

# A run holds the lock for as long as it lives, however it ends; a file with its process id could outlive it.
running=0
on all 'flock -n jaxmix.lock true || exit 75' || running=$?
((running == 0 || running == 75)) || exit "$running"
((running == 0)) || $resume || fail "a run is still in progress on $name: --resume follows it" 1
if ((running == 0)); then
  archive=${TMPDIR:-/tmp}/jaxmix.tar.gz
  $dry_run || { scratch=$(mktemp -d) && trap 'rm -r "$scratch"' EXIT && archive=$scratch/jaxmix.tar.gz; }
  run bash -o pipefail -c 'git ls-files -z | tar -czf "$0" --null -T -' "$archive"
  tpu scp "$archive" "$name:" --worker=all
  on all 'rm -rf jaxmix && mkdir jaxmix && tar -xzf jaxmix.tar.gz -C jaxmix'
  # The Python of a TPU VM may be too old (3.10 on Ubuntu 22.04) or lack ensurepip, without which there is no venv.
  on all 'fits() { "$1" -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))" 2> /dev/null; };
    ! fits jaxmix-venv/bin/python || exit 0;
    for python in python3 python3.13 python3.12 python3.11; do ! fits $python || break; done;
    fits $python || sudo apt-get -qq update;
    for next in python3.12 python3.11; do fits $python || { python=$next;
      sudo DEBIAN_FRONTEND=noninteractive apt-get -qqy -o DPkg::Lock::Timeout=300 install $next $next-venv; }; done;
    fits $python || { echo "launch_tpu: install Python 3.11 or later on the TPU VM, or take another --version" >&2;
      exit 1; };
    $python -m venv --clear jaxmix-venv'
  # constraints.txt pins jax, jax[tpu] pins libtpu, and both are on PyPI.
  on all 'cd jaxmix && ../jaxmix-venv/bin/pip install -q "jax[tpu]" -e ".[train,tfds]" -c constraints.txt'
  if [[ -n $mount ]]; then
    on all 'gcsfuse --help 2>&1 | grep -q metadata-cache-negative-ttl-secs && exit;
      apt=https://packages.cloud.google.com/apt; key=/usr/share/keyrings/cloud.google.asc;
      curl -fsS $apt/doc/apt-key.gpg | sudo tee $key > /dev/null;
      echo "deb [signed-by=$key] $apt gcsfuse-$(lsb_release -cs) main" |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null;
      sudo apt-get -qq update;
      sudo DEBIAN_FRONTEND=noninteractive apt-get -qqy -o DPkg::Lock::Timeout=300 install gcsfuse'
    # On TPU hosts gcsfuse remembers files for ever, but a worker must see what another has just written. In a flat
    # bucket a folder may be implied by its files, and is renamed file by file: a checkpoint has a few dozen.
    on all "mkdir -p bucket && { ! mountpoint -q bucket || fusermount -u bucket; } &&
      gcsfuse --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 --implicit-dirs --rename-dir-limit=10000
      $(printf %q "$mount") \"\$HOME\"/bucket"
  fi
  # gcloud repeats a command whose connection broke: a run that has started by then keeps the lock and is left alone.
  on all "exec 9> jaxmix.lock; flock -n 9 || exit 0; rm -f jaxmix-exit.txt; : > jaxmix-log.txt;
    (trap '' HUP; cd jaxmix && $train; echo \$? > ~/jaxmix-exit.txt) >> jaxmix-log.txt 2>&1 < /dev/null &"
fi

code=0
on 0 'flock jaxmix.lock true & tail -s 0.2 -n 200 --pid=$! -F jaxmix-log.txt;
  exit "$(cat jaxmix-exit.txt 2> /dev/null || echo 1)"' || code=$?
$dry_run && exit
((code == 0 || workers <= 1)) || on all 'echo "launch_tpu: the log of $(hostname) ends with"; tail -n 3 jaxmix-log.txt' || true
((code == 0)) || echo "launch_tpu: exit code $code; if the TPU VM or the connection was lost, --resume continues" >&2
echo "launch_tpu: $name costs money until: gcloud compute tpus tpu-vm delete $name ${where[*]}" >&2
exit "$code"
