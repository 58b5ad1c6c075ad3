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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["augmentation.gain_db=3"], r"augmentation\.gain_db has no effect .* set model\.encoder_head\.n_views"),
        (["augmentation.time_masks.n=2"], r"set model\.encoder_head\.n_views"),
        (
            ["model.encoder_head.n_views=2", "augmentation.time_masks.n=2"],
            "no effect on augmented views .* are whole clips",
        ),
        (
            ["model.encoder_head.n_views=2", "augmentation.crop=active"],
            "no effect on augmented views .* are whole clips",
        ),
        (
            ["model.encoder_head.n_views=2", "augmentation.animal_spot.p=1"],
            "no effect on augmented views .* are whole clips",
        ),
        (
            ["model.encoder_head.n_views=2", "augmentation.mixup.p=0.5", "augmentation.mixup.on=features"],
            r"mixed as waveforms, each for itself; set augmentation\.mixup\.on=waveform",
        ),
        (["model.encoder_head.n_views=2", "augmentation.mixup.per=batch"], r"set .* augmentation\.mixup\.per=segment"),
    ],
)
def test_augmentations_without_effect_on_views_are_refused(model, settings, message):
    chosen = override(schema.Experiment(model=model), settings)
    with pytest.raises(UserError, match=message):
        with_encoder(chosen, settings)


def test_views_have_the_augmentations_of_waveforms(model):
    settings = ["model.encoder_head.n_views=3", "augmentation.noise.p=0.5", "augmentation.mixup.p=0.3"]
    of_network = schema.Augmentation(crop="active", eq_db=3.0, freq_shift=2, time_masks=schema.Masks(2))
    chosen = override(schema.Experiment(model=model, augmentation=of_network), settings)
    found = with_encoder(chosen, settings)
    assert found.model.encoder_head.n_views == 3
    assert found.augmentation == schema.Augmentation(eq_db=3.0, noise=schema.Noise(0.5), mixup=schema.Mixup(0.3))
    assert with_encoder(found, settings) == found


def test_background_is_refused_where_it_has_no_effect(model):
    given = ["data.background=forest"]
    chosen = override(schema.Experiment(model=model), given)
    with pytest.raises(UserError, match=r"data\.background has no effect .* set data\.noise_label=class"):
        with_encoder(chosen, given)
    for setting in ("data.noise_label=class", "data.multi_label=true"):
        assert with_encoder(override(chosen, [setting]), given).data.background == "forest"
    of_views = ["model.encoder_head.n_views=1", "augmentation.noise.p=1"]
    assert with_encoder(override(chosen, of_views), [*given, *of_views]).data.background == "forest"
