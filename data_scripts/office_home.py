"""Convert Office-Home for `data.load("office_home")`: `python data_scripts/office_home.py --source FOLDER --root data`.

FOLDER holds `{Art,Clipart,Product,Real World}/CLASS/00001.jpg`, 2,427, 4,365, 4,439 and 4,357 images of 65 classes, or
the archive `OfficeHomeDataset_10072016.zip` of these. There is a blank in `Real World`; copies have `Real_World`, which
is taken too. Images become 224 x 224. The set is also `data.domains("image_domains", collection="office_home")`.
"""

from pathlib import Path

from mtlcourse.data import image_folders
from mtlcourse.data.image_folders import COLLECTIONS, folder_of, write_images
from mtlcourse.data.sets import Download, Part, Published, command, inner

CLASSES, DOMAINS = COLLECTIONS["office_home"]


def parts(folder: Path, side: int = image_folders.SIDE) -> dict[str, Part]:
    """The four domains."""
    folder = inner(folder, "Clipart")
    places = {domain: folder_of(folder, "office_home", domain) for domain in DOMAINS}
    return image_folders.parts(places, "office_home", side)


def sample(folder: Path) -> None:
    """Two images of each class and domain by lot."""
    names = [f"Class_{label:02}" for label in range(CLASSES)]
    for seed, names_of_domain in enumerate(DOMAINS.values()):
        write_images(folder / names_of_domain[0], names, 2, ".jpg", seed)


OFFICE_HOME = Published(
    "office_home", parts, sample, small={"side": 12},
    licence="for academic research, as its page's notice of fair use says; no commercial use.",
    terms="Cite H. Venkateswara et al., Deep Hashing Network for Unsupervised Domain Adaptation, 2017.",
    account="Office-Home is given out through a page that asks to be clicked: get OfficeHomeDataset_10072016.zip from "
            "https://www.hemanthdv.org/officeHomeDataset.html, and run this again with --source and its folder. Or "
            "give the URL of a mirror.",
    downloads=[Download("OfficeHomeDataset_10072016.zip", most=3 * 10**9)])
main = command(OFFICE_HOME)

if __name__ == "__main__":
    main()
