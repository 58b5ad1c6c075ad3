"""Classes of a competition and of a model: which name decides, and what is not guessed."""

import pytest

from birdnet_fs.analysis.competition.class_names import find_taxonomy, match_classes, read_taxonomy
from birdnet_fs.core.errors import UserError

TAXONOMY = {
    "1139490": ("Ragoniella pulchella", "Ragoniella pulchella"),
    "amekes": ("Falco sparverius", "American Kestrel"),
    "strowl1": ("Tyto alba stertens", "Barn Owl"),
    "strowl2": ("Tyto alba", "Barn Owl"),
}


@pytest.mark.parametrize(
    ("classes", "columns", "n_by_name"),
    [
        (("amekes", "1139490"), {"1139490": 1, "amekes": 0}, 0),
        (("AMEKES",), {"amekes": 0}, 0),
        (("Falco sparverius", "Ragoniella pulchella"), {"1139490": 1, "amekes": 0}, 2),
        (("Falco_sparverius",), {"amekes": 0}, 1),
        (("Falco sparverius_Kestrel of America",), {"amekes": 0}, 1),
        (("american kestrel",), {"amekes": 0}, 1),
        (("amekes", "Falco sparverius"), {"amekes": 0}, 0),  # the label decides
        (("amekes", "Barn Owl"), {"amekes": 0}, 0),  # which of the two?
        (("amekes", "Tyto alba_Barn Owl"), {"amekes": 0, "strowl2": 1}, 1),
    ],
)
def test_classes_are_matched_by_label_scientific_and_common_name(classes, columns, n_by_name):
    found = match_classes(tuple(TAXONOMY), classes, TAXONOMY)
    assert dict(found.columns) == columns and found.n_by_name == n_by_name
    assert set(found.unknown) == set(TAXONOMY) - set(columns)
    assert set(found.unused) == {name for i, name in enumerate(classes) if i not in columns.values()}


def test_without_any_class_both_lists_are_shown():
    with pytest.raises(UserError) as refused:
        match_classes(tuple(TAXONOMY), ("wren", "robin"), TAXONOMY)
    assert "asks for 1139490, amekes, strowl1, ...; the model has wren, robin." in str(refused.value)


def test_taxonomy_is_read_from_the_first_table_that_names_labels(tmp_path):
    assert find_taxonomy(tmp_path) is None
    (tmp_path / "train.csv").write_text(
        "primary_label,secondary_labels,scientific_name,common_name,filename\n"
        "amekes,[],Falco sparverius,American Kestrel,a/1.ogg\namekes,[],Falco,Kestrel,a/2.ogg\n"
    )
    assert read_taxonomy(find_taxonomy(tmp_path)) == {"amekes": ("Falco sparverius", "American Kestrel")}
    (tmp_path / "eBird_Taxonomy_v2021.csv").write_text(
        "SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\namekes,American Kestrel,Falco sparverius\n"
    )
    assert read_taxonomy(find_taxonomy(tmp_path))["amekes"] == ("Falco sparverius", "American Kestrel")
    (tmp_path / "taxonomy.csv").write_text("primary_label,class_name\namekes,Aves\n")
    assert find_taxonomy(tmp_path).name == "eBird_Taxonomy_v2021.csv"
    with pytest.raises(UserError, match="must have the columns primary_label and scientific_name"):
        read_taxonomy(tmp_path / "taxonomy.csv")
