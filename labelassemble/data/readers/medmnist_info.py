"""What the 2-D sets of MedMNIST (Yang et al., Scientific Data 2023) call their labels, in the publisher's order.

A copy of `medmnist.INFO` (medmnist 3.0.2), since that package brings torchvision, scikit-image and scikit-learn.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

Task: TypeAlias = Literal["binary", "multi-class", "multi-label", "ordinal"]


class MedMnistInfo(NamedTuple):
    """The task of one set and the name of each of its labels."""

    task: Task
    labels: tuple[str, ...]


_ORGANS: Final = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)
MEDMNIST: Final[dict[str, MedMnistInfo]] = {
    "pathmnist": MedMnistInfo(
        "multi-class",
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
    ),
    "chestmnist": MedMnistInfo(
        "multi-label",
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
    ),
    "dermamnist": MedMnistInfo(
        "multi-class",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
    ),
    "octmnist": MedMnistInfo(
        "multi-class", ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")
    ),
    "pneumoniamnist": MedMnistInfo("binary", ("normal", "pneumonia")),
    "retinamnist": MedMnistInfo("ordinal", ("0", "1", "2", "3", "4")),
    "breastmnist": MedMnistInfo("binary", ("malignant", "normal, benign")),
    "bloodmnist": MedMnistInfo(
        "multi-class",
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
    ),
    "tissuemnist": MedMnistInfo(
        "multi-class",
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
    ),
    "organamnist": MedMnistInfo("multi-class", _ORGANS),
    "organcmnist": MedMnistInfo("multi-class", _ORGANS),
    "organsmnist": MedMnistInfo("multi-class", _ORGANS),
}
