"""The launcher for TPU VMs, on a machine of this computer's own making: what gcloud would do, a fake does here."""

import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import time

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "train" / "launch_tpu.sh"
NAMED = ["--name=first", "--zone=us-west4-a"]

# Records its arguments. `describe` answers with the file `state`, which is there while the machine is; `ssh` runs the
# command in the folder `worker`, and leaves a file `followed` there when it is for worker 0 alone.
GCLOUD = r"""#!/usr/bin/env bash
cd "${FAKES%/*}"
printf '%s\x1f' "$@" >> calls && printf '\x1e' >> calls
case $4 in
  describe) cat state ;;
  create) printf 'READY\t1\n' > state ;;
  delete) rm state ;;
  scp) cp "$5" worker/ ;;
  ssh)
    for argument; do [[ $argument != --command=* ]] || command=${argument#*=}; done
    cd worker && if [[ $* == *--worker=0* ]]; then touch followed; fi
    HOME=$PWD exec bash -c "$command"
    ;;
esac
"""
# The worker's python: fit for use, and a training program that says what it was given, sends itself what a lost
# connection does, and ends as the test wants.
PYTHON = r"""#!/usr/bin/env bash
[[ $1 == -c ]] && exit
printf '%s\x1f' "$@" > ~/trained && kill -HUP $$ && echo "epoch 1" && exit "${TRAIN_EXIT:-0}"
"""
RECORDER = r"""#!/usr/bin/env bash
echo "${0##*/} $*" >> "${FAKES%/*}/tools"
"""
FAILURE = "#!/usr/bin/env bash\nexit 1\n"


class Cloud:
    """A folder that holds a fake gcloud, the state of the one machine, and its home folder."""

    def __init__(self, folder):
        self.folder, self.worker, self.fakes = folder, folder / "worker", folder / "fakes"
        self.fake("gcloud", GCLOUD)
        self.fake("python", PYTHON, self.worker / "jaxmix-venv" / "bin")
        self.fake("pip", RECORDER, self.worker / "jaxmix-venv" / "bin")

    def fake(self, name, text, folder=None):
        path = (folder or self.fakes) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def machine(self, state="READY", workers=1):
        (self.folder / "state").write_text(f"{state}\t{workers}\n")

    def run(self, command, **environment):
        path = f"{self.fakes}:{os.environ['PATH']}"
        here = {"PATH": path, "FAKES": str(self.fakes), "TMPDIR": str(self.folder)}
        return subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | here | environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def launch(self, *arguments, **environment):
        return self.run([SCRIPT, *NAMED, *arguments], **environment)

    def lines(self, *arguments):
        """The commands of a dry run, each as its list of words."""
        result = self.launch("--dry-run", *arguments)
        assert result.returncode == 0, result.stderr
        return [shlex.split(line) for line in result.stdout.splitlines()]

    def calls(self):
        """What gcloud was called with so far."""
        path = self.folder / "calls"
        records = path.read_text().split("\x1e")[:-1] if path.exists() else []
        return [record.split("\x1f")[:-1] for record in records]

    def trained(self):
        """What python was called with on the worker."""
        return (self.worker / "trained").read_text().split("\x1f")[:-1]

    def tools(self):
        return (self.folder / "tools").read_text()


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


def verbs(commands):
    """describe, create, delete, scp and ssh, whether gcloud is the first word or not; other commands by their name."""
    return [words[words.index("tpu-vm") + 1] if "tpu-vm" in words else words[0] for words in commands]


def scripts(commands):
    """What runs on the workers, with the workers it runs on."""
    return [
        (words[words.index("first") + 1], words[words.index("first") + 2].removeprefix("--command="))
        for words in commands
        if "ssh" in words
    ]


# --- what would be run


def test_a_dry_run_creates_copies_installs_starts_and_follows(cloud):
    commands = cloud.lines("--", "--config.seed=1")
    assert verbs(commands) == ["describe", "create", "ssh", "bash", "scp", "ssh", "ssh", "ssh", "ssh", "ssh"]
    create = "gcloud compute tpus tpu-vm create first --accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite"
    assert commands[1] == [*create.split(), "--zone=us-west4-a"]
    workers, texts = zip(*scripts(commands), strict=True)
    assert workers == (*["--worker=all"] * 5, "--worker=0")
    for text, part in zip(
        texts,
        ["flock -n", "tar -xzf", "-m venv", "-c constraints.txt", "train.main --distributed", "tail"],
        strict=True,
    ):
        assert part in text
    assert '--workdir="$HOME"/runs/first --config.seed=1' in texts[4]


def test_a_dry_run_runs_nothing(cloud):
    cloud.lines("--mount=data", "--resume")
    assert cloud.calls() == []
    assert {path.name for path in cloud.folder.iterdir()} == {"fakes", "worker"}


def test_a_dry_run_prints_what_a_launch_runs(cloud):
    arguments = ["--spot", "--project=p", "--", '--note=it\'s "two" words; $HOME *']
    printed = cloud.launch("--dry-run", *arguments).stdout
    assert cloud.launch(*arguments).returncode == 0
    launched, trained = cloud.calls(), cloud.trained()
    for leftover in ["calls", "state", "worker/trained"]:
        (cloud.folder / leftover).unlink()
    assert cloud.run(["bash", "-c", printed]).returncode == 0
    pasted = cloud.calls()
    copied = verbs(launched).index("scp")
    for calls in [launched, pasted]:
        assert calls[copied].pop(4).endswith("jaxmix.tar.gz")  # from a scratch folder, or from one to be pasted
    assert pasted == launched
    assert cloud.trained() == trained


@pytest.mark.parametrize("flag", ["--spot", "--project=p"])
def test_flags_of_the_machine_reach_its_creation(cloud, flag):
    plain, flagged = cloud.lines(), cloud.lines(flag)
    assert set(flagged[1]) - set(plain[1]) == {flag}
    everywhere = flag != "--spot"
    assert all((flag in words) == everywhere for words in flagged[2:] if words[0] == "gcloud")


def test_resume_expects_a_preempted_machine_in_a_dry_run(cloud):
    assert verbs(cloud.lines("--resume"))[:4] == ["describe", "delete", "create", "ssh"]


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ([], '"$HOME"/runs/first'),
        (["--mount=data"], '"$HOME"/bucket/first'),
        (["--mount=gs://data/", "--workdir=~/bucket/a b"], '"$HOME"/bucket/a\\ b'),
        (["--workdir=/nfs/a"], "/nfs/a"),
    ],
)
def test_the_run_folder_is_where_the_flags_put_it(cloud, flags, folder):
    assert f" --workdir={folder};" in scripts(cloud.lines(*flags))[-2][1]


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--name and --zone are needed, such as --name=first"),
        (["--name=first"], "--name and --zone are needed"),
        ([*NAMED, "--zon=a"], "cannot read '--zon=a': take --name=, --zone="),
        ([*NAMED, "--type", "v4-8"], "cannot read '--type'"),
        ([*NAMED, "--config.seed=1"], "after a -- the arguments of train.main"),
        ([*NAMED, "--mount="], "--mount= has no value"),
        ([*NAMED, "--mount=gs://data/runs"], "--mount=data --workdir=bucket/runs/first"),
        ([*NAMED, "--workdir=gs://data"], "--mount=BUCKET mounts"),
        ([*NAMED, "--workdir=~/jaxmix/runs"], "take a folder outside ~/jaxmix"),
        ([*NAMED, "--type=v5litepod"], "must end in a size, such as v5litepod-8"),
        ([*NAMED, "--type=v6e-8"], "needs its --version: v2-alpha-tpuv6e"),
        ([*NAMED, "--dry-run", "--type=v5litepod-16"], "--mount=BUCKET, or --workdir=PATH"),
        ([*NAMED, "--", "--workdir=a"], "give --workdir before the --"),
        ([*NAMED, "--", "-distributed"], "this script sets -distributed"),
    ],
)
def test_a_mistake_ends_with_one_line_that_says_what_works(cloud, arguments, message):
    result = cloud.run([SCRIPT, *arguments])
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert cloud.calls() == []


def test_help_names_every_flag(cloud):
    result = cloud.run([SCRIPT, "--help"])
    assert result.returncode == 0
    for flag in ["name", "zone", "project", "type", "version", "spot", "mount", "workdir", "resume", "dry-run"]:
        assert f"\n  --{flag}" in result.stdout
    assert "set -euo" not in result.stdout


# --- runs


def test_a_missing_machine_is_created_and_the_run_is_followed_to_its_end(cloud):
    result = cloud.launch("--", "--config.seed=1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("epoch 1\n")
    assert verbs(cloud.calls())[:3] == ["describe", "create", "ssh"]
    folder = f"--workdir={cloud.worker}/runs/first"
    assert cloud.trained() == ["-u", "-m", "train.main", "--distributed", folder, "--config.seed=1"]
    assert "gcloud compute tpus tpu-vm delete first --zone=us-west4-a" in result.stderr


def test_workers_get_the_tracked_files_in_place_of_what_they_had(cloud):
    cloud.machine()
    (cloud.worker / "jaxmix").mkdir()
    (cloud.worker / "jaxmix" / "stale.py").touch()
    assert cloud.launch().returncode == 0
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    copied = {path.relative_to(cloud.worker / "jaxmix") for path in (cloud.worker / "jaxmix").rglob("*")}
    assert {str(path) for path in copied if (ROOT / path).is_file()} == set(tracked.stdout.splitlines())
    assert pathlib.Path("stale.py") not in copied
    assert cloud.tools() == "pip install -q jax[tpu] -e .[train,tfds] -c constraints.txt\n"


def test_the_constraints_pin_jax():
    assert any(line.startswith("jax==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def test_a_machine_that_is_ready_is_reused(cloud):
    cloud.machine()
    assert cloud.launch().returncode == 0
    assert not {"create", "delete"} & set(verbs(cloud.calls()))


def test_a_preempted_machine_is_created_again(cloud):
    cloud.machine("PREEMPTED", workers=0)
    result = cloud.launch("--resume", "--spot")
    assert result.returncode == 0
    assert verbs(cloud.calls())[:4] == ["describe", "delete", "create", "ssh"]
    assert "--quiet" in cloud.calls()[1]
    assert "runs/first is lost with the old first" in result.stderr


@pytest.mark.parametrize("state", ["PREEMPTED", "TERMINATED", "STOPPED", "CREATING"])
def test_nothing_is_deleted_unless_asked_for(cloud, state):
    cloud.machine(state)
    result = cloud.launch()
    assert result.returncode == 1
    assert f"first is {state}" in result.stderr
    assert ("--resume" in result.stderr) == (state in {"PREEMPTED", "TERMINATED"})
    assert verbs(cloud.calls()) == ["describe"]


@pytest.mark.parametrize("code", [2, 137])
def test_the_exit_code_of_the_run_is_returned(cloud, code):
    cloud.machine()
    result = cloud.launch(TRAIN_EXIT=str(code))
    assert result.returncode == code
    assert "--resume continues" in result.stderr


@pytest.mark.parametrize("workers", [1, 4])
def test_what_failed_on_another_worker_is_shown(cloud, workers):
    cloud.machine(workers=workers)
    result = cloud.launch("--workdir=/shared/first", TRAIN_EXIT="2")
    assert result.returncode == 2
    assert ("launch_tpu: the log of " in result.stdout) == (workers > 1)
    assert result.stdout.count("epoch 1") == (2 if workers > 1 else 1)


def test_a_run_that_is_killed_has_failed_whatever_the_one_before_did(cloud):
    cloud.machine()
    (cloud.worker / "jaxmix-exit.txt").write_text("0\n")
    cloud.fake("python", "#!/usr/bin/env bash\n[[ $1 == -c ]] || kill -KILL $PPID\n", cloud.worker / "jaxmix-venv/bin")
    assert cloud.launch().returncode == 1


def test_arguments_reach_the_program_as_they_were_written(cloud):
    arguments = ["--a=two  words", "it's", '"$HOME"', "a\n  b", "", "~", "*;&|\\", "é"]
    cloud.machine()
    assert cloud.launch("--", *arguments).returncode == 0
    assert cloud.trained()[5:] == arguments


@contextlib.contextmanager
def running(cloud, code):
    """A run that holds the lock, as a started one does, until it is followed or no longer needed; then it ends."""
    cloud.machine()
    (cloud.worker / "jaxmix-log.txt").write_text("epoch 7\n")
    wait = f"touch held; until [[ -e followed ]]; do sleep 0.05; done; echo {code} > jaxmix-exit.txt"
    with subprocess.Popen(["flock", "jaxmix.lock", "bash", "-c", wait], cwd=cloud.worker):
        while not (cloud.worker / "held").exists():
            time.sleep(0.01)
        yield
        (cloud.worker / "followed").touch()


def test_a_run_that_goes_on_is_left_alone(cloud):
    with running(cloud, 0):
        result = cloud.launch()
    assert result.returncode == 1
    assert result.stderr == "launch_tpu: a run is still in progress on first: --resume follows it\n"
    assert verbs(cloud.calls()) == ["describe", "ssh"]


def test_resume_follows_a_run_that_goes_on(cloud):
    with running(cloud, 3):
        result = cloud.launch("--resume")
    assert result.returncode == 3
    assert result.stdout == "epoch 7\n"
    assert verbs(cloud.calls()) == ["describe", "ssh", "ssh"]


def test_resume_starts_a_run_that_has_ended(cloud):
    cloud.machine()
    (cloud.worker / "jaxmix-exit.txt").write_text("1\n")
    assert cloud.launch("--resume").returncode == 0
    assert cloud.trained()[2] == "train.main"
    assert not {"create", "delete"} & set(verbs(cloud.calls()))


def test_starting_twice_starts_once(cloud):
    start = scripts(cloud.lines())[-2][1]
    with running(cloud, 0):
        assert cloud.run(["bash", "-c", f"cd {cloud.worker} && {start}"]).returncode == 0
    assert not (cloud.worker / "trained").exists()
    assert (cloud.worker / "jaxmix-log.txt").read_text() == "epoch 7\n"


def test_several_workers_need_a_folder_that_all_see(cloud):
    cloud.machine(workers=4)
    refused = cloud.launch()
    assert refused.returncode == 2
    assert "--mount=BUCKET" in refused.stderr
    assert verbs(cloud.calls()) == ["describe"]
    assert cloud.launch("--workdir=runs/a").returncode == 0


def test_a_preempted_slice_is_not_deleted_for_a_run_that_could_not_start(cloud):
    cloud.machine("PREEMPTED", workers=0)
    assert cloud.launch("--resume", "--type=v5litepod-16").returncode == 2
    assert verbs(cloud.calls()) == ["describe"]


def test_an_unreachable_machine_is_not_taken_for_an_idle_or_a_busy_one(cloud):
    cloud.machine()
    cloud.fake("gcloud", GCLOUD.replace('exec bash -c "$command"', "exit 255"))
    assert cloud.launch("--resume").returncode == 255
    assert verbs(cloud.calls()) == ["describe", "ssh"]


def test_a_bucket_is_mounted_before_the_run(cloud):
    cloud.fake("gcsfuse", RECORDER + "[[ $1 != --help ]] || echo --metadata-cache-negative-ttl-secs\n")
    cloud.fake("mountpoint", FAILURE)
    cloud.machine(workers=4)
    assert cloud.launch("--mount=data").returncode == 0
    assert cloud.tools().splitlines()[-1] == (
        "gcsfuse --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 --implicit-dirs "
        f"--rename-dir-limit=10000 data {cloud.worker}/bucket"
    )
    assert f"--workdir={cloud.worker}/bucket/first" in cloud.trained()


def test_a_worker_without_a_fit_python_says_so(cloud):
    for name in ["python3", "python3.13", "python3.12", "python3.11", "sudo"]:
        cloud.fake(name, FAILURE)
    cloud.fake("python", FAILURE, cloud.worker / "jaxmix-venv" / "bin")
    cloud.machine()
    result = cloud.launch()
    assert result.returncode == 1
    assert result.stderr == "launch_tpu: install Python 3.11 or later on the TPU VM, or take another --version\n"
    assert not (cloud.worker / "trained").exists()


def test_a_fit_python_is_installed_where_there_is_none(cloud):
    for name in ["python3", "python3.13", "python3.12", "python3.11"]:
        cloud.fake(name, FAILURE)
    venv = '#!/usr/bin/env bash\n[[ $1 == -c ]] || echo "$*" > ~/venv\n'
    cloud.fake("made", venv)
    cloud.fake("sudo", RECORDER + '[[ $* != *install* ]] || cp "$FAKES/made" "$FAKES/python3.12"\n')
    cloud.fake("python", FAILURE, cloud.worker / "jaxmix-venv" / "bin")
    step = scripts(cloud.lines())[2][1]
    assert cloud.run(["bash", "-c", step], HOME=str(cloud.worker)).returncode == 0
    assert [line.split()[-2:] for line in cloud.tools().splitlines()] == [
        ["-qq", "update"],
        ["python3.12", "python3.12-venv"],
    ]
    assert (cloud.worker / "venv").read_text() == "-m venv --clear jaxmix-venv\n"


# --- the script itself


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    result = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_script_is_executable():
    assert os.access(SCRIPT, os.X_OK)
