"""A trained run in, files that other programs load out, each with its proof of parity.

    targets        the programs a file is written for: what each demands, what is refused (rows: target_rows)
    form           what one file is: format, input, precision, batch, answers
    export         the whole way: convert, prove, write the files beside it, and only then put them in place
    measure        convert, and hold every file against the run on every runtime, by both routes

    tflite_writer  its own process on the TensorFlow backend: builtins only (ends, same_padding, recurrent, int8, half)
    torch_writer   its own process on torch: ONNX (onnx_precision), TorchScript, pt2, OpenVINO
    second_route   TFLite through ONNX and onnx2tf, in another environment
    flatbuffer     TFLite files read, written, joined, checked

    environments   the Pythons that files are tried on, and which runtimes they have
    ask            stand-alone: inputs -> outputs with one runtime (a bad file may abort the process)
    probe          the segments both sides are asked about
    parity         the gate, and budgets, its one table (embeddings: of the second output)
    bench          speed and memory (time_it: stand-alone)

    sidecars       constants, golden inputs, and the labels (labels)
    card           the model card
    hosts          what single programs want beside (host_birdnet: stand-alone, the `birdnet` package as a host)

Another program is a row of `target_rows.TARGETS`; another precision has a row in `budgets.BUDGETS`.
"""
