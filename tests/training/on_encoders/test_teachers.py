"""Teachers on encoders: embeddings of clips against their definition, a student that learns them, and refusals."""

import dataclasses

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
import soundfile
import tolerances
from installed import need

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import TRAIN, read_partition
from birdnet_fs.runs.history import read_history
from birdnet_fs.training.on_encoders.teachers import ClipEmbeddings
from birdnet_fs.training.trainer import train

need("onnxruntime")

SPEC = schema.FrontEnd(sample_rate_hz=16_000, segment_s=0.5, n_mels=32, fmax_hz=8000)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return encoder_runs.write_recordings(tmp_path_factory.mktemp("teachers") / "recordings")


@pytest.fixture(scope="module")
def teacher(root):
    return train(encoder_runs.experiment(*encoder_runs.write_encoder(root.parent), root), root.parent / "teacher")


def student(root, *, epochs=1, **distillation):
    return schema.Experiment(
        data=schema.Data(root=str(root), n_folds=2),
        frontend=SPEC,
        model=schema.Model("cnn/tiny"),
        training=schema.Training(epochs=epochs, batch_size=3, learning_rate=3e-3, threads=1),
        distillation=schema.Distillation(**distillation),
    )


def mean_of_windows(path):
    """Mean embedding of the windows of 0.2 s that begin every 0.1 s of a recording of 0.7 s."""
    waveform, _ = soundfile.read(path, dtype="float32")
    n = encoder_runs.N_SAMPLES
    windows = np.stack([waveform[i : i + n] for i in range(0, len(waveform) - n + 1, n // 2)])
    return foreign_encoders.embedding(windows, encoder_runs.WIDTH).astype(np.float64).mean(0)


def test_embeddings_of_clips_are_means_of_windows_centered_and_scaled(root, teacher):
    clips = read_partition(teacher.path / "partition.csv", TRAIN)
    made = ClipEmbeddings([teacher, teacher])
    found = made.of(clips)
    expected = np.stack([mean_of_windows(clip.path) for clip in clips])
    expected -= expected.mean(0)
    expected /= np.sqrt((expected**2).mean())
    assert made.widths == (encoder_runs.WIDTH,) * 2 and found.dtype == np.float32
    np.testing.assert_allclose(found, np.hstack([expected, expected]), atol=tolerances.CENTERED_EMBEDDINGS)


def test_the_embedding_of_a_single_clip_is_finite(root, teacher):
    assert (ClipEmbeddings([teacher]).of([Clip(root / "owl" / "owl0.wav")]) == 0).all()


def test_a_student_learns_the_embeddings_of_an_encoder(root, teacher, tmp_path):
    """The cosine distance to the embeddings falls far below 1, that of embeddings without a relation."""
    settings = student(root, epochs=30, teacher=str(teacher.path), alpha=1.0, features=10.0)
    history = read_history(train(settings, tmp_path / "student").path / "history.csv")
    assert history[0]["train_loss_features"] > 0.8 > 0.6 > history[-1]["train_loss_features"]


def test_teachers_with_and_without_encoder_are_refused_together(root, teacher, tmp_path):
    other = train(student(root), tmp_path / "other")
    both = student(root, teacher=f"{teacher.path},{other.path}", features=1.0)
    with pytest.raises(UserError, match=r"of one kind, or set it to 0\. Received: .*other, which is not on an encoder"):
        train(both, tmp_path / "no")
    without = dataclasses.replace(both, distillation=dataclasses.replace(both.distillation, features=0.0))
    assert "train_loss_features" not in read_history(train(without, tmp_path / "yes").path / "history.csv")[-1]
