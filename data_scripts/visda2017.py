"""Fetch and convert VisDA-2017 for `data.domains("visda2017")`: `python data_scripts/visda2017.py --root data`.

`train.tar` and `validation.tar`, with `train/CLASS/*.png`, 152,397 renderings, and `validation/CLASS/*.jpg`, 55,388
photographs, of 12 classes; in each folder may stand `image_list.txt`, lines of a path and a label, which then decides.
One of the classes is called train too. Images become 224 x 224. The 72,372 images for testing are not taken.
"""

from pathlib import Path

from mtlcourse.data import image_folders
from mtlcourse.data.image_folders import COLLECTIONS, write_images
from mtlcourse.data.layouts import find
from mtlcourse.data.sets import Download, Part, Published, command

DOMAINS = COLLECTIONS["visda2017"][1]
CLASSES = ["aeroplane", "bicycle", "bus", "car", "horse", "knife", "motorcycle", "person", "plant", "skateboard",
           "train", "truck"]
SERVER = "http://csr.bu.edu/ftp/visda17/clf"


def parts(folder: Path, side: int = image_folders.SIDE) -> dict[str, Part]:
    """Both domains."""
    places = {domain: find(folder, names[0]) for domain, names in DOMAINS.items()}
    return image_folders.parts(places, "visda2017", side)


def sample(folder: Path) -> None:
    """Six and four images of each class by lot; the photographs with their list."""
    write_images(folder / "train", CLASSES, 6, ".png", 0)
    write_images(folder / "validation", CLASSES, 4, ".jpg", 1)
    lines = [f"{name}/frame_{number:04}.jpg {label}\n" for label, name in enumerate(CLASSES) for number in range(1, 5)]
    (folder / "validation" / "image_list.txt").write_text("".join(lines))


VISDA2017 = Published(
    "visda2017", parts, sample, small={"side": 12},
    licence="no licence is stated with the files; the photographs are from COCO, and under its terms.",
    terms="Cite X. Peng et al., VisDA: The Visual Domain Adaptation Challenge, 2017.",
    downloads=[Download("train.tar", [f"{SERVER}/train.tar"], most=10**10),
               Download("validation.tar", [f"{SERVER}/validation.tar"], most=9 * 10**9)])
main = command(VISDA2017)

if __name__ == "__main__":
    main()
