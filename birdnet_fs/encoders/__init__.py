"""Foreign encoders: networks of other projects, as TFLite or ONNX files that the user owns, that embed waveforms.

`cards` describes the known encoders (input, embedding, license). `inspection` reads what a file contains and finds the
card that fits, `open` runs a file as its card says, and `tflite_graph` reads and cuts TFLite files. Nothing is
downloaded: every file is given by its path.
"""

from birdnet_fs.encoders.cards import CARDS, EncoderCard
from birdnet_fs.encoders.open import Encoder, open_encoder

__all__ = ["CARDS", "Encoder", "EncoderCard", "open_encoder"]
