"""Random changes of training segments, each drawn from (seed, epoch, position in the epoch).

`pipeline` applies them in order: `segment` (with `crop` and `stretch_pitch`), `waveform` (with `filters`), the
front-end or `animal_spot`, `features`. `item_random` holds an item's generator and the list of changes;
`teacher_features` computes the features that teachers with another front-end need; `pseudo_label_sampling` adds clips
whose labels come from a model.
"""
