"""PadChest's labels and how they are kinds of each other.

The tree is the publisher's (Bustos et al., Medical Image Analysis 66, 2020: 174 findings, 19 differential diagnoses),
with two labels that the released table has besides. A report names a finding as finely as it can and leaves out the
general word, so the tree says what a list leaves unsaid.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "adenopathy": ("calcified adenopathy",),
    "alveolar pattern": ("consolidation", "air bronchogram"),
    "aortic elongation": (
        "descendent aortic elongation",
        "ascendent aortic elongation",
        "aortic button enlargement",
        "supra aortic elongation",
    ),
    "artificial heart valve": ("artificial mitral heart valve", "artificial aortic heart valve"),
    "atelectasis": (
        "total atelectasis",
        "lobar atelectasis",
        "segmental atelectasis",
        "laminar atelectasis",
        "round atelectasis",
        "atelectasis basal",
    ),
    "calcified adenopathy": ("calcified mediastinal adenopathy",),
    "calcified densities": (
        "calcified granuloma",
        "calcified adenopathy",
        "calcified pleural thickening",
        "calcified pleural plaques",
        "heart valve calcified",
        "calcified fibroadenoma",
    ),
    "catheter": ("central venous catheter",),
    "central venous catheter": (
        "central venous catheter via subclavian vein",
        "central venous catheter via jugular vein",
        "reservoir central venous catheter",
        "central venous catheter via umbilical vein",
    ),
    "electrical device": ("dual chamber device", "single chamber device", "pacemaker", "dai"),
    "endoprosthesis": ("aortic endoprosthesis",),
    "fissure thickening": ("minor fissure thickening", "major fissure thickening"),
    "fracture": ("clavicle fracture", "humeral fracture", "vertebral fracture", "rib fracture"),
    "granuloma": ("calcified granuloma",),
    "hilar enlargement": ("vascular hilar enlargement",),
    "hypoexpansion": ("hypoexpansion basal",),
    "infiltrates": ("interstitial pattern", "alveolar pattern"),
    "interstitial pattern": (
        "ground glass pattern",
        "reticular interstitial pattern",
        "reticulonodular interstitial pattern",
        "miliary opacities",
    ),
    "lipomatosis": ("mediastinic lipomatosis",),
    "mass": ("mediastinal mass", "breast mass", "pleural mass", "pulmonary mass", "soft tissue mass"),
    "mediastinal enlargement": ("superior mediastinal enlargement",),
    "metal": ("osteosynthesis material", "sternotomy", "suture material"),
    "nodule": ("multiple nodules",),
    "pleural effusion": (
        "loculated pleural effusion",
        "loculated fissural effusion",
        "hydropneumothorax",
        "empyema",
        "hemothorax",
    ),
    "pleural plaques": ("calcified pleural plaques",),
    "pleural thickening": ("apical pleural thickening", "calcified pleural thickening"),
    "pneumonia": ("atypical pneumonia",),
    "pneumothorax": ("hydropneumothorax",),
    "prosthesis": ("humeral prosthesis", "mammary prosthesis", "endoprosthesis"),
    "pseudonodule": ("nipple shadow", "end on vessel"),
    "pulmonary fibrosis": ("post radiotherapy changes", "asbestosis signs"),
    "pulmonary hypertension": ("pulmonary artery hypertension", "pulmonary venous hypertension"),
    "rib fracture": ("callus rib fracture",),
    "sclerotic bone lesion": ("blastic bone lesion",),
    "surgery": (
        "osteosynthesis material",
        "sternotomy",
        "suture material",
        "bone cement",
        "prosthesis",
        "surgery breast",
        "surgery neck",
        "surgery lung",
        "surgery heart",
        "surgery humeral",
    ),
    "surgery breast": ("mastectomy",),
    "thoracic cage deformation": (
        "scoliosis",
        "kyphosis",
        "pectum excavatum",
        "pectum carinatum",
        "cervical rib",
    ),
    "vascular hilar enlargement": ("pulmonary artery enlargement",),
    "vascular redistribution": ("central vascular redistribution",),
    "vertebral compression": ("vertebral anterior compression",),
}
"""The kinds of each general label: where one of them is, so is the general finding."""

PERHAPS: Final[dict[str, tuple[str, ...]]] = {
    "consolidation": ("air bronchogram",),
    "fissure thickening": ("loculated fissural effusion",),
    "hilar enlargement": ("adenopathy",),
    "mediastinal enlargement": (
        "descendent aortic elongation",
        "ascendent aortic elongation",
        "supra aortic elongation",
        "aortic aneurysm",
        "goiter",
        "mediastinal mass",
        "hiatal hernia",
    ),
    "superior mediastinal enlargement": ("goiter", "supra aortic elongation"),
    "surgery": ("metal",),
    "tuberculosis": ("tuberculosis sequelae",),
    "vertebral degenerative changes": ("vertebral compression",),
}
"""What the tree puts below a label without being a kind of it in every image, as it stands elsewhere in it too, or as
what is left of a tuberculosis is no tuberculosis: where one of them is, the label is not known to be absent."""

_ALONE: Final = (
    *("normal", "exclude", "suboptimal study", "unchanged", "obesity", "chronic changes", "abscess", "cyst"),
    *("cavitation", "fibrotic band", "volume loss", "bullas", "pneumoperitoneo", "pneumomediastinum"),
    *(
        "subcutaneous emphysema",
        "hyperinflated lung",
        "flattened diaphragm",
        "lung vascular paucity",
        "air trapping",
    ),
    *(
        "bronchiectasis",
        "bronchovascular markings",
        "air fluid level",
        "increased density",
        "mediastinal shift",
    ),
    *(
        "azygos lobe",
        "costophrenic angle blunting",
        "hilar congestion",
        "cardiomegaly",
        "pericardial effusion",
    ),
    *("kerley lines", "dextrocardia", "right sided aortic arch", "aortic atheromatosis", "tracheal shift"),
    *(
        "esophagic dilatation",
        "azygoesophageal recess shift",
        "lytic bone lesion",
        "axial hyperostosis",
        "osteopenia",
    ),
    *(
        "costochondral junction hypertrophy",
        "sternoclavicular junction hypertrophy",
        "osteoporosis",
        "gynecomastia",
    ),
    *(
        "non axial articular degenerative changes",
        "subacromial space narrowing",
        "Chilaiditi sign",
        "NSG tube",
    ),
    *("hemidiaphragm elevation", "diaphragmatic eventration", "tracheostomy tube", "endotracheal tube"),
    *(
        "chest drain tube",
        "ventriculoperitoneal drain tube",
        "gastrostomy tube",
        "nephrostomy tube",
        "double J stent",
    ),
    *(
        "abnormal foreign body",
        "external foreign body",
        "lung metastasis",
        "lymphangitis carcinomatosa",
        "emphysema",
    ),
    *(
        "lepidic adenocarcinoma",
        "COPD signs",
        "heart insufficiency",
        "respiratory distress",
        "pulmonary edema",
    ),
    *("bone metastasis",),
)


def _words(*trees: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {word for tree in trees for general, kinds in tree.items() for word in (general, *kinds)}


PADCHEST_LABELS: Final = frozenset({*_ALONE, *_words(KINDS, PERHAPS)})
"""All labels of the tree and of the released table."""


def general_labels(labels: Iterable[str], *, perhaps: bool = False) -> frozenset[str]:
    """Return what the tree says of an image that has `labels`: the general findings of which they are kinds.

    Args:
        labels: The labels.
        perhaps: Take in what one of them may be a kind of.
    """
    return frozenset().union(*(_above(label, perhaps) for label in labels))


def kinds_of(labels: Iterable[str]) -> frozenset[str]:
    """Return every kind of any of `labels`."""
    return frozenset().union(*(_below(label) for label in labels))


@cache
def _above(label: str, perhaps: bool) -> frozenset[str]:
    trees = (KINDS, PERHAPS) if perhaps else (KINDS,)
    direct = {general for tree in trees for general, kinds in tree.items() if label in kinds}
    return frozenset(direct).union(*(_above(general, perhaps) for general in direct))


@cache
def _below(label: str) -> frozenset[str]:
    direct = KINDS.get(label, ())
    return frozenset(direct).union(*(_below(kind) for kind in direct))
