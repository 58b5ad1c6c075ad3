"""Data for `fit` that several tests read."""

from pathlib import Path

import pytest
from fit_recorder import CHANGES, experiment

from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.training.fit.data import FitData, fit_data


@pytest.fixture(scope="package")
def prepared(recordings: Path) -> FitData:
    return fit_data(experiment(recordings, *CHANGES))


@pytest.fixture
def training_batches(prepared: FitData) -> TrainingBatches:
    return prepared.batches
