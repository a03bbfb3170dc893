"""Convert ImageCLEF-DA for `data.load("imageclef")`: `python data_scripts/imageclef.py --source FOLDER --root data`.

FOLDER holds `{c,i,p,b}`, the images of Caltech-256, ImageNet, Pascal VOC 2012 and Bing, and `list/cList.txt` and its
like, lines of a path and a label: 12 classes of 50 images each. The label is behind the last blank of a line. Copies
without lists have a folder for each class in `c` and its like; these are taken too. Images become 224 x 224. The set is
also `data.domains("image_domains", collection="imageclef")`.
"""

from pathlib import Path

import numpy as np
from skimage.io import imsave

from mtlcourse.data import image_folders
from mtlcourse.data.image_folders import COLLECTIONS, folder_of
from mtlcourse.data.sets import Part, Published, command

CLASSES, DOMAINS = COLLECTIONS["imageclef"]


def parts(folder: Path, side: int = image_folders.SIDE) -> dict[str, Part]:
    """The four domains."""
    inside = [path for path in sorted(folder.iterdir()) if (path / "list").is_dir()]
    folder = inside[0] if inside and not (folder / "list").is_dir() else folder
    places = {domain: folder_of(folder, "imageclef", domain) for domain in DOMAINS}
    return image_folders.parts(places, "imageclef", side)


def sample(folder: Path) -> None:
    """Four images of each class and domain by lot, one of them with a blank in its name."""
    random = np.random.default_rng(0)
    (folder / "list").mkdir(parents=True, exist_ok=True)
    for letter, *_ in DOMAINS.values():
        (folder / letter).mkdir(exist_ok=True)
        lines = []
        for i, label in enumerate(random.permutation(np.arange(4 * CLASSES) % CLASSES)):
            name = f"{letter}/{i:03} a.jpg" if i == 5 else f"{letter}/{i:03}.jpg"
            pixels = random.integers(0, 256, (12, 12 + i % 3, 3), dtype=np.uint8)
            imsave(folder / name, pixels, check_contrast=False)
            lines.append(f"{name} {label}\n")
        (folder / "list" / f"{letter}List.txt").write_text("".join(lines))


IMAGECLEF = Published(
    "imageclef", parts, sample, small={"side": 12},
    licence="no licence is stated; the terms of Caltech-256, ImageNet (non-commercial research) and Pascal VOC hold.",
    terms="Cite B. Caputo et al., ImageCLEF 2014: Overview and Analysis of the Results, 2014.",
    account="ImageCLEF-DA's page, https://www.imageclef.org/2014/adaptation, asks for a registration; copies of the "
            "images are given out by authors of methods. Unpack one, and run this again with --source and the folder "
            "that holds c, i, p, b and list.")
main = command(IMAGECLEF)

if __name__ == "__main__":
    main()
