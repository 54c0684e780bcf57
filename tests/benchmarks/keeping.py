"""Trainings that a benchmark keeps, so that one that was cut off goes on where it stopped."""

import platform
import time
from pathlib import Path

import numpy as np
import torch

from trainer import RunConfig, train
from trainer.snapshot import Snapshot


def trained(config: RunConfig, folder: Path) -> Snapshot:
    """The last snapshot of a training with these settings: the kept one, or trained now and kept in the folder."""
    file = folder / f"{config.key}.safetensors"
    if not file.is_file():
        began = time.process_time()
        *_, last = train(config)
        folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_bytes(last.to_bytes())
        part.replace(file)
        said = f"{config.head}, noise {config.noise} %, drop {config.drop_duplicates}, seed {config.seed}"
        print(f"{said}: {time.process_time() - began:.0f} CPU s", flush=True)
    return Snapshot.read(file)


def machine() -> str:
    """Processor and versions, for the head of a result."""
    names = [line.split(":")[1].strip() for line in cpuinfo() if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(names)} cores, one thread; torch {torch.__version__}, NumPy {np.__version__}"


def cpuinfo() -> list[str]:
    """What Linux tells of its processors, line by line; elsewhere nothing."""
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []
