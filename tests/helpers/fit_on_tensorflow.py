"""Batches of `fit` on the tensorflow backend, for tests/training/fit/test_in_tf.py: `fit_on_tensorflow.py DATA OUT`."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from fit_recorder import CHANGES, Recorder, experiment

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics.keras_auroc import ClassWiseAUC
from birdnet_fs.training.fit.batches import ArrayBatches, KeyedBatches
from birdnet_fs.training.fit.data import fit_data
from birdnet_fs.training.fit.in_tf import tf_dataset


def main(recordings: Path, out: Path) -> None:
    seen = {}

    def keep(name: str, model: Recorder) -> None:
        for number, (x, y) in enumerate(model.seen):
            seen[f"{name}/{number}/x"], seen[f"{name}/{number}/y"] = x, y

    for workers in (0, 2):
        data = fit_data(experiment(recordings, *CHANGES, f"training.workers={workers}"))
        model = Recorder()
        model.fit(data.training, epochs=2, shuffle=False, verbose=0)
        for _ in data.training.take(1):  # a look changes nothing
            pass
        model.fit(data.training, epochs=1, shuffle=False, verbose=0)
        keep(str(workers), model)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(22, 3, 2, 1)).astype(np.float32), np.arange(22, dtype=np.float32)[:, None]
    for prefetch in (0, 2, 50):
        model = Recorder()
        model.fit(tf_dataset(ArrayBatches(x, y, batch_size=5, seed=3), first_epoch=4, prefetch=prefetch),
                  epochs=3, shuffle=False, verbose=0)  # fmt: skip
        keep(f"prefetch{prefetch}", model)
    errors = {}
    for name, call in (("keyed", lambda: KeyedBatches(ArrayBatches(x, y))),
                       ("first_epoch", lambda: tf_dataset(ArrayBatches(x, y), first_epoch=-1))):  # fmt: skip
        try:
            call()
        except UserError as error:
            errors[name] = str(error)
    model = data.build_model()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=[ClassWiseAUC(positive_from=0.5)])
    model.fit(data.training, validation_data=data.validation, epochs=1, shuffle=False, verbose=0)
    run = data.save_run(model, out / "run")
    seen["validation"] = np.concatenate([x for x, _ in data.validation])
    seen["logits"] = model.predict(seen["validation"], verbose=0)
    try:
        open_engine(run.path)
    except UserError as error:
        errors["engine"] = str(error)
    np.savez(out / "seen.npz", **seen)
    (out / "about.json").write_text(json.dumps({"errors": errors, "length": len(data.training)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
