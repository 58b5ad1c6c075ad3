"""Networks: one family per file, its sizes in one cited table; `build("family/variant", ...)` makes one.

Every network takes features [batch, n_frames, n_mels, n_channels] (input name "features") and gives float32 logits
[batch, n_classes] from a layer named "logits"; `with_outputs` reaches its pooled vector ("embedding") and more.
A family builds a backbone (`blocks.Backbone`: frames and embedding); a head (heads/) turns it into logits.
Layer names are the same in every build, because a run folder finds its weights by variable path.

Importing this package imports Keras and registers all layers of the package, so that `.keras` files of every family
load with `keras.saving.load_model` and with `load_keras`.
"""

from birdnet_fs.frontend import in_keras
from birdnet_fs.models import blocks, efficientnet, heads, spec_augment, vit
from birdnet_fs.models.network import build, family, load_keras, with_outputs
from birdnet_fs.models.quantization import fake_quant
from birdnet_fs.schema.networks import FAMILIES, check_model, embedding_width, family_row, names, resolve

# imported because they register layers with Keras
REGISTERED = (in_keras, blocks, efficientnet, heads, spec_augment, vit, fake_quant)

__all__ = [
    "FAMILIES",
    "build",
    "check_model",
    "embedding_width",
    "family",
    "family_row",
    "load_keras",
    "names",
    "resolve",
    "with_outputs",
]
