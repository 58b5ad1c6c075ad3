"""One optimizer step of Tile2Vec: a step whose loss or gradient is not finite changes nothing."""

import keras
import torch

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.motifs.tile2vec.batches import FeatureBatch
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.triplet_loss import all_triplets_loss, triplet_loss
from birdnet_fs.training.finetuning import parameter_groups

MEL = "mel/"  # path of the trainable mel matrix
MOST_SKIPPED_IN_HALF = 3  # consecutive ones, after which half precision is given up
MOST_SKIPPED = 50  # consecutive ones, after which training stops


class Stepper:
    """The network, its optimizer and its loss.

    Args:
        model: The network, trained in place.
        settings: Settings of the training.

    Attributes:
        optimizer: AdamW, with one group of parameters per learning rate and weight decay.
        n_consecutive: Number of skipped steps since the last update.
        dtype: Precision of the arithmetic; weights, mel matrix and loss are float32.
    """

    def __init__(self, model: keras.Model, settings: Tile2VecSettings) -> None:
        self.model, self.settings = model, settings
        self._forward = lower(models.with_outputs(model, ["embedding"]))
        embedding_only = [v for v in model.trainable_variables if not v.path.startswith("logits/")]
        self._parameters = [v.value for v in embedding_only]
        self._device = self._parameters[0].device
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=settings.learning_rate, betas=(settings.beta1, settings.beta2)
        )
        self._statistics = [v.value.detach() for v in model.non_trainable_variables if "seed_generator" not in v.path]
        self.n_consecutive = 0
        half = settings.precision == "bfloat16" or (settings.precision == "auto" and _has_bfloat16(self._device))
        self.dtype = torch.bfloat16 if half else torch.float32

    def _groups(self) -> list[dict]:
        """Groups of the weights in front of the embedding; the mel matrix has a learning rate of its own."""
        mel = {id(v.value) for v in self.model.trainable_variables if v.path.startswith(MEL)}
        known = {id(p) for p in self._parameters}
        found = []
        for group in parameter_groups(self.model, weight_decay=self.settings.weight_decay, layer_decay=1.0):
            own = [p for p in group["params"] if id(p) in known]
            for params, factor in (
                ([p for p in own if id(p) not in mel], 1.0),
                ([p for p in own if id(p) in mel], self.settings.mel_rate),
            ):
                if params:
                    found.append({"params": params, "weight_decay": group["weight_decay"], "factor": factor})
        return found

    def loss(self, batch: FeatureBatch, *, training: bool) -> torch.Tensor:
        """The loss [] of a batch in float32; without `training` by the moving statistics of BatchNorm."""
        features = torch.cat([torch.from_numpy(part) for part in batch[:3]]).to(self._device)
        with torch.autocast(self._device.type, self.dtype, enabled=self.dtype != torch.float32):
            embeddings = self._forward(features, training=training)
        given = {"margin": self.settings.margin, "l2": self.settings.l2}
        if self.settings.distant == "batch":
            anchor, neighbor = embeddings.float().chunk(2)
            return all_triplets_loss(anchor, neighbor, torch.from_numpy(batch.recordings).to(self._device), **given)
        anchor, neighbor, distant = embeddings.float().chunk(3)
        return triplet_loss(anchor, neighbor, distant, **given)

    def step(self, batch: FeatureBatch, rate: float) -> float | None:
        """Train on a batch.

        Args:
            batch: Features of the triplets.
            rate: Learning rate of the network.

        Returns:
            The loss; None where the step was skipped, which leaves weights and statistics as they were.

        Raises:
            FloatingPointError: MOST_SKIPPED steps in a row were not finite.
        """
        if not len(batch.anchor):
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        before = [tensor.clone() for tensor in self._statistics]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch, training=True)
        value = loss.item()
        finite = bool(torch.isfinite(loss))
        if finite:
            loss.backward()
            norms = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
            finite = bool(torch.isfinite(norms)) and all(bool(torch.isfinite(t).all()) for t in self._statistics)
        if finite:
            self.optimizer.step()
            self.n_consecutive = 0
            return value
        with torch.no_grad():
            for tensor, old in zip(self._statistics, before, strict=True):
                tensor.copy_(old)
        self.n_consecutive += 1
        if self.n_consecutive > MOST_SKIPPED_IN_HALF:
            self.dtype = torch.float32
        if self.n_consecutive > MOST_SKIPPED:
            raise FloatingPointError
        return None


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
