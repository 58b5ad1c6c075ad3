"""The report of episodes; its numbers are held by tests/training/episodic and tests/metrics/test_few_shot.py."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.reports.few_shot import report_on_episodes
from birdnet_fs.runs.run import Run


def test_episodes_of_a_run_without_episodes_are_refused(run: Run) -> None:
    with pytest.raises(UserError, match="was not trained in episodes"):
        report_on_episodes(run)
