"""A trained run in, a TFLite artefact with its proof of parity out.

    export     the whole way: convert, prove, write the files beside it, and only then put them in place
    worker     its own process on the TensorFlow backend: code + weights -> TFLite, builtins only
    flatbuffer TFLite files read, written, their outputs put in order
    half       weights stored in float16, the front-end left in float32
    runtime    its own process with the runtime alone: inputs -> outputs (a bad file may abort the process)
    probe      the segments both sides are asked about
    parity     the gate and its one table of budgets
    embeddings the gate of the second output, and what enrolment on a device needs
    sidecars   labels, constants, golden inputs, card

Another target is a row of `export.TARGETS` and its budgets in `parity.BUDGETS` and `embeddings.BUDGETS`.
"""
