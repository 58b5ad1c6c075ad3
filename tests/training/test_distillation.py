"""Learning from a teacher: the loss against other formulas, and what a taught network takes over."""

import csv
import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from scipy.special import expit, rel_entr, softmax

from birdnet_fs import models
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.partition import HELD_OUT, TRAIN, partition, read_partition
from birdnet_fs.data.score_table import ScoreTable, write_scores
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.runs import teachers
from birdnet_fs.runs.ensemble import save_ensemble
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.provenance import inherited
from birdnet_fs.runs.resolve import is_finished, resolved
from birdnet_fs.runs.run import Run, load_run, model_weights, read_weights, save_run
from birdnet_fs.schema import (
    Data,
    Distillation,
    Episodes,
    Experiment,
    FrontEnd,
    Loss,
    Model,
    PseudoLabels,
    Schedule,
    Training,
)
from birdnet_fs.training import distillation, trainer
from birdnet_fs.training.objective import supervised_objective

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(0, 3, (2, 6, 5))
SPEC = FrontEnd(
    segment_s=5.0,
    sample_rate_hz=16_000,
    n_mels=32,
    hop_length=1024,
    fmin_hz=300.0,
    fmax_hz=6_000.0,
    normalize="z_score",
)


def slope(loss, logits: np.ndarray) -> tuple[float, np.ndarray]:
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    value = loss(x)
    value.backward()
    return value.item(), x.grad.numpy()


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_the_divergence_is_that_of_torch_and_scipy(temperature: float) -> None:
    teacher = torch.tensor(TEACHER)
    ours = slope(lambda x: distillation.divergence(x, teacher, temperature), STUDENT)
    plain = slope(
        lambda x: (
            temperature**2
            * F.kl_div(F.log_softmax(x / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean")
        ),
        STUDENT,
    )
    assert ours[0] == pytest.approx(plain[0], rel=tolerances.LOSS_FLOAT64)
    np.testing.assert_allclose(ours[1], plain[1], atol=tolerances.LOSS_FLOAT64)
    p, q = softmax(TEACHER / temperature, 1), softmax(STUDENT / temperature, 1)
    assert ours[0] == pytest.approx(temperature**2 * rel_entr(p, q).sum(1).mean(), rel=tolerances.LOSS_FLOAT64)
    np.testing.assert_allclose(ours[1], temperature * (q - p) / len(p), atol=tolerances.LOSS_FLOAT64)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_binary_divergence_is_that_of_scipy(temperature: float) -> None:
    ours = slope(lambda x: distillation.binary_divergence(x, torch.tensor(TEACHER), temperature), STUDENT)
    p, q = expit(TEACHER / temperature), expit(STUDENT / temperature)
    expected = temperature**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()
    assert ours[0] == pytest.approx(expected, rel=tolerances.LOSS_FLOAT64)
    np.testing.assert_allclose(ours[1], temperature * (q - p) / p.size, atol=tolerances.LOSS_FLOAT64)


@pytest.mark.parametrize("kind", [distillation.divergence, distillation.binary_divergence])
def test_the_parts_of_the_loss_add_up_and_are_reported(kind) -> None:
    class Answers:
        activation = "sigmoid" if kind is distillation.binary_divergence else "softmax"
        frontends, widths = (), (4,)

        def forward(self, features, teacher_features):
            return distillation.TeacherOutput(torch.tensor(TEACHER), (torch.ones(6, 4),))

    settings = Distillation("run", alpha=0.25, temperature=2.0, features=0.5, feature_distance="mse")
    torch.manual_seed(0)
    term = distillation.DistillationLoss(Answers(), settings, width=3)
    embedding, logits = torch.randn(6, 3), torch.tensor(STUDENT)
    labels = torch.tensor(1.5, dtype=torch.float64)
    value = term.loss(labels, (logits, embedding), term.forward(None, ()))
    (one,) = term.maps
    distance = ((embedding @ one.weight.T + one.bias - 1) ** 2).mean()
    soft = kind(logits, torch.tensor(TEACHER), 2.0)
    torch.testing.assert_close(value, 0.75 * labels + 0.25 * soft + 0.5 * distance)
    expected = {"labels": 1.5, "teacher": soft.item(), "features": distance.item()}
    assert term.pop_means() == pytest.approx({f"train_loss_{name}": part for name, part in expected.items()})
    assert term.pop_means() == {} and {p.shape for p in term.parameters} == {(4, 3), (4,)}


@pytest.fixture(scope="module")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Also wrong.csv: the same clips, but the labels of other species (a, b, c are called b, c, a)."""
    folder = tmp_path_factory.mktemp("distillation") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=10, n_soundscapes=0)
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "aviary"]
    names = sorted({row["label"] for row in rows})
    with open(folder / "wrong.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            row["label"] = row["labels"] = names[(names.index(row["label"]) + 1) % 3]
            writer.writerow(row)
    return folder


def experiment(aviary: Path, *settings: str) -> Experiment:
    return override(
        Experiment(
            name="tiny",
            data=Data(root=str(aviary), table="metadata.csv", audio="audio", where="set=aviary"),
            frontend=SPEC,
            model=Model("cnn/tiny", dropout=0.0),
            training=Training(
                epochs=1, batch_size=8, learning_rate=3e-3, threads=1, schedule=Schedule(warmup_epochs=0)
            ),
        ),
        settings,
    )


@pytest.fixture(scope="module")
def teacher(aviary: Path) -> Run:
    return trainer.train(experiment(aviary, "training.epochs=12"), aviary.parent / "teacher")


def scores(run: Run, part: str = HELD_OUT) -> np.ndarray:
    return score_clips(open_engine(run.path), read_partition(run.path / "partition.csv", part)).probabilities


def test_a_student_learns_from_the_teacher_alone(aviary: Path, teacher: Run, tmp_path: Path) -> None:
    """All its labels are wrong and count nothing (alpha=1): its accuracy on held-out clips comes from the teacher.

    Its front-end is another one: three quarters of the rate, other frames and bands.
    """
    other = ["frontend.sample_rate_hz=12000", "frontend.hop_length=600", "frontend.n_mels=40"]
    wrong = ["data.table=wrong.csv", "training.epochs=12", *other]
    taught = [f"distillation.teacher={teacher.path}", "distillation.alpha=1"]
    student = trainer.train(experiment(aviary, *wrong, *taught), tmp_path / "student")
    untaught = trainer.train(experiment(aviary, *wrong), tmp_path / "untaught")
    theirs = scores(teacher, TRAIN)
    distances = [np.abs(scores(run, TRAIN) - theirs).mean() for run in (student, untaught)]
    assert distances[0] < 0.5 * distances[1]
    right = [clip.labels[0] for clip in read_partition(teacher.path / "partition.csv", TRAIN)]
    named = [student.classes[c] for c in scores(student, TRAIN).argmax(1)]
    assert np.mean([a == b for a, b in zip(named, right, strict=True)]) > 0.8


def test_a_table_of_probabilities_teaches_as_the_run_does(aviary: Path, teacher: Run, tmp_path: Path) -> None:
    """Segments are whole clips and nothing is augmented, so both say the same; embeddings change what is learned."""
    found = score_clips(open_engine(teacher.path), read_partition(teacher.path / "partition.csv", TRAIN))
    table = ScoreTable.from_clips(found.clips, found.probabilities, np.zeros_like(found.probabilities), teacher.classes)
    write_scores(tmp_path / "soft.csv", table)

    def taught(name: str, *settings: str) -> tuple[Run, list[dict[str, float]]]:
        run = trainer.train(experiment(aviary, "training.epochs=2", *settings), tmp_path / name)
        return run, read_history(run.path / "history.csv")

    saved, rows = taught("saved", f"distillation.teacher={tmp_path / 'soft.csv'}")
    live, live_rows = taught("live", f"distillation.teacher={teacher.path}")
    close, close_rows = taught("close", f"distillation.teacher={teacher.path}", "distillation.features=1")
    names = ["train_loss_labels", "train_loss_teacher"]
    for row, other in zip(rows, live_rows, strict=True):
        assert [row[name] for name in names] == pytest.approx([other[name] for name in names], rel=tolerances.TAUGHT)
        assert row["train_loss"] == pytest.approx(sum(row[name] for name in names) / 2, rel=tolerances.TAUGHT)
    weights = [read_weights(run.path / "weights.safetensors") for run in (saved, live, close)]
    assert max(np.abs(weights[0][path] - value).max() for path, value in weights[1].items()) < tolerances.TAUGHT
    assert max(np.abs(weights[0][path] - value).max() for path, value in weights[2].items()) > tolerances.TAUGHT
    assert close_rows[1]["train_loss_features"] < close_rows[0]["train_loss_features"] < 1
    assert weights[2].keys() == model_weights(close.build_model()).keys()  # the map to the teacher's embedding is gone
    assert load_run(saved.path).experiment.distillation.teacher == str(tmp_path / "soft.csv")
    with pytest.raises(UserError, match=r"must hold every training clip; 6 of 24 are not in it .*evaluate"):
        taught("fold1", f"distillation.teacher={tmp_path / 'soft.csv'}", "data.fold=1")


def test_embeddings_are_taught_beside_frame_logits() -> None:
    """The labels' loss is given what it is given without a teacher."""
    settings = Training(loss=Loss(frame_loss=0.5))
    model = models.build("cnn/tiny", input_shape=(32, 32, 1), n_classes=3, head="sed", dropout=0.0)
    plain = supervised_objective(model, settings, multi_label=False)

    class Answers:
        activation, frontends, widths, forward = "softmax", (), (4,), None

    taught = distillation.with_distillation(plain, model, Answers(), Distillation("run", features=1.0))
    x, targets = torch.randn(2, 32, 32, 1), torch.eye(3)[:2]
    outputs = lower(taught.network)(x)
    assert [tuple(o.shape[:1]) + tuple(o.shape[2:]) for o in outputs] == [(2,), (2, 3), (2,)]
    torch.testing.assert_close(taught.loss(outputs, targets, 0.1), plain.loss(lower(plain.network)(x), targets, 0.1))
    assert taught.distillation.maps[0].weight.shape == (4, outputs[-1].shape[1])


def test_classes_in_another_order_are_put_in_place(teacher: Run, tmp_path: Path) -> None:
    turned, weights = [2, 0, 1], model_weights(teacher.build_model())
    for path in ("logits/kernel", "logits/bias"):
        weights[path] = weights[path][..., turned]
    settings = dataclasses.replace(teacher.experiment, distillation=Distillation("x", features=1.0))
    other = save_run(tmp_path / "other", teacher.experiment, [teacher.classes[i] for i in turned], weights)
    features = torch.randn(4, *SPEC.shape, 1)
    outputs = [
        distillation.Teacher([run], settings, teacher.classes, "cpu").forward(features, ()) for run in (teacher, other)
    ]
    torch.testing.assert_close(outputs[0], outputs[1])
    model = models.with_outputs(teacher.build_model(), ["logits", "embedding"])
    plain = [keras.ops.convert_to_numpy(x) for x in model(features.numpy())]
    np.testing.assert_allclose(outputs[0].logits, plain[0], atol=tolerances.ENGINE_LOGITS)
    atol = tolerances.ENGINE_EMBEDDINGS * np.abs(plain[1]).max()
    np.testing.assert_allclose(outputs[0].embeddings[0], plain[1], rtol=0, atol=atol)
    both = distillation.Teacher([teacher, other], settings, teacher.classes, "cpu").forward(features, ())
    torch.testing.assert_close(both.logits.softmax(1), outputs[0].logits.softmax(1))
    assert len(both.embeddings) == 2 and not both.logits.requires_grad
    save_ensemble(tmp_path / "both", [teacher, other])
    chosen = dataclasses.replace(settings, distillation=Distillation(str(tmp_path / "both")))
    assert [run.classes for run in teachers.load_teachers(chosen)] == [teacher.classes, other.classes]


def test_windows_of_another_front_end_are_heard_as_in_scoring(aviary: Path, teacher: Run) -> None:
    """A student of 9 s gives the teacher of 5 s three windows: the mean of their probabilities is the clip's score.

    They are 2.5 s apart; the third ends 1 s behind the segment and is padded with zeros.
    """
    wide = experiment(aviary, "frontend.segment_s=9", f"distillation.teacher={teacher.path}")
    asked = distillation.Teacher([teacher], wide, teacher.classes, "cpu")
    waveform = RNG.normal(0, 0.1, 9 * 16_000).astype(np.float32)
    features_of_teacher = network_input(OtherFrontEnd(wide.frontend, asked.frontends[0]).features(waveform), SPEC)
    found = asked.forward(torch.zeros(1, 1), [torch.from_numpy(features_of_teacher)[None]]).logits.softmax(1)
    longer = np.pad(waveform, (0, 16_000))
    onsets = (0, 40_000, 80_000)
    features = np.stack([log_mel(longer[o : o + 80_000], SPEC)[0] for o in onsets])
    logits = keras.ops.convert_to_numpy(teacher.build_model()(network_input(features, SPEC)))
    np.testing.assert_allclose(found[0], softmax(logits, 1).mean(0), atol=tolerances.ENGINE_LOGITS)


def test_the_experiment_is_its_own_teacher(aviary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = experiment(aviary, "distillation.teacher=self", "distillation.rounds=2")
    run = trainer.train(own, tmp_path / "run")
    first, second = (load_run(tmp_path / "run" / "generations" / str(i)) for i in range(2))
    assert first.experiment.distillation == Distillation()
    assert second.experiment.distillation.teacher == str(first.path)
    assert load_run(run.path).experiment.distillation == own.distillation and is_finished(run.path, own)
    assert "train_loss_teacher" not in read_history(first.path / "history.csv")[0]
    assert read_history(run.path / "history.csv")[0]["train_loss_teacher"] > 0
    starts = []
    monkeypatch.setattr(trainer, "run_epochs", lambda model, *a, **more: starts.append(model_weights(model)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train(own, run.path)  # its generations are there and stay
    plain = dataclasses.replace(own, distillation=Distillation())
    with pytest.raises(ZeroDivisionError):
        trainer.train(plain, tmp_path / "plain")
    assert len(starts) == 2 and (starts[0]["logits/kernel"] != starts[1]["logits/kernel"]).any()


def test_a_fold_is_taught_by_its_own(aviary: Path, teacher: Run, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "fold0").symlink_to(teacher.path)
    monkeypatch.chdir(tmp_path)
    chosen = resolved(experiment(aviary, "distillation.teacher=cv"))
    assert chosen.distillation.teacher == str(tmp_path / "cv")
    assert [run.path for run in teachers.load_teachers(chosen)] == [tmp_path / "cv" / "fold0"]
    several = resolved(experiment(aviary, f"distillation.teacher=cv/fold0,{teacher.path}"))
    assert [run.path for run in teachers.load_teachers(several)] == [tmp_path / "cv" / "fold0", teacher.path]
    with pytest.raises(UserError, match=r"a folder with fold3 \(data\.fold\).* Received: .*cv$"):
        trainer.train(experiment(aviary, "distillation.teacher=cv", "data.fold=3"), tmp_path / "x")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.fold=1"], r"teacher was trained on 6 clips that are held out here \(the first: .*\); choose another"),
        (["data.multi_label=true"], r"one class per clip \(softmax\) and that of the student any number of classes"),
        (["frontend.n_mels=33", "augmentation.animal_spot.p=1"], r"set augmentation\.animal_spot\.p=0 or give the"),
    ],
)
def test_who_may_not_teach(aviary: Path, teacher: Run, tmp_path: Path, settings: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        trainer.train(experiment(aviary, f"distillation.teacher={teacher.path}", *settings), tmp_path / "run")
    assert "\n" not in str(caught.value).split(": Received")[0]


def test_a_table_that_does_not_exist_is_refused(aviary: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"was expected at .*none\.csv, which does not exist"):
        trainer.train(experiment(aviary, f"distillation.teacher={tmp_path / 'none.csv'}"), tmp_path / "run")


def test_a_teacher_of_other_classes_or_behind_whom_a_leak_is(aviary: Path, teacher: Run, tmp_path: Path) -> None:
    names = sorted(teacher.classes)
    two = [f"data.where=set=aviary,label={names[0]}|{names[1]}", f"distillation.teacher={teacher.path}"]
    with pytest.raises(UserError, match=f"must have the 2 classes .* {names[2]!r} is not trained here"):
        trainer.train(experiment(aviary, *two), tmp_path / "run")
    # fold 1 started from fold 0, which was trained on fold 1; it says itself that it holds fold 1 out
    weights = model_weights(teacher.build_model())
    started = experiment(aviary, "data.fold=1", f"model.weights={teacher.path}")
    parts = partition(started)
    parts = dataclasses.replace(parts, inherited=inherited([teacher.path], parts.train))
    save_run(
        tmp_path / "late", started, teacher.classes, weights,
        write_extra=lambda folder: trainer.write_partition(folder / "partition.csv", parts),
    )  # fmt: skip
    taught = experiment(aviary, "data.fold=1", f"distillation.teacher={tmp_path / 'late'}")
    with pytest.raises(UserError, match="late, through one of its base runs, was trained on 6 clips that are held out"):
        trainer.train(taught, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["distillation.alpha=1.1"], r"distillation\.alpha must be in \[0, 1\]"),
        (["distillation.temperature=0"], r"distillation\.temperature must be above 0"),
        (["distillation.rounds=2"], r"distillation\.rounds needs distillation\.teacher=self"),
        (["distillation.teacher=a.csv", "distillation.features=1"], "a table holds probabilities and no embeddings"),
        (
            ["distillation.teacher=run", "model.head=cosine", "training.loss=arcface"],
            r"margin of training\.loss=arcface moves the logits away .*set training\.loss=ce",
        ),
        (
            [
                "distillation.teacher=run",
                "distillation.features=1",
                "model.weights=x",
                "training.finetuning.freeze_blocks=-1",
            ],
            r"training\.finetuning\.freeze_blocks=-1 freezes",
        ),
    ],
)
def test_settings_that_cannot_be(settings: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        override(Experiment(), settings)


def test_episodes_have_no_teacher() -> None:
    episodes = {"data": Data(split="classes"), "model": Model(head="prototypes"), "episodes": Episodes()}
    with pytest.raises(UserError, match="Episodes use no teacher"):
        Experiment(distillation=Distillation("run"), **episodes)
    with pytest.raises(UserError, match="Episodes need labeled clips"):
        Experiment(pseudo_labels=PseudoLabels("pseudo.csv"), **episodes)
