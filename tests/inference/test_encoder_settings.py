"""Experiments with an encoder: the window of the encoder, and no setting of a network left that has no effect."""

import dataclasses

import encoder_runs
import pytest
from installed import need

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.frontend import preset
from birdnet_fs.inference.encoder_settings import with_encoder

need("onnxruntime")
GROUPS = {"frontend": preset}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> schema.Model:
    file, card = encoder_runs.write_encoder(tmp_path_factory.mktemp("encoder"))
    return schema.Model(encoder=str(file), encoder_card=str(card))


def test_experiments_without_an_encoder_stay(model):
    plain = schema.Experiment(training=schema.Training(epochs=3))
    assert with_encoder(plain) is plain


def test_the_window_is_that_of_the_encoder_and_settings_of_a_network_are_reset(model):
    given = schema.Experiment(
        data=schema.Data(val_fraction=0.3, multi_label=True),
        model=dataclasses.replace(model, name="vit", head="mlp", dropout=0.4),
        augmentation=schema.Augmentation(mixup=schema.Mixup(0.5), gain_db=3.0),
        training=schema.Training(
            epochs=7,
            loss=schema.Loss("focal", class_weights="inverse"),
            threads=2,
            checkpoints=schema.Checkpoints("best"),
        ),
        pretrain=schema.Experiment(),
    )
    found = with_encoder(given)
    assert (found.frontend.sample_rate_hz, found.frontend.segment_s, found.frontend.fmax_hz) == (16_000, 0.2, 8000)
    assert found.model == dataclasses.replace(model, head="mlp", dropout=0.4)
    assert found.training == schema.Training(loss=schema.Loss(class_weights="inverse"), threads=2)
    assert found.augmentation == schema.Augmentation() and found.pretrain is None
    assert found.data == given.data
    assert with_encoder(found) == found


@pytest.mark.parametrize(
    "setting",
    [
        "frontend.segment_s=5",
        "frontend=panns",
        "frontend.n_mels=128",
        "model.name=vit",
        "model.distance=learned",
        "training.epochs=7",
        "training.loss=focal",
        "augmentation.gain_db=3",
        "distillation.teacher=x",
        "pretrain.data.root=x",
    ],
)
def test_settings_of_the_command_without_effect_are_refused(model, setting):
    given = schema.Experiment(model=model, pretrain=schema.Experiment())
    with pytest.raises(UserError, match=r"has no effect with model\.encoder: small reads waveforms of 0\.2 s at 16000"):
        with_encoder(override(given, [setting], GROUPS), [setting])


def test_settings_of_a_head_are_taken(model):
    given = [
        "model.head=mlp",
        "model.dropout=0.5",
        "model.encoder_head.hidden=8",
        "training.loss.class_weights=sqrt_inverse",
        "training.loss.label_smoothing=0.1",
        "training.threads=2",
        "data.multi_label=true",
        "seed=3",
    ]
    chosen = override(schema.Experiment(model=model), given)
    found = with_encoder(chosen, given)
    assert (found.model, found.data, found.seed) == (chosen.model, chosen.data, 3)
    assert found.training == chosen.training


def test_a_missing_encoder_is_refused():
    with pytest.raises(UserError, match="there is no such file"):
        with_encoder(schema.Experiment(model=schema.Model(encoder="nothing.tflite")))
