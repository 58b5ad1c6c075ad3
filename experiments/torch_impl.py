"""Networks of Project Echo's `torch_impl`, named as its config/model/*.yaml, with 8-bit training and distillation.

Source: https://github.com/DataBytes-Organisation/Project-Echo, folder torch_impl. All have one recipe: AdamW at 1e-3
with weight decay .1, cosine to 1e-6 over 100 epochs, batches of 64, gradients clipped at 1, early stopping after 5
epochs, 80 % of the recordings for training. What differs here: early stopping reads a tenth of the training recordings,
not the held-out ones that are reported, by macro AUROC instead of the loss; added noise is given by its SNR, not by its
amplitude (.001 to .015 of full scale there). PANNs have their own features (preset `panns`), which their published
weights need; the document's, of 260 mels, are frontend=torch_impl.

Weights of ImageNet and AudioSet: model.weights=FILE (docs/weights.md).
"""

from dataclasses import replace

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    Augmentation,
    Checkpoints,
    Data,
    Distillation,
    Experiment,
    Loss,
    Masks,
    Model,
    Noise,
    Optimizer,
    Pitch,
    Schedule,
    Shift,
    Stretch,
    Training,
)

P = 0.2  # probability of each change of the waveform
CNN14, EFFICIENTNET_V2 = "runs/panns_cnn14", "runs/efficientnet_v2"  # teachers: runs of the experiments of these names


def efficientnet_v2(*, quick: bool = False) -> Experiment:
    """EfficientNetV2-S with a linear head.

    Launch: birdnet-fs train config.py:efficientnet_v2 data.root=FOLDER
    """
    return _recipe("efficientnet_v2", Model("efficientnet_v2/s_torch", dropout=0.2), "torch_impl", quick)


def efficientnet_v2_arcface(*, quick: bool = False) -> Experiment:
    """EfficientNetV2-S with cosines as logits and ArcFace (scale 30, margin .5).

    Launch: birdnet-fs train config.py:efficientnet_v2_arcface data.root=FOLDER
    """
    linear = efficientnet_v2(quick=quick)
    return replace(
        linear,
        name="efficientnet_v2_arcface",
        model=replace(linear.model, head="cosine", logit_scale=30.0),
        training=replace(linear.training, loss=Loss("arcface", margin=0.5)),
    )


def ghost_efficientnet_v2(*, quick: bool = False) -> Experiment:
    """Ghost EfficientNetV2 of width .75.

    Launch: birdnet-fs train config.py:ghost_efficientnet_v2 data.root=FOLDER
    """
    return _recipe("ghost_efficientnet_v2", Model("ghost_efficientnet_v2/0.75", dropout=0.1), "torch_impl", quick)


def panns_cnn14(*, quick: bool = False) -> Experiment:
    """CNN14 of PANNs.

    Launch: birdnet-fs train config.py:panns_cnn14 data.root=FOLDER
    """
    return _recipe("panns_cnn14", Model("panns/cnn14", dropout=0.0), "panns", quick)


def panns_mobilenetv1(*, quick: bool = False) -> Experiment:
    """MobileNetV1 of PANNs.

    Launch: birdnet-fs train config.py:panns_mobilenetv1 data.root=FOLDER
    """
    return _recipe("panns_mobilenetv1", Model("panns/mobilenet_v1", dropout=0.0), "panns", quick)


def panns_mobilenetv2(*, quick: bool = False) -> Experiment:
    """MobileNetV2 of PANNs.

    Launch: birdnet-fs train config.py:panns_mobilenetv2 data.root=FOLDER
    """
    return _recipe("panns_mobilenetv2", Model("panns/mobilenet_v2", dropout=0.0), "panns", quick)


def efficientnet_v2_qat(*, quick: bool = False) -> Experiment:
    """EfficientNetV2-S, trained in float and then with 8-bit rounding.

    Launch: birdnet-fs train config.py:efficientnet_v2_qat data.root=FOLDER
    """
    return _in_8_bits(efficientnet_v2(quick=quick))


def ghost_efficientnet_v2_qat(*, quick: bool = False) -> Experiment:
    """Ghost EfficientNetV2, trained in float and then with 8-bit rounding.

    Launch: birdnet-fs train config.py:ghost_efficientnet_v2_qat data.root=FOLDER
    """
    return _in_8_bits(ghost_efficientnet_v2(quick=quick))


def panns_cnn14_qat(*, quick: bool = False) -> Experiment:
    """CNN14, trained in float and then with 8-bit rounding.

    Launch: birdnet-fs train config.py:panns_cnn14_qat data.root=FOLDER
    """
    return _in_8_bits(panns_cnn14(quick=quick))


def panns_mobilenetv1_qat(*, quick: bool = False) -> Experiment:
    """MobileNetV1, trained in float and then with 8-bit rounding.

    Launch: birdnet-fs train config.py:panns_mobilenetv1_qat data.root=FOLDER
    """
    return _in_8_bits(panns_mobilenetv1(quick=quick))


def panns_mobilenetv2_qat(*, quick: bool = False) -> Experiment:
    """MobileNetV2, trained in float and then with 8-bit rounding.

    Launch: birdnet-fs train config.py:panns_mobilenetv2_qat data.root=FOLDER
    """
    return _in_8_bits(panns_mobilenetv2(quick=quick))


def panns_mobilenetv1_from_cnn14(*, quick: bool = False) -> Experiment:
    """MobileNetV1 with a finished run of panns_cnn14 as teacher.

    Launch: birdnet-fs train config.py:panns_mobilenetv1_from_cnn14 data.root=FOLDER distillation.teacher=RUN
    """
    return _taught(panns_mobilenetv1(quick=quick), "panns_mobilenetv1_from_cnn14", CNN14)


def panns_mobilenetv2_from_cnn14(*, quick: bool = False) -> Experiment:
    """MobileNetV2 with a finished run of panns_cnn14 as teacher.

    Launch: birdnet-fs train config.py:panns_mobilenetv2_from_cnn14 data.root=FOLDER distillation.teacher=RUN
    """
    return _taught(panns_mobilenetv2(quick=quick), "panns_mobilenetv2_from_cnn14", CNN14)


def efficientnet_v2_from_cnn14(*, quick: bool = False) -> Experiment:
    """EfficientNetV2-S with a finished run of panns_cnn14 as teacher.

    Launch: birdnet-fs train config.py:efficientnet_v2_from_cnn14 data.root=FOLDER distillation.teacher=RUN
    """
    return _taught(efficientnet_v2(quick=quick), "efficientnet_v2_from_cnn14", CNN14)


def ghost_efficientnet_v2_from_efficientnet_v2(*, quick: bool = False) -> Experiment:
    """Ghost EfficientNetV2 with a finished run of efficientnet_v2 as teacher.

    Launch: birdnet-fs train config.py:ghost_efficientnet_v2_from_efficientnet_v2 data.root=FOLDER
    distillation.teacher=RUN
    """
    return _taught(ghost_efficientnet_v2(quick=quick), "ghost_efficientnet_v2_from_efficientnet_v2", EFFICIENTNET_V2)


def _recipe(name: str, model: Model, frontend: str, quick: bool) -> Experiment:
    """The training that all networks share."""
    return Experiment(
        name=name,
        seed=0,
        data=Data(root="clips", split="80/20", val_fraction=0.1),
        frontend=preset(frontend),
        model=model,
        augmentation=Augmentation(
            noise=Noise(P, snr_db=(10.0, 40.0)),
            stretch=Stretch(P, rate=(0.8, 1.25)),
            pitch=Pitch(P, semitones=4.0),
            shift=Shift(P, longest=0.5),
            features_p=0.5,
            time_masks=Masks(2, lengths=(0, 80), fill="zero"),
            freq_masks=Masks(2, lengths=(0, 30), fill="zero"),
        ),
        training=Training(
            epochs=2 if quick else 100,
            batch_size=64,
            learning_rate=1e-3,
            optimizer=Optimizer("adamw", weight_decay=0.1, clip_norm=1.0),
            schedule=Schedule("cosine", min_learning_rate=1e-6, warmup_epochs=0),
            checkpoints=Checkpoints(select="best", patience=5),
        ),
        debug=quick,
    )


def _in_8_bits(float_network: Experiment) -> Experiment:
    """Train the float network first, then 5 epochs on the labels with 8-bit rounding (fbgemm's mapping).

    `birdnet-fs quantize RUN` trains on the outputs of the float run instead, which keeps its classes apart as they are.
    """
    return replace(
        float_network,
        name=f"{float_network.name}_qat",
        model=replace(float_network.model, quantized=True),
        training=replace(
            float_network.training,
            epochs=min(5, float_network.training.epochs),
            learning_rate=5e-5,
            schedule=Schedule(warmup_epochs=0),
            checkpoints=Checkpoints(select="best"),
            precision="float32",
        ),
        pretrain=float_network,
    )


def _taught(student: Experiment, name: str, teacher: str) -> Experiment:
    """Half of the loss from the labels, half from the teacher at temperature 3."""
    return replace(student, name=name, distillation=Distillation(teacher=teacher, alpha=0.5, temperature=3.0))
