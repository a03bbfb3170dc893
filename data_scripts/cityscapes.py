"""Fetch and convert CityScapes for `data.load("cityscapes")`: `python data_scripts/cityscapes.py --root data`.

The set as S. Liu et al. preprocessed it for *End-to-End Multi-Task Learning with Attention* (2019), whose page has
`cityscapes2.zip`: 2,975 and 500 scenes of 128 x 256, `{train,val}/{image,label,depth}/{i}.npy`; some copies call the
labels of seven classes `label_7`. `--source FOLDER` takes the folder of the archive, or the one that holds `train` and
`val`; that of 256 x 512 pixels has the same layout, and is taken too. What is called depth is a disparity, zero where
it is unknown.
"""

from pathlib import Path

from mtlcourse.data import benchmarks
from mtlcourse.data.layouts import NumberedArrays, write_numbered
from mtlcourse.data.sets import Download, Part, Published, command, inner


def parts(folder: Path) -> dict[str, Part]:
    """The published parts; disparities in full precision, as they are small and close together."""
    folder, tasks = inner(folder, "train"), benchmarks.cityscapes(with_data=False).tasks
    labels = "label_7" if (folder / "train" / "label_7").is_dir() else "label"
    return {part: Part(NumberedArrays(folder / part, {"segmentation": labels, "depth": "depth"}), tasks)
            for part in ("train", "val")}


def sample(folder: Path) -> None:
    """Eight and four scenes of 16 x 32 by lot."""
    write_numbered(folder, {"train": 8, "val": 4}, 7, (16, 32), {"label": "label", "depth": "depth"})


CITYSCAPES = Published(
    "cityscapes", parts, sample,
    licence="no licence is stated for the preprocessed files; the CityScapes terms hold: research, no commercial use, "
            "no passing on.",
    terms="Cite M. Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, 2016, and S. Liu et "
          "al., End-to-End Multi-Task Learning with Attention, 2019.",
    downloads=[Download("cityscapes2.zip", ["https://www.dropbox.com/s/lg2ktu7o8hzwf99/cityscapes2.zip?dl=1"],
                        most=8 * 10**9)])
main = command(CITYSCAPES)

if __name__ == "__main__":
    main()
