"""`birdnet-fs classify`: a classifier of motif clips, and submissions to a competition."""

from birdnet_fs.cli.classify.predict import predict
from birdnet_fs.cli.classify.prepare_dataset import prepare_dataset
from birdnet_fs.cli.classify.train import train
from birdnet_fs.cli.commands import group

classify = group(
    "classify",
    "Train tree models on embeddings of motif clips, and write submissions to a competition.",
    (prepare_dataset, train, predict),
)
