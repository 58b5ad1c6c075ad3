"""Effect of SMOTE and of class weights on a rare species, by heads on the embeddings of an encoder; a Markdown table.

    python benchmarks/smote.py FILE [--rare 2] [--data ../shared/data]

FILE is an encoder, as BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite. birds10: each species in turn has only --rare clips in
training, in each of the five folds of the table (50 trainings a row). Means over the trainings, with the standard error
of the difference to the first row. BirdNET was probably trained on these recordings.
"""

import argparse
from pathlib import Path

import numpy as np

from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.inference.encode_clips import encode_clips
from birdnet_fs.inference.encoder_features import features_of_settings
from birdnet_fs.inference.encoder_settings import with_encoder
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.models.heads.on_embedding import build_encoder_head
from birdnet_fs.runs.resolve import resolved
from birdnet_fs.training.encoder_heads import HeadData, fit_head
from birdnet_fs.training.on_encoders.training import head_data

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "nothing": (),
    "SMOTE": ("model.encoder_head.smote=true",),
    "class weights, inverse": ("training.loss.class_weights=inverse",),
}
COLUMNS = ("recall of the rare species", "its AUROC", "precision of its name", "accuracy of the others")


def scores(data: HeadData, held: HeadData, experiment, classes) -> np.ndarray:
    """Mean logits of the held-out clips [n_clips, n_classes]."""
    fitted = fit_head(data, experiment, classes)
    model = build_encoder_head(fitted.model, data.input_shape, len(classes))
    for variable in model.weights:
        if variable.path in fitted.weights:
            variable.assign(fitted.weights[variable.path])
    return held.means(model.predict(held.inputs, verbose=0, batch_size=4096))


def row(data: HeadData, held: HeadData, rare: int, experiment, classes) -> list[float]:
    found = scores(data, held, experiment, classes)
    truth, named = held.targets.argmax(1), found.argmax(1)
    right = named == truth
    precision = right[named == rare].mean() if (named == rare).any() else np.nan
    auroc = macro_auroc(held.targets, found).per_class[rare]
    return [right[truth == rare].mean(), auroc, precision, right[truth != rare].mean()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--rare", type=int, default=2)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    chosen = parser.parse_args()
    settings = [f"data.root={chosen.data}", f"model.encoder={chosen.encoder}", "model.head=linear"]
    experiments = {
        name: resolved(with_encoder(load_experiment(str(ROOT / "config.py") + ":birds10_birdnet", [*settings, *way])))
        for name, way in WAYS.items()
    }
    plain = experiments["nothing"]
    manifest = read_manifest(plain.data)
    classes = tuple(manifest.classes)
    encoded = encode_clips(features_of_settings(plain.model, classes), manifest.clips, "embedding")
    data = head_data(encoded, clip_targets(encoded.clips, classes, multi_label=False))
    fold, label = np.array([clip.fold for clip in encoded.clips]), data.targets.argmax(1)
    rows: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for number in np.unique(fold):
        for rare in range(len(classes)):
            own = np.flatnonzero((fold != number) & (label == rare))[chosen.rare :]
            kept = np.setdiff1d(np.flatnonzero(fold != number), own)
            for name, experiment in experiments.items():
                part, held = data.part(kept), data.part(np.flatnonzero(fold == number))
                rows[name].append(row(part, held, rare, experiment, classes))
    print(f"| {chosen.rare} clips in training | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    first = np.array(rows["nothing"])
    for name, found in rows.items():
        values = np.array(found)
        differences = values - first
        n = np.isfinite(differences).sum(0)
        errors = np.nanstd(differences, axis=0, ddof=1) / np.sqrt(n)
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(np.nanmean(values, axis=0), errors, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
