"""Convert Office-31 for `data.load("office31")`: `python data_scripts/office31.py --source FOLDER --root data`.

FOLDER holds `{amazon,dslr,webcam}/images/CLASS/frame_0001.jpg`, 2,817, 498 and 795 images of 31 classes, with or
without `images`, or the archive `domain_adaptation_images.tar.gz` of these. Images become 224 x 224. The set is also
`data.domains("image_domains", collection="office31")`.
"""

from pathlib import Path

from mtlcourse.data import image_folders
from mtlcourse.data.image_folders import COLLECTIONS, folder_of, write_images
from mtlcourse.data.sets import Download, Part, Published, command, inner

CLASSES, DOMAINS = COLLECTIONS["office31"]


def parts(folder: Path, side: int = image_folders.SIDE) -> dict[str, Part]:
    """The three domains."""
    folder = inner(folder, "amazon")
    return image_folders.parts({domain: folder_of(folder, "office31", domain) for domain in DOMAINS}, "office31", side)


def sample(folder: Path) -> None:
    """Four, two and two images of each class by lot."""
    names = [f"class_{label:02}" for label in range(CLASSES)]
    for seed, (domain, images) in enumerate(zip(DOMAINS, (4, 2, 2), strict=True)):
        write_images(folder / domain / "images", names, images, ".jpg", seed)


OFFICE31 = Published(
    "office31", parts, sample, small={"side": 12},
    licence="no licence is stated.",
    terms="Cite K. Saenko et al., Adapting Visual Category Models to New Domains, 2010.",
    account="Office-31 is given out through a page that asks to be clicked: get domain_adaptation_images.tar.gz from "
            "https://faculty.cc.gatech.edu/~judy/domainadapt, no account is needed, and run this again with --source "
            "and its folder. Or give the URL of a mirror.",
    downloads=[Download("domain_adaptation_images.tar.gz", most=10**9)])
main = command(OFFICE31)

if __name__ == "__main__":
    main()
