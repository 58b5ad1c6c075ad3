"""Networks: one family per file, its sizes in one cited table; `build("family/variant", ...)` makes one.

Every network takes features [batch, n_frames, n_mels, n_channels] (input name "features") and gives float32 logits
[batch, n_classes] from a layer named "logits"; `with_outputs` reaches its pooled vector ("embedding") and more.
A family makes a backbone (`heads.Backbone`: frames and embedding), a head of heads.py makes logits of it.
Layer names are the same in every build, because a run folder finds its weights by variable path.

Importing this package registers every layer of ours with Keras, so that `.keras` files of all families load.
"""

from birdnet_fs.frontend import in_keras
from birdnet_fs.models import blocks, efficientnet, heads, prototype_head, spec_augment, vit
from birdnet_fs.models.network import build, load_keras, with_outputs
from birdnet_fs.models.quantization import fake_quant
from birdnet_fs.models.registry import FAMILIES, check_model, embedding_width, family, family_row, names, resolve

# imported for the layers that they register with Keras
REGISTERED = (in_keras, blocks, efficientnet, heads, prototype_head, spec_augment, vit, fake_quant)

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
