"""Fetch and convert SARCOS for `data.load("sarcos")`: `python data_scripts/sarcos.py --root data`.

`sarcos_inv.mat` and `sarcos_inv_test.mat`, 44,484 and 4,449 rows of 21 inputs and 7 torques, as the page of *Gaussian
Processes for Machine Learning* has them. Most rows of the test file stand in the training file too; they are counted.
"""

from pathlib import Path

import click
import numpy as np
import torch
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError

from mtlcourse.data.sarcos import INPUTS, JOINTS, TORQUES, leaked
from mtlcourse.data.sarcos import sarcos as problem
from mtlcourse.data.sets import Download, Part, Published, command
from mtlcourse.tasks import TensorSplit

FILES = {"train": "sarcos_inv", "test": "sarcos_inv_test"}
PAGES = ("https://gaussianprocess.org/gpml/data", "http://www.gaussianprocess.org/gpml/data")


def read(path: Path) -> np.ndarray:
    """The table of a file, in float64 of this machine's byte order. Raises ValueError for anything else."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. Give the folder of sarcos_inv.mat and sarcos_inv_test.mat.")
    try:
        table = loadmat(path, variable_names=[path.stem])[path.stem]
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, EOFError, MatReadError) as error:
        raise ValueError(f"{path} is cut off, or another file ({error!r}). Get it again.") from error
    if table.ndim != 2 or table.shape[1] != INPUTS + JOINTS or table.dtype.kind != "f" or not np.isfinite(table).all():
        raise ValueError(f"{path} has {table.dtype} of {table.shape}, not rows of {INPUTS + JOINTS} real numbers.")
    return table.astype(np.float64)  # the published ones are big-endian


def parts(folder: Path) -> dict[str, Part]:
    """Both files, rows in their order."""
    tables = {part: read(folder / f"{name}.mat") for part, name in FILES.items()}
    click.echo(f"{leaked(tables['train'], tables['test']):,} of {len(tables['test']):,} test rows stand in the "
               "training file. data.load(\"sarcos\") splits all rows by blocks, unless it is told otherwise.")
    tasks = problem(with_data=False).tasks
    return {part: Part(_split(table), tasks) for part, table in tables.items()}


def _split(table: np.ndarray) -> TensorSplit:
    values = torch.from_numpy(table.astype(np.float32))
    targets = {name: values[:, INPUTS + joint, None] for joint, name in enumerate(TORQUES)}
    return TensorSplit(values[:, :INPUTS], targets)


def sample(folder: Path) -> None:
    """Smooth movements by lot, 3,000 rows; of the 300 test rows 295 are every tenth of them."""
    random = np.random.default_rng(0)
    time = np.arange(3_000)[:, None] / random.uniform(20, 200, INPUTS)
    inputs = np.sin(time + random.uniform(0, 6, INPUTS))
    torques = inputs @ random.standard_normal((INPUTS, JOINTS)) * np.linspace(1, 20, JOINTS)
    train = np.concatenate([inputs, torques], 1)
    test = train[::10].copy()
    test[:5] += 0.5
    folder.mkdir(parents=True, exist_ok=True)
    for part, table in (("train", train), ("test", test)):
        savemat(folder / f"{FILES[part]}.mat", {FILES[part]: table})


SARCOS = Published(
    "sarcos", parts, sample,
    licence="no licence is stated.",
    terms="Cite S. Vijayakumar, S. Schaal, Locally Weighted Projection Regression, 2000, and C. E. Rasmussen, C. K. I. "
          "Williams, Gaussian Processes for Machine Learning, 2006.",
    downloads=[Download(f"{name}.mat", [f"{page}/{name}.mat" for page in PAGES]) for name in FILES.values()])
main = command(SARCOS)

if __name__ == "__main__":
    main()
