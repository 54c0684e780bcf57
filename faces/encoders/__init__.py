"""Encoders: networks that turn images into features. One file each; saving a file adds it to the menus.

ENCODERS["ResNet9"](channels=3, size=64, dim=128)     images (B, channels, size, size) -> features (B, dim)
"""

from pathlib import Path

from faces.catalogue import catalogue

ENCODERS = catalogue("faces.encoders", Path(__file__).parent)
