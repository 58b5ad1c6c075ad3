"""The ledger: counts, text and CSV."""

import csv

import pytest

from birdnet_fs.data.ledger import Ledger, LedgerRow


def test_rows_are_counted_and_written_with_escaped_names(tmp_path):
    ledger = Ledger()
    ledger.add(tmp_path / "a.wav", "ok", flags=("silent", "antiphase"), duration_s=1.5)
    ledger.add("b,\n.wav", "partial", "short", source="t.csv row 3")
    ledger.add("c.wav", "quarantined", 'says "no"')
    assert ledger.counts() == {"ok": 1, "partial": 1, "quarantined": 1}
    ledger.write(tmp_path / "l.csv")
    with open(tmp_path / "l.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(tmp_path / "a.wav"), "b,\\n.wav", "c.wav"]
    assert (
        rows[0]["flags"] == "silent;antiphase" and rows[0]["duration_s"] == "1.500" and rows[2]["reason"] == 'says "no"'
    )
    for status, reason in (("fine", ""), ("partial", "")):
        with pytest.raises(ValueError):
            ledger.add("d.wav", status, reason)


def test_quarantine_changes_every_row_of_a_file():
    ledger = Ledger()
    for path in ("a.wav", "b.wav", "a.wav"):
        ledger.add(path, "ok")
    ledger.quarantine("a.wav", "the file ends early")
    assert ledger.counts() == {"ok": 1, "partial": 0, "quarantined": 2}
    assert [row.reason for row in ledger.rows] == ["the file ends early", "", "the file ends early"]


def test_summary_lists_quarantined_before_partial_inputs():
    ledger = Ledger()
    ledger.add("a.wav", "ok")
    ledger.add("b.wav", "partial", "short", source="t.csv row 3")
    ledger.add("c.wav", "quarantined", "broken", source="c.wav")
    assert ledger.summary() == (
        "3 inputs: 1 ok, 1 partial, 1 quarantined\n  quarantined: c.wav: broken\n  partial: t.csv row 3: b.wav: short"
    )
    assert ledger.summary(1).endswith("... and 1 more")


def test_place_names_the_source_unless_it_is_the_file():
    assert LedgerRow("x/a.wav", "ok", source="a.wav").place == "x/a.wav"
    assert LedgerRow("x/a.wav", "ok", source="t.csv row 2").place == "t.csv row 2: x/a.wav"
