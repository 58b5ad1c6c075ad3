#!/bin/bash
# The script train_convnext_pretrained of ANIMAL-SPOT's fork: the settings are those of the experiment. From any folder:
#   examples/train_convnext_pretrained.sh data.root=FOLDER model.weights=FILE -o runs/convnext
set -euo pipefail
exec birdnet-fs train "$(dirname "${BASH_SOURCE[0]}")/../config.py:animal_spot_convnext_pretrained" "$@"
