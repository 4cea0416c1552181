"""Export of trained networks into one file, usable without their run."""
