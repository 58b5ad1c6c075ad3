"""Trainings that several processes cannot do together are refused before anything is decoded."""

import dataclasses

import keras
import pytest

from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.schema import Data, Episodes, Experiment, Model, Training
from birdnet_fs.training.distributed.checks import check_experiment, check_network, own_gpu


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the third of three."""
    monkeypatch.setattr(group._group, "size", 3)
    monkeypatch.setattr(group._group, "rank", 2)
    monkeypatch.setattr(group._group, "local_rank", 2)


EXPERIMENT = Experiment(name="one", training=Training(batch_size=3))
HEAD = dataclasses.replace(EXPERIMENT, model=Model(encoder="birdnet.tflite"))
AGAIN = dataclasses.replace(EXPERIMENT, training=Training(batch_size=3, gradient_checkpointing=True))
SMALL = dataclasses.replace(EXPERIMENT, training=Training(batch_size=2))
EPISODES = dataclasses.replace(
    SMALL, data=Data(split="classes"), model=Model(head="prototypes"), episodes=Episodes(n_way=2, n_shot=1, n_query=1)
)


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        (HEAD, "start it without torchrun"),
        (AGAIN, "gradient_checkpointing=false"),
        (SMALL, "3 segments or more. Received: training.batch"),
    ],
)
def test_experiment_of_one_process_is_refused(experiment: Experiment, words: str, three: None) -> None:
    with pytest.raises(UserError, match=words):
        check_experiment(experiment)


def test_experiments_that_can_be_divided_are_not_refused(three: None) -> None:
    check_experiment(EXPERIMENT)
    check_experiment(EPISODES)  # its batch is an episode of four clips


def test_single_process_trains_everything() -> None:
    for experiment in (EXPERIMENT, HEAD, AGAIN, SMALL):
        check_experiment(experiment)
    own_gpu()


def test_networks_that_depend_on_the_rows_of_a_process_are_refused(three: None) -> None:
    inputs = keras.Input((4, 4, 1))
    usual = keras.Model(inputs, keras.layers.BatchNormalization(name="usual")(inputs))
    check_network(lower(usual), quantized=False)
    with pytest.raises(UserError, match="8-bit training measures"):
        check_network(lower(usual), quantized=True)
    other = keras.Model(inputs, keras.layers.BatchNormalization(renorm=True, name="renorm")(inputs))
    with pytest.raises(UserError, match="'renorm' would use the statistics of the rows of each process alone"):
        check_network(lower(other), quantized=False)


def test_process_without_a_gpu_of_its_own_is_refused(three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="needs a GPU of its own, the number 2 of its machine, which has 2"):
        own_gpu()
