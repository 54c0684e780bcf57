"""All datasets by name: one file here each, and the sets that a person imported."""

import importlib
from pathlib import Path

from faces.datasets.base import Dataset, Images, Progress, Progressed, samples
from faces.datasets.own import own_sets

__all__ = ["DATASETS", "Dataset", "Images", "Progress", "Progressed", "available", "find", "samples"]


def _in_this_folder() -> dict[str, Dataset]:
    """An instance of every Dataset with a name of its own, from every file beside this one."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    modules = [importlib.import_module(f"{__name__}.{file.stem}") for file in files]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    named = {cls for cls in classes if issubclass(cls, Dataset) and "name" in vars(cls)}
    return {cls.name: cls() for cls in sorted(named, key=lambda cls: cls.__module__)}


DATASETS = _in_this_folder()


def available() -> dict[str, Dataset]:
    """The built-in datasets and the imported ones, by name."""
    return DATASETS | own_sets()


def find(name: str) -> Dataset:
    """The dataset of this name, built in or imported. Unknown name: ValueError."""
    known = available()
    if name not in known:
        raise ValueError(f"Unknown dataset {name!r}. There are: {', '.join(known)}.")
    return known[name]
