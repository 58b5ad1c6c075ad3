"""The package's batches in `keras.Model.fit`, on the torch and the tensorflow backend.

`data` prepares an experiment for `fit`, `batches` is what `fit` iterates over on torch and `in_tf` on tensorflow,
`windows` are the validation clips.
"""
