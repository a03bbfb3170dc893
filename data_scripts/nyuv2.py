"""Fetch and convert NYUv2 for `data.load("nyuv2")`: `python data_scripts/nyuv2.py --root data`.

The set as S. Liu et al. preprocessed it for *End-to-End Multi-Task Learning with Attention* (2019), whose page has
`nyuv2.zip`: 795 and 654 scenes of 288 x 384, `{train,val}/{image,label,depth,normal}/{i}.npy`. `--source FOLDER` takes
the folder of `nyuv2.zip`, or the one that holds `train` and `val`.
"""

from pathlib import Path

from mtlcourse.data import benchmarks
from mtlcourse.data.layouts import NumberedArrays, write_numbered
from mtlcourse.data.sets import Download, Part, Published, command, inner

FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}


def parts(folder: Path) -> dict[str, Part]:
    """The published parts; depth and normals in half precision."""
    folder, tasks = inner(folder, "train"), benchmarks.nyuv2(with_data=False).tasks
    return {part: Part(NumberedArrays(folder / part, FOLDERS), tasks, {"real": "float16"}) for part in ("train", "val")}


def sample(folder: Path) -> None:
    """Eight and four scenes of 24 x 32 by lot."""
    write_numbered(folder, {"train": 8, "val": 4}, 13, (24, 32), {name: name for name in FOLDERS.values()})


NYUV2 = Published(
    "nyuv2", parts, sample,
    licence="no licence is stated for the preprocessed files; the terms of NYU Depth V2 hold.",
    terms="Cite N. Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, 2012, and S. Liu et "
          "al., End-to-End Multi-Task Learning with Attention, 2019.",
    downloads=[Download("nyuv2.zip", ["https://www.dropbox.com/s/p2nn02wijg7peiy/nyuv2.zip?dl=1"], most=20 * 10**9)])
main = command(NYUV2)

if __name__ == "__main__":
    main()
