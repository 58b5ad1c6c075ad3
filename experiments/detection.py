"""Detection of any call."""

from birdnet_fs.schema import Data, Experiment, Model, Optimizer, Training
from experiments.songs import EVERYTHING, SONGS


def call_or_noise(*, quick: bool = False) -> Experiment:
    """Binary detector of calls against noise.

    Launch: birdnet-fs train config.py:call_or_noise data.root=FOLDER

    FOLDER holds labeled clips (folders, a table, or ANIMAL-SPOT names); every label but noise, nocall, ... is a call.
    """
    return Experiment(
        name="call_or_noise",
        data=Data(root="clips", multi_label=True, binary_label="call", split="70/15/15"),
        frontend=SONGS,
        model=Model("cnn/small", dropout=0.3),
        augmentation=EVERYTHING,
        training=Training(
            epochs=2 if quick else 30, batch_size=32, learning_rate=2e-3, optimizer=Optimizer(weight_decay=0.01)
        ),
        debug=quick,
    )
