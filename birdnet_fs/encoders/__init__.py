"""Foreign encoders: networks of other projects, as TFLite or ONNX files that the user owns, that embed waveforms.

`cards` describes the known encoders (input, embedding, license). `inspection` reads what a file contains and finds the
card that fits, `open` runs a file as its card specifies, `tflite_graph` reads and cuts TFLite files, `labels` reads the
names of an encoder's own scores, and `reference` is what a run stores of its encoders. Nothing is downloaded: every
file is given by its path.
"""
