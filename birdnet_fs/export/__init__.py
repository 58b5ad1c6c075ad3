"""Export a trained run to files that other programs load, each with a parity report.

    spec                   format, input, precision, batch and output of one file
    export                 the whole export: convert, verify, write the sidecars, publish
    convert_and_verify     convert, then compare each file with the run on every available runtime
    conversion             the process that converts, and its job
    encoder_part           the encoder of a run on one, which is joined in front of the head
    sidecars, model_card   the files written beside an artifact

    targets/   the programs a file is written for: their requirements (table, check), labels, companion files
    tflite/    the conversion process on Keras' TensorFlow backend, and the second route through onnx2tf
    onnx/      the conversion process on torch: ONNX, TorchScript, pt2, OpenVINO
    parity/    test segments, comparison, tolerances
    runtimes/  Python environments, processes that run or time one file (run_model, time_model, birdnet_host)

A program is added as a row of `targets.table.TARGETS`, a precision as a row of `parity.tolerances.TOLERANCES`.
"""
