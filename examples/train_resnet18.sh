#!/bin/bash
# The script train_resnet18 of ANIMAL-SPOT's fork: the settings are those of the experiment. From any folder:
#   examples/train_resnet18.sh data.root=FOLDER -o runs/resnet18
set -euo pipefail
exec birdnet-fs train "$(dirname "${BASH_SOURCE[0]}")/../config.py:animal_spot_resnet18_500ms" "$@"
