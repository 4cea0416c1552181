"""3D object detection: boxes, motions, targets, losses and scores (VoteNet, Qi et al. 2019)."""
