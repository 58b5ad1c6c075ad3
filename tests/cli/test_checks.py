"""Arguments of every verb are checked before a framework is imported or a recording is decoded."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import ROOT
from small_runs import write_run

HELPER = ROOT / "tests" / "helpers" / "cheap_commands.py"
CPU_S = 6.0  # most seconds of one answer: 1-3 on a busy core; frameworks, which take 5-12, are looked for by name
X = "experiments.py:aviary"
HERE = "data.root=recordings"
CAMTRAP = "--locations file --title T --contributor C --sampling_design targeted"

# (arguments, words of the answer)
WRONG = [
    # cache
    ("cache build experiments.py:my_recordings data.root=recordings", "add data.cache=FOLDER"),
    ("cache build experiments.py:aviary data.root=nowhere data.cache=c", "Received: 'nowhere'"),
    (f"cache build {X} {HERE} training.cache=features", "it needs augmentation.crop=center, "),
    ("cache info nowhere", "A cache folder was expected, as data.cache=FOLDER makes it; nowhere"),
    ("cache verify recordings", "recordings has no CACHEDIR.TAG and no stores"),
    ("cache clear recordings", "recordings has no CACHEDIR.TAG and no stores"),
    (f"cache precompute {X} {HERE}", "The output folder is missing; add -o FOLDER"),
    (f"cache precompute {X} {HERE} -o file", "file is a file"),
    (f"train {X} {HERE} data.cache_gb=0", "data.cache_gb must be above 0"),
    (f"train {X} {HERE} --cache_dir ./cache", "type data.cache=FOLDER"),
    (f"cv {X} {HERE} --cache_dir=c", "type data.cache=FOLDER"),
    ("train config.py:x --cache_dir", "type data.cache=FOLDER"),
    # analyze: formats, numbers, files, the model, and what depends on the model
    ("analyze run recordings -o t --rtype csvv", "Unknown output format 'csvv'"),
    ("analyze run recordings -o t --rtype ,", "At least one output format"),
    ("analyze run recordings -o t --combined parqet", "Did you mean 'parquet'?"),
    ("analyze run recordings -o t --timezone Europe/Zürich", "Did you mean 'Europe/Zurich'?"),
    ("analyze run recordings -o t --recorder_timezone +99:00", "at most 14 hours from UTC"),
    ("analyze run recordings -o t --preset animal_spt", "Did you mean 'animal_spot'?"),
    ("analyze run recordings -o t --preset animal_spot --overlap 0.5", "--overlap has no effect with --preset"),
    ("analyze run recordings -o t --preset animal_spot --grid 5", "--grid has no effect with --preset"),
    ("analyze run recordings -o t --two_stage run --events", "--events has no effect with --preset"),
    ("analyze run recordings -o t --two_stage run --workers 2", "--workers has no effect with --preset"),
    ("analyze run recordings -o t --two_stage run --event_low 0.1", "--event_low and --event_median need --events"),
    ("analyze run recordings -o t --two_stage nowhere", "two_stage must be a file or folder that exists"),
    ("analyze run recordings -o t --two_stage run --min_conf 1.5", "--min_conf must be in 0..1"),
    ("analyze run recordings -o t --min_conf 1.5", "--min_conf must be in 0..1"),
    ("analyze run recordings -o t --min_conf nan", "--min_conf must be"),
    ("analyze run recordings -o t --top_n -1", "--top_n must be 0 or more"),
    ("analyze run recordings -o t --merge_consecutive -1", "--merge_consecutive must be 0 or more"),
    ("analyze run recordings -o t --batch_size 0", "--batch_size must be 1 or more"),
    ("analyze run recordings -o t --threads -1", "--threads must be 0 or more"),
    ("analyze run recordings -o t --workers -1", "--workers must be 0 or more"),
    ("analyze run recordings -o t --grid -1", "--grid must be 0 or more"),
    ("analyze run recordings -o t --overlap 1", "overlap must be 0 or more and below"),
    ("analyze run recordings -o t --overlap -1", "overlap must be 0 or more and below"),
    ("analyze run recordings -o t --slist nowhere.txt", "nowhere.txt cannot be read"),
    ("analyze run nowhere -o t", "nowhere does not exist"),
    ("analyze run recordings -o file", "file is a file"),
    ("analyze run recordings -o t --overlap x", "--overlap"),
    ("analyze nowhere recordings -o t", "Received: nowhere, no such file or folder"),
    ("analyze nowhere.tflite recordings -o t", "no such file or folder"),
    ("analyze file recordings -o t", "another kind of file"),
    ("analyze recordings recordings -o t", "A run folder with config.json was expected"),
    ("analyze bare.tflite recordings -o t", "needs its sidecar bare.json"),
    ("analyze damaged recordings -o t", "not a readable safetensors file"),
    ("analyze newer recordings -o t", "was written by birdnet_fs 99.0"),
    # doctor, cluster, status
    ("doctor now", "Got unexpected extra argument"),
    ("cluster analyze run recordings -o t", "--shards must be 1 or more"),
    ("cluster train run -o t --shards 2", "divides analyze or embed"),
    ("cluster analyze run recordings -o t --shards 2 --shard 2", "--shard must be in 0..1"),
    ("cluster analyze run recordings -o t --shards 2 --local -1", "--local must be 1 or more"),
    ("cluster analyze run recordings -o t --shards 2 --local 2 --slurm mem=1G", "Only one of --shard, --local"),
    ("cluster analyze run nowhere -o t --shards 2 --local 2", "nowhere does not exist"),
    ("cluster analyze run recordings -o t --shards 2 --local 2 --rtype csvv", "Unknown output format 'csvv'"),
    ("cluster analyze run recordings -o t --shards 2 --local 2 --min_cnf 1", "No such option"),
    ("status nowhere", "folder must be a file or folder that exists"),
    # segments, sample, estimate
    ("segments nowhere -o t", "nowhere does not exist"),
    ("segments recordings -o t", "A folder written by `birdnet-fs analyze` was expected"),
    ("segments recordings -o t --min_conf 2", "--min_conf must be in 0..1"),
    ("segments recordings -o t --max_segments -1", "--max_segments must be 0 or more"),
    ("segments recordings -o t --margin -1", "--margin must be 0 or more"),
    ("segments recordings -o t --slist nowhere.txt", "nowhere.txt cannot be read"),
    ("segments recordings -o file", "file is a file"),
    ("sample nowhere -o t", "nowhere does not exist"),
    ("sample recordings -o t", "A folder written by `birdnet-fs analyze` was expected"),
    ("sample recordings -o t --per-class 0", "--per-class must be 1 or more"),
    ("sample recordings -o t --margin -1", "--margin must be 0 or more"),
    ("sample recordings -o t --seed -1", "--seed must be 0 or more"),
    ("sample recordings -o t --recordings nowhere", "recordings must be a file or folder that exists"),
    ("sample recordings -o file", "file is a file"),
    ("estimate nowhere", "nowhere does not exist"),
    ("camtrap recordings -o t --locations file --title T --contributor C --sampling_design targetted", "'targeted'?"),
    (f"camtrap nowhere -o t {CAMTRAP}", "nowhere does not exist"),
    (f"camtrap recordings -o t {CAMTRAP}", "must have the columns folder, latitude, longitude"),
    (f"camtrap recordings -o t {CAMTRAP} --timezone CEST", "must be a name such as Europe/Zurich"),
    (f"camtrap recordings -o file {CAMTRAP}", "file is a file"),
    ("estimate recordings", "A folder written by `birdnet-fs sample` was expected"),
    # evaluate
    ("evaluate nowhere", "no such file or folder"),
    ("evaluate run recordings", "The output folder is missing"),
    ("evaluate run nowhere -o t", "nowhere"),
    ("evaluate run recordings -o file", "file is a file"),
    ("evaluate run recordings -o t training.epochs=3", "must be data.KEY=VALUE"),
    ("evaluate run recordings -o t data.wher=x", "Did you mean 'data.where'"),
    ("evaluate run recordings -o t data.n_folds=x", "data.n_folds must be a whole number"),
    ("evaluate run data.where=x=y", "The output folder is missing"),
    ("evaluate run recordings -o t --threads -1", "--threads must be 0 or more"),
    ("evaluate bare.onnx", "has no held-out clips"),
    ("compare run", "must be NAME=FOLDER, as site=cv/site. Received: 'run'"),
    ("compare a=run a=run2", "Received: 'a' twice"),
    ("compare a=nowhere b=run", "a must be a file or folder that exists"),
    ("compare a=run b=run2", "run must hold the metrics.json"),
    # export
    ("export run --target tflight", "Did you mean 'tflite'?"),
    ("export run --precision fp33", "--precision must be one of"),
    ("export run --precision ,", "--precision must name one or more"),
    ("export run --input spectrogram", "--input must be one of"),
    ("export run --name a/b", "--name must be a plain file name"),
    ("export run --n_segments 1", "--n_segments must be 2 or more"),
    ("export run --audio nowhere", "--audio must be a file or folder that exists"),
    ("export run --environment nowhere", "--environment must be a file or folder that exists"),
    ("export run -o file", "file is a file"),
    ("export run --target birdnet", "birdnet reads 3 s at 48,000 Hz"),
    ("export nowhere", "there is no such folder"),
    ("export linked", "is a link to a place outside"),
    # bench
    ("bench nowhere.tflite", "there is no such file"),
    ("bench run", "must end in .tflite or .onnx"),
    ("bench bare.tflite --threads 0", "--threads must be 1 or more"),
    ("bench bare.tflite --batch_size 0", "--batch_size must be 1 or more"),
    ("bench bare.tflite --seconds 0", "--seconds must be"),
    ("bench bare.tflite", "needs its sidecar"),
    # ensemble
    ("ensemble run run2 -o e --combine median", "combine must be one of mean, rank, power"),
    ("ensemble run run2 -o e --combine power --power 0", "power must be a number above 0"),
    ("ensemble run run2", "The output folder is missing"),
    ("ensemble run nowhere -o e", "there is no such folder"),
    ("ensemble run run -o e", "was given twice"),
    ("ensemble run -o e", "needs two runs or more"),
    ("ensemble run run2 -o file", "file is a file"),
    # experiments: train, tune, cv, show
    ("train config.py:aviary", "there is no file 'config.py' here. `birdnet-fs init` writes"),
    ("train broken.py:aviary", "broken.py could not be run as Python: NameError"),
    ("train experiments.py:avairy", "Did you mean 'aviary'?"),
    ("train experiments.py", "The experiment is missing"),
    (f"train {X} data.root=nowhere", "Received: 'nowhere'"),
    (f"train {X} {HERE} data.table=nowhere.csv", "data.table must be a file"),
    (f"train {X} {HERE} training.epoch=3", "Did you mean 'training.epochs'?"),
    (f"train {X} {HERE} quick=1", "quick must be true or false. Received: '1'"),
    (f"train {X} {HERE} --epochs 3", "No such option: --epochs. See birdnet-fs train --help."),
    (f"train {X} {HERE} training.epochs=0", "training.epochs must be 1 or more"),
    (f"train {X} {HERE} training.epochs=1e9", "training.epochs must be 100000 or less"),
    (f"train {X} {HERE} model=cnn/smal", "Did you mean 'cnn/small'?"),
    (f"train {X} {HERE} frontend=birdclef2052", "birdclef2025"),
    (f"train {X} {HERE} frontend.n_fft=1073741824", "frontend.n_fft must be 131072 or less"),
    (f"train {X} {HERE} data.table= data.audio= model.weights=x.pth", "model.weights must be a file or folder"),
    (f"train {X} {HERE} data.table= data.audio= model.weights=damaged", "not a readable safetensors file"),
    (f"train {X} {HERE} data.table= data.audio= distillation.teacher=nowhere", "distillation.teacher must be"),
    (f"train {X} {HERE} data.table= data.audio= pseudo_labels.table=nowhere", "pseudo_labels.table must be"),
    (f"train {X} {HERE} -o file", "file is a file"),
    (f"tune {X} {HERE} --space experiments.py:space_x", "has no search space 'space_x'"),
    (f"tune {X} {HERE} --workers 0", "--workers"),
    ("tune experiments.py:my_recordings data.root=recordings -o file", "file is a file"),
    (f"cv {X} {HERE} data.table= --seeds a", "--seeds must be whole numbers"),
    (f"cv {X} {HERE} data.table= --seeds ,", "--seeds must be whole numbers separated by commas"),
    (f"cv {X} {HERE} data.table= --ensemble median", "--ensemble must be one of"),
    (f"cv {X} {HERE} data.table= --fold 0 --ensemble mean", "--ensemble needs all folds"),
    (f"cv {X} data.root=nowhere", "Received: 'nowhere'"),
    (f"cv {X} {HERE} -o file", "file is a file"),
    (f"show augmentt {X}", "Did you mean 'augment'?"),
    (f"show augment {X} {HERE} --clips 0", "--clips must be 1 or more"),
    (f"show augment {X} {HERE} --n_draws 0", "--n_draws must be 1 or more"),
    (f"show augment {X} {HERE} -o recordings", "recordings is a folder"),
    (f"show augment {X} data.root=nowhere", "Received: 'nowhere'"),
    ("analyze run recordings -o t --precision 1.5", "--precision must be above 0 and below 1"),
    ("analyze run recordings -o t --precision 0.9 --min_conf 0.5", "leave out --min_conf"),
    ("analyze run recordings -o t --precision 0.9 --grid 5", "leave out --grid"),
    ("analyze run recordings -o t --precision 0.9 --events", "leave out --events"),
    ("analyze run recordings -o t --post smooth --events", "leave out --events"),
    ("analyze run recordings -o t --precision 0.9 --preset animal_spot", "leave out --precision and --post"),
    ("analyze run recordings -o t --post smoth", "Did you mean 'smooth'?"),
    ("analyze run recordings -o t --runtime openvin", "Did you mean 'openvino'?"),
    ("analyze run recordings -o t --runtime openvino", "is for .onnx files"),
    # calibrate
    ("calibrate run recordings", "The output folder is missing"),
    ("calibrate nowhere recordings -o c", "no such file or folder"),
    ("calibrate run nowhere -o c", "nowhere"),
    ("calibrate run recordings -o run", "is the folder of the model itself"),
    ("calibrate run recordings -o run2", "holds a model already"),
    ("calibrate run recordings -o file", "file is a file"),
    ("calibrate run recordings -o c --method plat", "Did you mean 'platt'?"),
    ("calibrate run recordings -o c --precision x", "--precision must be numbers separated by commas"),
    ("calibrate run recordings -o c --precision 1.5", "must be above 0 and below 1"),
    ("calibrate run recordings -o c --confidence 0.3", "The confidence must be 0.5 or more"),
    ("calibrate run recordings -o c --post smoth", "Did you mean 'smooth'?"),
    ("calibrate run recordings -o c --noise_s -1", "--noise_s must be 0 or more"),
    ("calibrate run recordings -o c --background nowhere", "--background must be a file or folder that exists"),
    ("calibrate run recordings training.epochs=3 -o c", "must be data.KEY=VALUE"),
    ("calibrate run data.segment_s=1 -o c", "data.segment_s=1"),
    ("prior run --by hours -o p.csv", "Did you mean 'hour'?"),
    ("prior run --by hour", "The table to write is missing"),
    ("prior nowhere --by hour -o p.csv", "RUN must be a file or folder that exists"),
    ("prior run --by hour -o recordings", "recordings is a folder"),
    ("prior run --by hour -o p.csv --strength 0", "--strength must be 0.1 or more"),
    # pseudo-label, enroll, fewshot-eval, quantize
    ("pseudo-label nowhere recordings -o p", "no such file or folder"),
    ("pseudo-label run nowhere -o p", "nowhere does not exist"),
    ("pseudo-label run recordings -o p --overlap 9", "overlap must be 0 or more and below"),
    ("pseudo-label run recordings -o p --batch_size 0", "--batch_size must be 1 or more"),
    ("pseudo-label run recordings -o p --rounds -1", "--rounds"),
    ("pseudo-label run recordings pseudo_labels.power=2 -o p", "add --rounds 1"),
    ("pseudo-label run recordings pseudo_labels.powr=2 -o p --rounds 1", "Did you mean 'pseudo_labels.power'?"),
    ("pseudo-label run recordings -o file", "file is a file"),
    ("enroll run recordings", "The output folder is missing"),
    ("enroll run -o new", "Nothing to do"),
    ("enroll run nowhere -o new", "nowhere does not exist"),
    ("enroll nowhere recordings -o new", "there is no such folder"),
    ("enroll run recordings -o new --background nowhere", "--background must be a file or folder that exists"),
    ("enroll run recordings -o new training.epochs=3", "must be data.KEY=VALUE"),
    ("enroll run recordings -o run", "is the run itself"),
    ("fewshot-eval run recordings --ways 1", "--ways must be 2 or more"),
    ("fewshot-eval run recordings --shots a", "--shots must be whole numbers"),
    ("fewshot-eval run recordings --shots 0", "--shots must be 1 or more"),
    ("fewshot-eval run recordings --queries 0", "--queries must be 1 or more"),
    ("fewshot-eval run recordings --episodes 0", "--episodes must be 1 or more"),
    ("fewshot-eval run recordings --fill silent", "Did you mean 'silence'?"),
    ("fewshot-eval run recordings -o recordings", "recordings is a folder"),
    ("fewshot-eval run nowhere", "nowhere does not exist"),
    ("fewshot-eval nowhere recordings", "there is no such folder"),
    ("fewshot-detect nowhere", "nowhere does not exist"),
    ("fewshot-detect recordings -o recordings", "recordings is a folder"),
    ("fewshot-detect recordings --shots 0", "n_shots must be in 2..1000"),
    ("fewshot-detect recordings --fmax 17000", "half of the sample rate"),
    ("fewshot-detect recordings model.name=x", "must be data.KEY=VALUE"),
    ("quantize nowhere -o q", "there is no such folder"),
    ("quantize run training.epoch=1 -o q", "Did you mean 'training.epochs'?"),
    ("quantize run", "The output folder is missing"),
    ("quantize run -o run", "is the float run itself"),
    ("quantize run -o file", "file is a file"),
    # the verbs that need no framework anyway
    ("manifest nowhere", "nowhere"),
    ("manifest recordings --layout foldrs", "Did you mean 'folders'?"),
    ("manifest recordings training.epochs=1", "must be data.KEY=VALUE"),
    ("models --input 5", "--input must be FRAMESxMELS"),
    ("models --classes 0", "--classes must be in 1"),
    ("init taken", "exists already"),
    ("quickstart -o recordings", "was not written by quickstart"),
    ("quickstart -o file", "file is a file"),
    ("embed --nothing", "No such option"),
    ("encoders --nothing", "No such option"),
    ("search --nothing", "No such option"),
    ("analise run", "No such command"),
    # groups
    ("motifs extract nowhere -o t", "nowhere does not exist"),
    ("motifs extract recordings -o t --feature cenz", "--feature must be one of"),
    ("motifs extract recordings -o t --feature shape --mp-window 1", "--mp-window must be 2"),
    ("motifs consolidate recordings -o t", "A folder written by `birdnet-fs motifs extract` was expected"),
    ("motifs extract-top-motif recordings -o t", "A folder written by `birdnet-fs motifs extract` was expected"),
    ("motifs motif-track --input recordings t.wav", "A folder written by `birdnet-fs motifs extract` was expected"),
    ("motifs pages recordings -o t", "A folder written by `birdnet-fs motifs extract` was expected"),
    ("motifs generate-triplets nowhere.parquet --samples 1e3", "nowhere.parquet"),
    ("motifs extract-triplets nowhere.parquet recordings", "nowhere.parquet"),
    ("motifs embed fit nowhere.parquet recordings", "nowhere.parquet"),
    ("motifs embed summary nowhere.parquet recordings", "nowhere.parquet"),
    ("motifs embed apply nowhere recordings -o t", "nowhere"),
    ("motifs extrakt recordings -o t", "No such command"),
    ("nocall fit-soundscape lgb.txt --birdclef-root nowhere", "nowhere"),
    ("nocall fit-soundscape-cv lgb.txt --birdclef-root nowhere", "nowhere"),
    ("classify prepare-dataset t --motif-root nowhere", "nowhere"),
    ("classify train t --motif-root nowhere", "nowhere"),
    ("submission nowhere recordings -o s.csv --competition birdclef2025", "no such file or folder"),
    ("submission run recordings -o s.csv", "Missing option '--competition'"),
    ("submission run recordings -o s.csv --competition birdclef2052", "Did you mean 'birdclef2025'?"),
    ("submission run nowhere -o s.csv --competition 2025", "DATA must be a file or folder that exists"),
    ("submission run recordings -o recordings --competition 2025", "recordings is a folder"),
    ("submission run recordings -o s.csv --competition 2025 --time_budget 90", "must be a number above 0 with s, min"),
    ("submission run recordings -o s.csv --competition 2025 --fallback hopp", "Did you mean 'hop'?"),
    ("submission run recordings -o s.csv --competition 2025 --hop 2", "--hop must be at most the model's window of 1"),
    ("submission run recordings -o s.csv --competition 2025 --threshold 2", "--threshold must be in 0..1"),
    ("submission run recordings -o s.csv --competition 2025 --workers -1", "--workers must be 0 or more"),
    ("submission run recordings -o s.csv --competition 2025 --rows all", "--rows must be one of auto, sample"),
    ("submission run recordings -o s.csv --competition 2025", "must have test.csv or sample_submission.csv"),
    ("kaggle-bundle nowhere -o b", "no such file or folder"),
    ("kaggle-bundle run", "Missing option '-o' / '--output'"),
    ("kaggle-bundle run -o file", "file is a file"),
    ("kaggle-bundle run -o b --competition 2022", "must be birdclef2025 or birdclef2024"),
    ("kaggle-bundle run -o b --runtime liter", "Did you mean 'litert'?"),
    ("kaggle-bundle run -o b --precision fp33", "--precision must be one of"),
    ("kaggle-bundle run -o b --n_segments 1", "--n_segments must be 2 or more"),
    ("kaggle-bundle run -o b --wheels nowhere", "--wheels must be a file or folder that exists"),
    ("kaggle-bundle run -o b --data recordings", "must have test.csv or sample_submission.csv"),
    ("score-submission nowhere.csv file", "SUBMISSION must be a file or folder that exists"),
    ("score-submission file nowhere.csv", "SOLUTION must be a file or folder that exists"),
    ("score-submission file file -o recordings", "recordings is a folder"),
    ("score-submission file file", "must have row_id and one column per class"),
    ("classify predict t.csv --birdclef-root nowhere --classifier-source nowhere", "nowhere"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The answer to every command of WRONG, given in a folder with recordings and small runs."""
    folder = tmp_path_factory.mktemp("checks")
    shutil.copy(ROOT / "birdnet_fs" / "cli" / "starter.py", folder / "experiments.py")
    for species in ("a", "b"):
        (folder / "recordings" / species).mkdir(parents=True)
        noise = np.random.default_rng(0).normal(0, 0.1, 8000)
        soundfile.write(folder / "recordings" / species / "1.wav", noise, 8000)
    for name in ("run", "run2", "damaged", "newer", "linked"):
        write_run(folder / name)
    weights = folder / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (folder / "newer" / "versions.json").write_text('{"birdnet_fs": "99.0"}')
    (folder / "linked" / "export").symlink_to(folder / "recordings")
    for name in ("file", "bare.tflite", "bare.onnx"):
        (folder / name).write_text("x")
    (folder / "broken.py").write_text("oops\n")
    (folder / "taken").mkdir()
    (folder / "taken" / "config.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    commands = json.dumps([command.split(" ") for command, _ in WRONG])
    done = subprocess.run(
        [sys.executable, str(HELPER)], input=commands, cwd=folder, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return {command: answer for (command, _), answer in zip(WRONG, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize(("command", "words"), WRONG)
def test_a_wrong_argument_is_answered_with_one_sentence_before_anything_heavy(
    answers: dict[str, dict], command: str, words: str
) -> None:
    answer = answers[command]
    assert answer["status"] == 2, answer["stderr"]
    assert words in answer["stderr"]
    assert len(answer["stderr"].strip().splitlines()) == 1, answer["stderr"]
    assert answer["heavy"] == []
    assert answer["cpu_s"] < CPU_S


def verbs_of(group: Any, before: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        path = (*before, name)
        yield from verbs_of(command, path) if hasattr(command, "commands") else [" ".join(path)]


def test_every_verb_is_in_the_table() -> None:
    from typer.main import get_command

    from birdnet_fs.cli.main import app

    missing = [verb for verb in verbs_of(get_command(app)) if not any(f"{c} ".startswith(f"{verb} ") for c, _ in WRONG)]
    assert not missing
